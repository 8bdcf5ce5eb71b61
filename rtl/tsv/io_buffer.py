# SPDX-License-Identifier: BSD-2-Clause
"""The I/O buffer beside the added TSVs: holds one bundle word between bank I/O and gearbox."""

from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.spec.config import Config


class IoBuffer(wiring.Component):
    """Captures a bundle word as stored and offers it until it is taken.

    It never refuses: words come at least two clocks apart (nCCDL), and the gearbox takes two
    clocks for each.

    Parameters
    ----------
    config : Config

    Members
    -------
    capture : In(1), ``rdata`` is valid in this clock
    rdata : In, a word with its check bits, if there are any
    o : Out, stream of words; valid from the clock after ``capture``
    """

    def __init__(self, config: Config):
        self.config = config
        bits = config.dram.bundle_banks * config.stored_bits
        super().__init__({"capture": In(1), "rdata": In(bits),
                          "o": Out(stream.Signature(unsigned(bits)))})

    def elaborate(self, platform):
        m = Module()
        with m.If(self.capture):
            m.d.sync += [self.o.payload.eq(self.rdata), self.o.valid.eq(1)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        return m
