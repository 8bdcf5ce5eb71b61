# SPDX-License-Identifier: BSD-2-Clause
"""One element of a softmax row a clock: its part of the sum, or its result."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.delay import Delay
from logicpim.rtl.pim.exponential import Exponential
from logicpim.rtl.pim.multiplier import Multiplier, multiply
from logicpim.rtl.pim.number import Number, Rounder, Unpacker
from logicpim.rtl.pim.pipeline import leading_zeros
from logicpim.spec.functions import (
    ARGUMENT_BITS,
    EXP_FRACTION,
    RECIPROCAL_FRACTION,
    SUM_FRACTION,
)
from logicpim.spec.isa import Format

FACTOR_BITS = 23
"""Of scale * log2(e)."""
_KEPT = 22
"""Bits of a difference that are multiplied by it."""


class Distance(wiring.Component):
    """``greatest - x`` as ``kept * 2 ** (exponent - 147)``, kept's top bit set but in zero.

    Members
    -------
    greatest, x : In, :class:`~logicpim.rtl.pim.number.Number`, the first not below the second
    kept, exponent : Out, ``latency`` clocks later

    One difference each clock: order, align, subtract, count, shift.
    """

    greatest: In(Number)
    x: In(Number)
    kept: Out(_KEPT)
    exponent: Out(signed(10))

    latency = 5

    def elaborate(self, platform):
        m = Module()
        later, g, x = Delay(m), self.greatest, self.x
        # Of equal signs the one of greater magnitude leads, else the one of greater exponent.
        same, x_leads = Signal(), Signal()
        behind = Signal(signed(9))
        m.d.comb += [same.eq(g.sign == x.sign), behind.eq(g.exponent - x.exponent),
                     x_leads.eq(Mux(same, x.sign, behind < 0))]
        gap = Mux(behind < 0, -behind, behind)[:8]
        lead = later.register("lead", Mux(x_leads, x.significand, g.significand))
        follow = later.register("follow", Mux(x_leads, g.significand, x.significand))
        exponent = later.register("exponent", Mux(x_leads, x.exponent, g.exponent))
        gap = later.register("gap", gap[:5] | gap[5:].any().replicate(5))
        same = later.register("same", same)

        aligned = later.register("aligned", (Cat(Const(0, 2), follow) >> gap)[:26])
        lead = Cat(Const(0, 2), later(lead, 1))
        difference = later.register("difference", Mux(later(same, 1), lead - aligned,
                                                      lead + aligned)[:27])
        zeros = later.register("zeros", leading_zeros(m, difference))
        kept = later.register("kept", (later(difference, 1) << zeros)[27 - _KEPT:27])
        left = later.register("left", later(exponent, 3) - zeros, signed(10))
        m.d.comb += [self.kept.eq(kept), self.exponent.eq(left)]
        return m


class SoftmaxLane(wiring.Component):
    """exp(scale * (x - greatest)), for the sum and divided by it: the bits of docs/functions.md.

    Members
    -------
    i : In, x, as for :class:`~logicpim.rtl.pim.number.Unpacker`
    outside : In, with i: x does not count
    greatest : In, a clock after i, the row's greatest element; NaN if all of the row shall be
    factor, factor_exponent : In, scale * log2(e) is ``factor * 2 ** (factor_exponent - 148)``
    input_format, output_format : In, constant like the factor while elements are in the lane
    part : Out, in units of 2**-40, :attr:`part_latency` clocks after i
    reciprocal, places : In, :attr:`reciprocal_after` clocks after i:
        1 / sum is ``reciprocal * 2 ** (-places - 22)``
    o : Out, FP16 or BF16, :attr:`latency` clocks after i

    One element each clock.
    """

    i: In(32)
    outside: In(1)
    greatest: In(Number)
    factor: In(FACTOR_BITS)
    factor_exponent: In(8)
    input_format: In(Format)
    output_format: In(Format)
    part: Out(SUM_FRACTION + 1)
    reciprocal: In(RECIPROCAL_FRACTION + 1)
    places: In(5)
    o: Out(16)

    _ARGUMENT = 1 + Distance.latency + Multiplier.latency + 1
    reciprocal_after = _ARGUMENT + Exponential.latency
    part_latency = reciprocal_after + 1
    latency = reciprocal_after + Multiplier.latency + Rounder.latency

    def elaborate(self, platform):
        m = Module()
        later = Delay(m)
        m.submodules.unpacker = unpacker = Unpacker()
        m.submodules.distance = distance = Distance()
        m.submodules.exponential = exponential = shared(Exponential(), "exponential")
        m.d.comb += [unpacker.i.eq(self.i), unpacker.format.eq(self.input_format),
                     distance.greatest.eq(self.greatest), exponential.t.eq(self._argument(
                         m, later, distance))]
        x = later.register("x", unpacker.o, Number)
        outside = later.register("outside_1", self.outside)
        m.d.comb += distance.x.eq(x)
        # -infinity counts, but adds nothing; +infinity and NaN spoil the row.
        spoilt = self.greatest.nan | self.greatest.infinite & ~self.greatest.sign
        zero = later.register("zero", outside | x.infinite)
        nan = later.register("nan", spoilt & ~outside)

        significand, n = exponential.significand, exponential.places
        part = Cat(Const(0, SUM_FRACTION - EXP_FRACTION), significand) >> n
        part = later.register("part", Mux(later(zero, self.reciprocal_after - 2), 0, part))
        m.d.comb += self.part.eq(part)

        product = multiply(m, "quotient", significand, self.reciprocal)
        exponent = later.register("quotient_exponent", -(n + self.places)
                                  - (EXP_FRACTION + RECIPROCAL_FRACTION), signed(12))
        m.submodules.rounder = rounder = Rounder(EXP_FRACTION + RECIPROCAL_FRACTION + 1, slack=1)
        rest = self.reciprocal_after + Multiplier.latency - 2
        m.d.comb += [
            rounder.value.eq(product), rounder.exponent.eq(later(exponent, 1)),
            rounder.zero.eq(later(zero, rest)), rounder.nan.eq(later(nan, rest)),
            rounder.format.eq(self.output_format), self.o.eq(rounder.o),
        ]
        return m

    def _argument(self, m, later, distance):
        """t of 2**-t, in units of 2**-20, saturated."""
        product = multiply(m, "product", distance.kept, self.factor)
        some = later.register("some", distance.kept[-1])
        down = later.register("down", 261 - distance.exponent - self.factor_exponent, signed(11))
        some, down = later(some, 1), later(down, 1)
        shifted = Signal(31)
        m.d.comb += shifted.eq(Mux(down[5:].any(), 0, product[14:] >> down[:5]))
        saturated = some & ((down < 0) | shifted[ARGUMENT_BITS:].any())
        return later.register("t", shifted[:ARGUMENT_BITS] | saturated.replicate(ARGUMENT_BITS))
