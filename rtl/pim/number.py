# SPDX-License-Identifier: BSD-2-Clause
"""Numbers of FP16, BF16 and FP32 on the way in, FP16 and BF16 on the way out."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.pim.delay import Delay
from logicpim.rtl.pim.pipeline import leading_zeros
from logicpim.spec.isa import Format

NAN = {Format.FP16: 0x7E00, Format.BF16: 0x7FC0}
INFINITY = {Format.FP16: 0x7C00, Format.BF16: 0x7F80}
_OUTPUTS = Format.BF16, Format.FP16


class Number(data.Struct):
    """``(-1)**sign * significand * 2**(exponent - 150)``, or infinite, or NaN.

    Subnormals are not normalised: their exponent is that of the least normal number.
    """

    significand: unsigned(24)
    exponent: unsigned(8)
    sign: unsigned(1)
    infinite: unsigned(1)
    nan: unsigned(1)


class Unpacker(wiring.Component):
    """Decodes a number. Combinational.

    Members
    -------
    i : In, 32 bits; a 16-bit number in the upper half, nothing set in the lower
    format : In, FP16, or BF16, or FP32
    o : Out, :class:`Number`
    """

    i: In(32)
    format: In(Format)
    o: Out(Number)

    def elaborate(self, platform):
        m = Module()
        # BF16 is the upper half of FP32.
        exponent, fraction = Signal(8), Signal(23)
        half, ones = Signal(), Signal()
        m.d.comb += [
            half.eq(self.format == Format.FP16),
            exponent.eq(Mux(half, self.i[26:31], self.i[23:31])),
            fraction.eq(Mux(half, self.i[3:26], self.i[:23])),
            ones.eq(exponent[:5].all() & (half | exponent[5:].all())),
            self.o.significand.eq(Cat(Mux(half, Cat(Const(0, 13), self.i[16:26]), self.i[:23]),
                                      exponent.any())),
            self.o.exponent.eq(Cat(exponent[0] | ~exponent.any(), exponent[1:])
                               + Mux(half, 127 - 15, 0)),
            self.o.sign.eq(self.i[31]),
            self.o.infinite.eq(ones & ~fraction.any()),
            self.o.nan.eq(ones & fraction.any()),
        ]
        return m


class Rounder(wiring.Component):
    """Rounds ``(-1)**sign * value * 2**exponent`` to FP16 or BF16.

    Promises one rounding, to nearest even; subnormals; overflow to infinity; the sign of what
    rounds to zero. Any NaN is 0x7e00 or 0x7fc0.

    Parameters
    ----------
    bits : int
        Of ``value``, whose leading one is among its upper ``slack`` + 1 bits unless it does not
        matter.
    slack : int

    Members
    -------
    sign, value, exponent : In
    zero, infinite, nan : In, what it is instead; the last of them that is set counts
    format : In, FP16 or BF16; constant while there are numbers in the pipeline
    o : Out, ``latency`` clocks later

    One number each clock.
    """

    latency = 4

    def __init__(self, bits: int, *, slack: int):
        self.bits = bits
        self.slack = slack
        super().__init__({
            "sign": In(1), "value": In(bits), "exponent": In(signed(12)), "zero": In(1),
            "infinite": In(1), "nan": In(1), "format": In(Format), "o": Out(16)})

    def elaborate(self, platform):
        m = Module()
        later = Delay(m)
        brain = self.format == Format.BF16
        special = later.register("special", Cat(self.sign, self.zero, self.infinite, self.nan))

        # To a leading one, a bit for each further one that FP16 has, half an ulp, and the rest.
        zeros = Signal(range(self.slack + 1))
        aligned = Signal(self.bits)
        m.d.comb += [zeros.eq(leading_zeros(m, self.value[-self.slack - 1:])),
                     aligned.eq((self.value << zeros)[:self.bits])]
        top = later.register("top", aligned[-12:])
        rest = later.register("rest", aligned[:-12].any())
        # From the least exponent of a normal number.
        above = later.register("above", self.exponent - zeros + (self.bits - 1)
                               + Mux(brain, 126, 14), signed(13))

        # Bits that a subnormal, and BF16, do not have.
        shift = later.register("shift", Mux(above < -12, 15, Mux(above < 0, -above, 0)[:4]
                                            + Mux(brain, 3, 0))[:4])
        biased = later.register("biased", Mux(above < 0, 0, above[:8] + 1)[:8])
        great = later.register("great", above > Mux(brain, 253, 29))
        top, rest = later(top, 1), later(rest, 1)
        kept = later.register("kept", (top >> shift)[:12])
        lost = later.register("lost", rest | (top & ~(Const(0xFFF, 12) << shift)[:12]).any())

        biased, great = later(biased, 1), later(great, 1)
        sign, zero, infinite, nan = later(special, 2)
        magnitude = Signal(15)
        m.d.comb += magnitude.eq(Mux(brain, Cat(kept[1:8], biased), Cat(kept[1:11], biased[:5]))
                                 + (kept[0] & (kept[1] | lost)))
        with m.If(infinite | great):
            m.d.comb += magnitude.eq(Mux(brain, *(INFINITY[f] for f in _OUTPUTS)))
        with m.If(zero):
            m.d.comb += magnitude.eq(0)
        with m.If(nan):
            m.d.comb += magnitude.eq(Mux(brain, *(NAN[f] for f in _OUTPUTS)))
        o = later.register("rounded", Cat(magnitude, sign & ~nan))
        m.d.comb += self.o.eq(o)
        return m
