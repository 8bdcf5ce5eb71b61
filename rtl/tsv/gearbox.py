# SPDX-License-Identifier: BSD-2-Clause
"""The gearbox: a bundle word crosses the TSVs as two beats."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.stream import transfer
from logicpim.spec.config import Config


class Gearbox(wiring.Component):
    """Turns each word into beat 0 and beat 1: the lower and the upper halves of its granules.

    Granule r of a word holds ``2 * depth`` consecutive elements of weight row r, so beat h holds
    ``depth`` elements of every row. Two clocks a word; a beat leaves in the clock in which the
    word stands at the input. A granule's check bits, if it has any, go with its halves: half of
    them above each.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In, stream of words as stored; ready in the clock of the second beat
    o : Out, stream of beats as stored
    """

    def __init__(self, config: Config):
        self.config = config
        bits = config.dram.bundle_banks * config.stored_bits
        super().__init__({"i": In(stream.Signature(unsigned(bits))),
                          "o": Out(stream.Signature(unsigned(bits // 2)))})

    def elaborate(self, platform):
        m = Module()
        second = Signal()
        half = self.config.stored_bits // 2
        halves = [self.i.payload.word_select(part, half)
                  for part in range(2 * self.config.dram.bundle_banks)]
        m.d.comb += [
            self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready & second),
            self.o.payload.eq(Mux(second, Cat(halves[1::2]), Cat(halves[0::2]))),
        ]
        m.d.sync += second.eq(second ^ transfer(self.o))
        return m
