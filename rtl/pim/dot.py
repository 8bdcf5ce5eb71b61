# SPDX-License-Identifier: BSD-2-Clause
"""The fused dot product of one beat: exact products, one alignment, one rounding to binary32."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from logicpim.rtl.pim.operand import FP16_EXPONENTS, SIGNIFICAND_BITS, operand_vector
from logicpim.rtl.pim.pipeline import Pipeline, normalise

GUARD_BITS = 6
"""Bits kept below the last bit of the product with the greatest exponent."""

PRODUCT_BITS = 2 * SIGNIFICAND_BITS
TERM_BITS = PRODUCT_BITS + GUARD_BITS
CANONICAL_NAN = 0x7FC00000

CUTS = ("scale", "product", "align", "sum", "magnitude", "normalise", "round")
"""Places of pipeline registers, each behind the step it is named after."""


class Dot(wiring.Component):
    """Fused dot product of ``depth`` operand pairs, binary32; the rule of docs/arithmetic.md.

    Products are exact; each is aligned to the greatest exponent, truncated ``GUARD_BITS`` below
    the last bit of the product that has it, and summed exactly; the sum is rounded once, to
    nearest even. Steps towards subnormals and overflow exist only where the range of exponents
    can reach them.

    Parameters
    ----------
    depth : int
        Operand pairs, a power of two.
    exponents : (int, int)
        Least and greatest exponent of finite non-zero operands.

    Members
    -------
    token, weight : In, :func:`~logicpim.rtl.pim.operand.operand_vector`
    o : Out, binary32; any NaN is 0x7fc00000

    One beat each clock. ``o`` is valid ``latency`` clocks after the exponents.
    """

    latency = len(CUTS)

    def __init__(self, *, depth: int, exponents: tuple[int, int] = FP16_EXPONENTS):
        self.depth = depth
        self.exponents = exponents
        vector = operand_vector(depth, exponents)
        super().__init__({"token": In(vector), "weight": In(vector), "o": Out(32)})

    def elaborate(self, platform):
        m = Module()
        pipe = Pipeline(m, CUTS)
        scale = self._scales(m)
        # The sums leave time for the first step of the maximum.
        scale, pair = pipe.cut("scale", scale=scale, pair=_merge(m, scale, "maximum", _greater))

        negative = self.token.sign ^ self.weight.sign
        product = [t * w for t, w in zip(self.token.significand, self.weight.significand,
                                         strict=True)]
        flags = self._specials(m, negative)
        product, negative, scale, top, flags = pipe.cut(
            "product", product=product, negative=negative, scale=scale,
            top=_tree(m, pair, "maximum", _greater), flags=flags)

        term, minus = self._align(m, product, negative, scale, top)
        term, minus, top, flags = pipe.cut("align", term=term, minus=minus, top=top, flags=flags)

        # A negative term is its complement plus 1 minus 2**TERM_BITS; ``minus`` counts them.
        width = TERM_BITS + (self.depth - 1).bit_length() + 1
        correction = Cat(minus, Const(0, TERM_BITS - len(minus)), -minus)[:width]
        total = (_tree(m, term, "sum", lambda a, b: a + b) + correction)[:width]
        total, top, flags = pipe.cut("sum", total=total, top=top, flags=flags)

        steps = [1 << i for i in reversed(range((width - 2).bit_length()))]
        magnitude = Signal(width - 1)
        m.d.comb += magnitude.eq(Mux(total[-1], -total, total))
        magnitude, coarse = normalise(m, magnitude, [s for s in steps if s >= 16], "coarse")
        magnitude, coarse, sign, top, flags = pipe.cut(
            "magnitude", magnitude=magnitude, coarse=coarse, sign=total[-1], top=top, flags=flags)
        magnitude, fine = normalise(m, magnitude, [s for s in steps if s < 16], "fine")
        magnitude, zeros, sign, top, flags = pipe.cut(
            "normalise", magnitude=magnitude, zeros=Cat(fine, coarse), sign=sign, top=top,
            flags=flags)
        result, = pipe.cut("round", o=self._round(m, magnitude, zeros, sign, top, flags))
        m.d.comb += self.o.eq(result)
        return m

    def _scales(self, m):
        """Exponents of the products; 0 where one operand is zero."""
        both = Signal(self.depth)
        m.d.comb += both.eq(self.token.nonzero & self.weight.nonzero)
        return [Mux(both[i], t + w, 0) for i, (t, w) in enumerate(
            zip(self.token.exponent, self.weight.exponent, strict=True))]

    def _specials(self, m, negative):
        """(infinite or NaN, NaN, sign of infinity) as bits."""
        token, weight = self.token, self.weight
        infinite = Signal(self.depth)
        minus, plus, nan = Signal(), Signal(), Signal()
        m.d.comb += [
            infinite.eq(token.infinite | weight.infinite),
            minus.eq((infinite & negative).any()), plus.eq((infinite & ~negative).any()),
            nan.eq(token.nan | weight.nan | (minus & plus)
                   | (token.infinite & weight.zero | token.zero & weight.infinite).any()),
        ]
        return Cat(minus | plus | nan, nan, minus)

    def _align(self, m, product, negative, scale, top):
        """Aligned terms, complemented where negative, and how many of those."""
        terms = []
        for i, (p, x) in enumerate(zip(product, scale, strict=True)):
            distance, aligned = Signal(len(x), name=f"distance_{i}"), Signal(TERM_BITS)
            bits = bits_for(TERM_BITS)
            near = Cat(Const(0, GUARD_BITS), p) >> distance[:bits]
            # The complement of what is shifted is what is shifted of the complement, rounded down.
            m.d.comb += [distance.eq(top - x),
                         aligned.eq(Mux(distance[bits:].any(), 0, near)
                                    ^ negative[i].replicate(TERM_BITS))]
            terms.append(aligned)
        return terms, sum(negative[i] for i in range(self.depth))[:bits_for(self.depth)]

    def _round(self, m, magnitude, zeros, sign, top, flags):
        width = len(magnitude)
        least, most = self.exponents
        # Of the leading one at the top: what 2**(x - 254 - 20 - GUARD_BITS) makes of it.
        offset = 2 * (least - 1) + 127 + width - 1 - 254 - 20 - GUARD_BITS
        lowest = 2 + offset - (width - 1)
        highest = 2 * (most - least + 1) + offset + 1
        exponent = Signal(range(min(lowest, -1), max(highest, 255) + 1))
        m.d.comb += exponent.eq(top + offset - zeros)
        kept = magnitude
        if lowest < 1:
            kept, exponent = self._subnormal(m, kept, exponent)
        fraction = kept[width - 24:width - 1]
        guard, sticky = kept[width - 25], kept[:width - 25].any()
        up = guard & (sticky | fraction[0])
        rounded = Signal(23 + len(exponent))
        m.d.comb += rounded.eq(Cat(fraction, exponent[:-1]) + up)
        body = rounded[:31]
        if highest > 254:
            body = Mux(rounded[23:] >= 255, 0x7F800000, body)
        result = Signal(32)
        m.d.comb += result.eq(Mux(magnitude[-1], Cat(body, sign), 0))
        with m.If(flags[0]):
            m.d.comb += result.eq(Mux(flags[1], CANONICAL_NAN, Cat(Const(0x7F800000, 31),
                                                                   flags[2])))
        return result

    def _subnormal(self, m, magnitude, exponent):
        """Shifted right until the exponent is 1, keeping track of lost bits; exponent then 0."""
        width = len(magnitude)
        small = exponent < 1
        shift = Signal(range(width + 1))
        wide, kept = Signal(2 * width), Signal(width)
        clamped = Signal(exponent.shape())
        m.d.comb += [
            shift.eq(Mux(small, Mux(exponent < 1 - width, width, 1 - exponent), 0)),
            wide.eq(Cat(Const(0, width), magnitude) >> shift),
            kept.eq(wide[width:] | wide[:width].any()),
            clamped.eq(Mux(small, 0, exponent)),
        ]
        return kept, clamped


def _greater(a, b):
    return Mux(a > b, a, b)


def _merge(m, values, name, merge):
    """Half as many values, merged in pairs."""
    pairs = []
    for a, b in zip(values[::2], values[1::2], strict=True):
        merged = merge(a, b)
        pair = Signal(len(merged), name=f"{name}_{len(values)}_{len(pairs)}")
        m.d.comb += pair.eq(merged)
        pairs.append(pair)
    return pairs


def _tree(m, values, name, merge):
    """One value from many (a power of two), merged in pairs."""
    while len(values) > 1:
        values = _merge(m, values, name, merge)
    return values[0]
