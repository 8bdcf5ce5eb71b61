# SPDX-License-Identifier: BSD-2-Clause
"""The gearbox: a bundle word crosses the TSVs as two beats."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import beat_stream
from logicpim.rtl.stream import transfer
from logicpim.spec.config import Config


class Gearbox(wiring.Component):
    """Turns each word into beat 0 and beat 1: the lower and the upper halves of its granules.

    Granule r of a word holds ``2 * depth`` consecutive elements of weight row r, so beat h holds
    ``depth`` elements of every row. Two clocks a word; a beat leaves in the clock in which the
    word stands at the input.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : In, stream of words; ready in the clock of the second beat
    o : Out, stream of beats
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({"i": In(stream.Signature(unsigned(config.word_bits))),
                          "o": Out(beat_stream(config))})

    def elaborate(self, platform):
        m = Module()
        second = Signal()
        half = self.config.granule_bits // 2
        halves = [self.i.payload.word_select(part, half)
                  for part in range(2 * self.config.dram.bundle_banks)]
        m.d.comb += [
            self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready & second),
            self.o.payload.eq(Mux(second, Cat(halves[1::2]), Cat(halves[0::2]))),
        ]
        m.d.sync += second.eq(second ^ transfer(self.o))
        return m
