# SPDX-License-Identifier: BSD-2-Clause
"""Operands: from FP16 to the internal form of sign, exponent and normalised significand."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from logicpim.rtl.pim.pipeline import normalise

FP16_EXPONENTS = (103, 142)
"""Least and greatest exponent of a finite non-zero FP16 number in the internal form."""

SIGNIFICAND_BITS = 11
SPECIAL = 255
"""Exponent of infinity (significand 0x400) and NaN (any other)."""


class Operand(data.Struct):
    """The internal form: ``(-1)**sign * significand * 2**(exponent - 137)``.

    Bit 10 of the significand is set but in zero, which is all zero but for the sign.
    """

    significand: unsigned(SIGNIFICAND_BITS)
    exponent: unsigned(8)
    sign: unsigned(1)


class HalfDecoder(wiring.Component):
    """Decodes an FP16 number; subnormals come out normalised. Combinational.

    Members
    -------
    half : In, FP16
    o : Out, :class:`Operand`
    """

    half: In(16)
    o: Out(Operand)

    def elaborate(self, platform):
        m = Module()
        fraction, exponent = self.half[:10], self.half[10:15]
        subnormal = Signal()
        m.d.comb += subnormal.eq(exponent == 0)
        significand, shift = normalise(m, Cat(fraction, ~subnormal), (8, 4, 2, 1))
        biased = Cat(exponent[0] | subnormal, exponent[1:]) + (127 - 15)
        m.d.comb += [
            self.o.sign.eq(self.half[15]),
            self.o.significand.eq(significand),
            self.o.exponent.eq(Mux(exponent == 31, SPECIAL,
                                   Mux(significand[-1], biased - shift, 0))),
        ]
        return m


def exponent_bits(exponents: tuple[int, int]) -> int:
    """Width of an exponent counted from just below the least one."""
    least, most = exponents
    return bits_for(most - least + 1)


def operand_vector(depth: int, exponents: tuple[int, int]) -> wiring.Signature:
    """``depth`` operands on their way to the processing units, their exponents first.

    ``exponent`` counts from just below the least exponent (so 1 is the least, and 0 zero) and
    means nothing for infinity and NaN. ``nonzero`` (a bit each) travels with the exponents; all
    the rest follows :data:`SKEW` clocks later. ``nan``: at least one of them is NaN.
    """
    return wiring.Signature({
        "exponent": Out(exponent_bits(exponents)).array(depth), "nonzero": Out(depth),
        "significand": Out(SIGNIFICAND_BITS).array(depth), "sign": Out(depth),
        "infinite": Out(depth), "zero": Out(depth), "nan": Out(1),
    })


SKEW = 1
"""Clocks from exponents to significands: a unit multiplies while it seeks the exponents' maximum,
so that delaying operands, which many units share, saves registers for products."""


class OperandBank(wiring.Component):
    """Decodes the operands that one row or column of the tile shares.

    Promises zero (+0) in place of elements whose mask bit is 0, whatever they hold.

    Parameters
    ----------
    depth : int
        Operands in a beat.
    exponents : (int, int)
        Least and greatest exponent of a finite operand, see :func:`operand_vector`.

    Members
    -------
    halves : In, ``depth`` FP16 numbers, the first lowest
    mask : In, a bit each
    o : Out, :func:`operand_vector`; exponents in the same clock, the rest :data:`SKEW` later
    """

    def __init__(self, *, depth: int, exponents: tuple[int, int] = FP16_EXPONENTS):
        self.depth = depth
        self.exponents = exponents
        super().__init__({"halves": In(16 * depth), "mask": In(depth),
                          "o": Out(operand_vector(depth, exponents))})

    def elaborate(self, platform):
        m = Module()
        infinite, nan = Signal(self.depth), Signal(self.depth)
        sign = Signal(self.depth)
        for i in range(self.depth):
            m.submodules[f"decoder_{i}"] = decoder = HalfDecoder()
            operand = decoder.o
            special, round_ = operand.exponent == SPECIAL, operand.significand[:-1] == 0
            m.d.comb += [
                decoder.half.eq(Mux(self.mask[i], self.halves.word_select(i, 16), 0)),
                self.o.nonzero[i].eq(operand.significand[-1]),
                self.o.exponent[i].eq(Mux(operand.significand[-1],
                                          operand.exponent - (self.exponents[0] - 1), 0)),
                infinite[i].eq(special & round_), nan[i].eq(special & ~round_),
                sign[i].eq(operand.sign),
            ]
            late = Signal(SIGNIFICAND_BITS, name=f"significand_{i}", reset_less=True)
            m.d.sync += late.eq(operand.significand)
            m.d.comb += self.o.significand[i].eq(late)
        late = Signal(3 * self.depth + 1, reset_less=True)
        m.d.sync += late.eq(Cat(sign, infinite, ~self.o.nonzero, nan.any()))
        m.d.comb += Cat(self.o.sign, self.o.infinite, self.o.zero, self.o.nan).eq(late)
        return m
