# SPDX-License-Identifier: BSD-2-Clause
"""The path switch: bank I/O goes to the Logic-PIM path or to the xPU path."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import DataBus, DataStrobes
from logicpim.spec.config import Config


class PathSwitch(wiring.Component):
    """Passes data in the clock of its strobe; each path rests at 0 while it has no transfer.

    Parameters
    ----------
    config : Config

    Members
    -------
    strobes : In(DataStrobes); ``word_taken`` and ``word_ready`` are not its business
    bus : Out(DataBus)
    bundle_rdata : Out(word_bits), the word read
    bundle_wdata : In(word_bits), the word to write
    host_rdata : Out(granule_bits), the granule read
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "strobes": In(DataStrobes(config)), "bus": Out(DataBus(config)),
            "bundle_rdata": Out(config.word_bits), "bundle_wdata": In(config.word_bits),
            "host_rdata": Out(config.granule_bits),
        })

    def elaborate(self, platform):
        m = Module()
        s, bus = self.strobes, self.bus
        m.d.comb += [
            self.bundle_rdata.eq(Mux(s.bundle_read, bus.bundle_rdata, 0)),
            self.host_rdata.eq(Mux(s.host_read, bus.host_rdata, 0)),
            bus.bundle_wdata.eq(Mux(s.bundle_write, self.bundle_wdata, 0)),
            bus.host_wdata.eq(Mux(s.host_write, s.host_wdata, 0)),
            bus.host_wmask.eq(Mux(s.host_write, s.host_wmask, 0)),
        ]
        return m
