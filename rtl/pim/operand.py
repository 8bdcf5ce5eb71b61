# SPDX-License-Identifier: BSD-2-Clause
"""Operands: from every format to the internal form of sign, exponent and significand."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from logicpim.rtl.pim.delay import Delay
from logicpim.rtl.pim.pipeline import leading_zeros, normalise
from logicpim.spec.config import Config
from logicpim.spec.isa import BYTE_FORMATS, Format

FP16_EXPONENTS = (103, 142)
"""Least and greatest exponent of a finite non-zero FP16 number in the internal form."""

BF16_EXPONENTS = (1, 254)
"""Those of BF16, whose subnormals keep exponent 1."""

SIGNIFICAND_BITS = 11
SPECIAL = 255
"""Exponent of infinity (significand 0x400) and NaN (any other)."""


class Operand(data.Struct):
    """The internal form: ``(-1)**sign * significand * 2**(exponent - 137)``.

    Bit 10 of the significand is set but in zero, which is all zero but for the sign, and in
    subnormals of BF16.
    """

    significand: unsigned(SIGNIFICAND_BITS)
    exponent: unsigned(8)
    sign: unsigned(1)


class HalfDecoder(wiring.Component):
    """Decodes an FP16 number; subnormals come out normalised. Combinational.

    Parameters
    ----------
    base : int
        What ``exponent`` counts from.

    Members
    -------
    half : In, FP16
    o : Out, :class:`Operand`
    exponent : Out, that of ``o``, less ``base``, of a finite number that is not zero
    special, nonzero : Out, it is infinite or NaN; it is not zero
    """

    def __init__(self, base: int = 0):
        self.base = base
        super().__init__({"half": In(16), "o": Out(Operand), "exponent": Out(8),
                          "special": Out(1), "nonzero": Out(1)})

    def elaborate(self, platform):
        m = Module()
        fraction, exponent = self.half[:10], self.half[10:15]
        subnormal, shift = Signal(), Signal(4)
        value = Cat(fraction, ~subnormal)
        bias = 127 - 15 - self.base
        # Only subnormals are shifted.
        finite = Mux(subnormal, bias + 1 - shift, exponent + bias)
        m.d.comb += [
            subnormal.eq(exponent == 0),
            shift.eq(leading_zeros(m, value)),
            self.exponent.eq(finite),
            self.special.eq(exponent.all()), self.nonzero.eq(~subnormal | fraction.any()),
            self.o.sign.eq(self.half[15]),
            self.o.significand.eq(value << shift),
            self.o.exponent.eq(Mux(self.special, SPECIAL,
                                   Mux(self.nonzero, finite + self.base, 0))),
        ]
        return m


class BrainDecoder(wiring.Component):
    """Decodes a BF16 number; a subnormal keeps exponent 1. Combinational.

    Members
    -------
    brain : In, BF16
    o : Out, :class:`Operand`
    """

    brain: In(16)
    o: Out(Operand)

    def elaborate(self, platform):
        m = Module()
        fraction, exponent = self.brain[:7], self.brain[7:15]
        normal = exponent.any()
        m.d.comb += [
            self.o.sign.eq(self.brain[15]),
            self.o.significand.eq(Cat(Const(0, 3), fraction, normal)),
            self.o.exponent.eq(Cat(exponent[0] | (~normal & fraction.any()), exponent[1:])),
        ]
        return m


class ByteWidener(wiring.Component):
    """The FP16 number that equals one of 8 bits. Combinational.

    Parameters
    ----------
    formats : tuple of Format
        Those of 8 bits that may come.

    Members
    -------
    byte : In
    format : In
    o : Out, FP16; any NaN is a NaN
    """

    def __init__(self, formats: tuple[Format, ...]):
        self.formats = formats
        super().__init__({"byte": In(8), "format": In(Format), "o": Out(16)})

    def elaborate(self, platform):
        m = Module()
        make = {Format.FP8_E4M3: self._e4m3, Format.FP8_E5M2: lambda m: self.byte << 8,
                Format.INT8: self._int8}
        for fmt in BYTE_FORMATS:
            if fmt in self.formats:
                value = make[fmt](m)
                with m.If(self.format == fmt):
                    m.d.comb += self.o.eq(value)
        return m

    def _e4m3(self, m):
        fraction, exponent, sign = self.byte[:3], self.byte[3:7], self.byte[7]
        significand, shift = normalise(m, fraction, (2, 1), "e4m3")
        half = Signal(15, name="e4m3")
        m.d.comb += half.eq(Cat(Const(0, 7), fraction, exponent + 8))
        with m.If(exponent == 0):
            m.d.comb += half.eq(Mux(fraction.any(), Cat(Const(0, 8), significand[:2],
                                                        (8 - shift)[:5]), 0))
        with m.If(self.byte[:7].all()):
            m.d.comb += half.eq(0x7E00)
        return Cat(half, sign)

    def _int8(self, m):
        sign, magnitude = self.byte[7], Signal(8, name="magnitude")
        m.d.comb += magnitude.eq(Mux(sign, -self.byte, self.byte))
        significand, shift = normalise(m, magnitude, (4, 2, 1), "int8")
        half = Cat(Const(0, 3), significand[:7], (22 - shift)[:5])
        return Mux(significand[-1], Cat(half, sign), 0)


def exponents_of(config: Config) -> tuple[int, int]:
    """Least and greatest exponent of a finite operand of any format in a configuration."""
    return BF16_EXPONENTS if Format.BF16 in config.weight_formats else FP16_EXPONENTS


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
        Least and greatest exponent of a finite operand, see :func:`operand_vector`. With those
        of BF16, operands may be BF16.

    Members
    -------
    halves : In, ``depth`` FP16 or BF16 numbers, the first lowest
    mask : In, a bit each
    brain : In, they are BF16
    o : Out, :func:`operand_vector`; exponents ``latency`` clocks later, the rest :data:`SKEW`
        after them
    """

    latency = 1

    def __init__(self, *, depth: int, exponents: tuple[int, int] = FP16_EXPONENTS):
        self.depth = depth
        self.exponents = exponents
        super().__init__({"halves": In(16 * depth), "mask": In(depth), "brain": In(1),
                          "o": Out(operand_vector(depth, exponents))})

    def elaborate(self, platform):
        m = Module()
        later = Delay(m)
        flags = {name: Signal(self.depth, name=name) for name in ("sign", "infinite", "nan")}
        for i in range(self.depth):
            here = self.mask[i]
            operand, exponent, special, nonzero = self._decode(m, i, self.halves.word_select(i, 16))
            whole = operand.significand[:-1] == 0
            significand = later.name(f"significand_{i}", Mux(here, operand.significand, 0))
            m.d.comb += [
                self.o.exponent[i].eq(later.register(f"exponent_{i}",
                                                     Mux(here & nonzero, exponent, 0),
                                                     len(self.o.exponent[i]))),
                self.o.nonzero[i].eq(later.register(f"nonzero_{i}", here & nonzero)),
                flags["infinite"][i].eq(here & special & whole),
                flags["nan"][i].eq(here & special & ~whole),
                flags["sign"][i].eq(here & operand.sign),
                self.o.significand[i].eq(later(significand, 1 + SKEW)),
            ]
        nan = later.register("any_nan", later(flags["nan"], 1).any())
        zero = later.register("zero", ~self.o.nonzero)
        m.d.comb += [
            self.o.sign.eq(later(flags["sign"], 1 + SKEW)),
            self.o.infinite.eq(later(flags["infinite"], 1 + SKEW)),
            self.o.zero.eq(zero), self.o.nan.eq(nan),
        ]
        return m

    def _decode(self, m, i, half):
        """(operand, exponent for the vector, whether it is infinite or NaN, whether not zero)."""
        m.submodules[f"decoder_{i}"] = decoder = HalfDecoder(self.exponents[0] - 1)
        m.d.comb += decoder.half.eq(half)
        plain = decoder.o, decoder.exponent, decoder.special, decoder.nonzero
        if self.exponents != BF16_EXPONENTS:
            return plain
        m.submodules[f"brain_decoder_{i}"] = brain = BrainDecoder()
        operand = Signal(Operand, name=f"operand_{i}")
        m.d.comb += [brain.brain.eq(half),
                     operand.eq(Mux(self.brain, brain.o, decoder.o))]
        special, nonzero = half[7:15].all(), half[:15].any()
        return (operand, Mux(self.brain, brain.o.exponent, decoder.exponent),
                Mux(self.brain, special, decoder.special),
                Mux(self.brain, nonzero, decoder.nonzero))
