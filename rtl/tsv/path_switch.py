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
    bundle_rcheck, bundle_wcheck, host_rcheck, host_wcheck : with ``config.ecc``, their check bits
    """

    def __init__(self, config: Config):
        self.config = config
        members = {
            "strobes": In(DataStrobes(config)), "bus": Out(DataBus(config)),
            "bundle_rdata": Out(config.word_bits), "bundle_wdata": In(config.word_bits),
            "host_rdata": Out(config.granule_bits),
        }
        if config.ecc:
            members |= {
                "bundle_rcheck": Out(config.word_check_bits),
                "bundle_wcheck": In(config.word_check_bits),
                "host_rcheck": Out(config.check_bits), "host_wcheck": In(config.check_bits),
            }
        super().__init__(members)

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
        if self.config.ecc:
            m.d.comb += [
                self.bundle_rcheck.eq(Mux(s.bundle_read, bus.bundle_rcheck, 0)),
                self.host_rcheck.eq(Mux(s.host_read, bus.host_rcheck, 0)),
                bus.bundle_wcheck.eq(Mux(s.bundle_write, self.bundle_wcheck, 0)),
                bus.host_wcheck.eq(Mux(s.host_write, self.host_wcheck, 0)),
            ]
        return m
