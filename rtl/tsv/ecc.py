# SPDX-License-Identifier: BSD-2-Clause
"""Encoder and decoder of the code over stored words; the rule is in docs/integrity.md."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.generate.share import shared
from logicpim.spec.ecc import CHECK_BITS, COLUMNS, PART_BITS, ROWS


def check_bits(data: Value) -> Value:
    """The check bits of some parts of data: eight parity trees for each, nothing else."""
    parts = [data.word_select(part, PART_BITS) for part in range(len(data) // PART_BITS)]
    return Cat((part & row).xor() for part in parts for row in ROWS)


class PartDecoder(wiring.Component):
    """Corrects one part of 64 bits; takes one each clock and gives it in the next.

    Syndromes are made before the register, the wrong bit is found and inverted behind it.

    Members
    -------
    data, check : In, as stored
    o : Out(64), corrected
    corrected, uncorrected : Out(1), it had one wrong bit; it has more and is as it came
    """

    def __init__(self):
        super().__init__({"data": In(PART_BITS), "check": In(CHECK_BITS), "o": Out(PART_BITS),
                          "corrected": Out(1), "uncorrected": Out(1)})

    def elaborate(self, platform):
        m = Module()
        data, syndrome = Signal(PART_BITS), Signal(CHECK_BITS)
        flip, single = Signal(PART_BITS), Signal()
        m.d.sync += [data.eq(self.data), syndrome.eq(check_bits(self.data) ^ self.check)]
        m.d.comb += [
            flip.eq(Cat(syndrome == column for column in COLUMNS)),
            single.eq(flip.any() | Cat(syndrome == 1 << row for row in range(CHECK_BITS)).any()),
            self.o.eq(data ^ flip), self.corrected.eq(single),
            self.uncorrected.eq(syndrome.any() & ~single),
        ]
        return m


class Corrector(wiring.Component):
    """Corrects some parts side by side, each clock.

    Parameters
    ----------
    parts : int

    Members
    -------
    valid, data, check : In, as stored; byte p of ``check`` belongs to part p of ``data``
    o_valid, o : Out, corrected, a clock later
    bad : Out(1), valid with ``o_valid``: a part of it is not correct
    corrected, uncorrected : Out, number of such parts, a clock after ``o_valid``; else 0
    """

    def __init__(self, parts: int):
        self.parts = parts
        super().__init__({
            "valid": In(1), "data": In(PART_BITS * parts), "check": In(CHECK_BITS * parts),
            "o_valid": Out(1), "o": Out(PART_BITS * parts), "bad": Out(1),
            "corrected": Out(range(parts + 1)), "uncorrected": Out(range(parts + 1))})

    def elaborate(self, platform):
        m = Module()
        units = []
        for index in range(self.parts):
            m.submodules[f"part{index}"] = unit = shared(PartDecoder(), "ecc_decoder")
            m.d.comb += [unit.data.eq(self.data.word_select(index, PART_BITS)),
                         unit.check.eq(self.check.word_select(index, CHECK_BITS)),
                         self.o.word_select(index, PART_BITS).eq(unit.o)]
            units.append(unit)
        m.d.sync += [
            self.o_valid.eq(self.valid),
            self.corrected.eq(sum(unit.corrected & self.o_valid for unit in units)),
            self.uncorrected.eq(sum(unit.uncorrected & self.o_valid for unit in units)),
        ]
        m.d.comb += self.bad.eq(Cat(unit.uncorrected for unit in units).any())
        return m
