# SPDX-License-Identifier: BSD-2-Clause
"""Binary32: addition, product, and conversion to FP16 and BF16, all to nearest even."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.pim.multiplier import Multiplier, multiply
from logicpim.rtl.pim.pipeline import Pipeline, leading_zeros

CANONICAL_NAN = 0x7FC00000
ONE = 0x3F800000
CANONICAL_NAN_FP16 = 0x7E00
CANONICAL_NAN_BF16 = 0x7FC0


class Adder(wiring.Component):
    """IEEE-754 binary32 addition: to nearest even, with subnormals; any NaN is 0x7fc00000.

    Members
    -------
    a, b : In, binary32
    o : Out, binary32

    One sum each clock. ``o`` is valid ``latency`` clocks after its operands, and is not a
    register: a third clock's worth of logic is between.

    Only a difference of neighbours can lose more than two leading bits, and then nothing is
    rounded. So how far to shift is found beside the adder, from a subtraction without alignment,
    and that shift lies beside the rounding instead of before it.
    """

    a: In(32)
    b: In(32)
    o: Out(32)

    latency = 2

    def elaborate(self, platform):
        m = Module()
        pipe = Pipeline(m, ("order", "add"))
        values = self._order(m)
        big, small, shift, exponent, sign, subtract, special, nan = pipe.cut("order", **values)

        # Two bits below the last, and one that says whether anything was lost below these: by a
        # mask beside the shift, as the carry chain waits for both.
        whole, aligned, lost, total = Signal(27), Signal(27), Signal(), Signal(28)
        m.d.comb += [
            whole.eq(Cat(Const(0, 3), small)),
            aligned.eq(whole >> shift),
            lost.eq((whole & ~(Const((1 << 27) - 1, 27) << shift)[:27]).any()),
            total.eq(Cat(Const(0, 3), big) + (Cat(aligned[0] | lost, aligned[1:], Const(0, 1))
                                              ^ subtract.replicate(28)) + subtract),
        ]
        total, zeros, least, above, sign, subtract, special, nan = pipe.cut(
            "add", total=total, zeros=self._zeros(m, big, small, shift, exponent, subtract),
            least=exponent == 1, above=(exponent + 1)[:8], sign=sign,
            subtract=subtract, special=special, nan=nan)
        m.d.comb += self.o.eq(self._round(m, total, zeros, least, above, sign, subtract,
                                          special, nan))
        return m

    def _order(self, m):
        """The greater operand, the smaller one, and how far apart they are."""
        a, b, swap = self.a, self.b, Signal()
        m.d.comb += swap.eq(a[:31] < b[:31])
        # A subnormal has no leading one, and exponent 1: so their difference is the shift.
        normal = [x[23:31].any() for x in (a, b)]
        left, right = (Cat(x[:23], n) for x, n in zip((a, b), normal, strict=True))
        lefts, rights = (Cat(x[23] | ~n, x[24:31]) for x, n in zip((a, b), normal, strict=True))
        ones = [x[23:31].all() for x in (a, b)]
        # The exponents alone say which is greater of two that differ, sooner than ``swap`` does.
        above, distance = Signal(9), Signal(8)
        m.d.comb += [above.eq(lefts - rights),
                     distance.eq(Mux(above[8], rights - lefts, above))]
        subtract = a[31] ^ b[31]
        return {
            "big": Mux(swap, right, left), "small": Mux(swap, left, right),
            "shift": distance[:5] | distance[5:].any().replicate(5),
            "exponent": Mux(swap, rights, lefts), "sign": Mux(swap, b[31], a[31]),
            "subtract": subtract, "special": ones[0] | ones[1],
            "nan": (ones[0] & a[:23].any()) | (ones[1] & b[:23].any())
                   | (ones[0] & ones[1] & subtract)}

    def _zeros(self, m, big, small, shift, exponent, subtract):
        """How far to shift a difference of neighbours, at most ``exponent``; 0 otherwise."""
        near, difference, stop = Signal(), Signal(25), Signal(26)
        m.d.comb += [
            near.eq(subtract & (shift[1:] == 0)),
            difference.eq(Cat(Const(0, 1), big) - Mux(shift[0], small, Cat(Const(0, 1), small))),
            stop.eq(difference | (Const(1 << 25, 26) >> exponent) | Cat(Const(0, 25), ~near)),
        ]
        return leading_zeros(m, stop)

    def _round(self, m, total, zeros, least, above, sign, subtract, special, nan):
        # With its leading one at bit 27 the sum has the exponent above: shifted by less than that.
        none, one, exact = Signal(), Signal(), Signal()
        kept, shifted = Signal(28), Signal(28)
        m.d.comb += [
            none.eq(total[27]), one.eq(total[26] | least),
            exact.eq(zeros > 2),
            kept.eq(Mux(none, total, Mux(one, total << 1, total << 2))),
            shifted.eq(total << zeros),
        ]
        biased, left, rounded, result = Signal(8), Signal(8), Signal(31), Signal(31)
        up = kept[3] & (kept[4] | kept[:3].any())
        m.d.comb += [
            biased.eq(above - Mux(none, 0, Mux(one, 1, 2))),
            left.eq(above - zeros),
            rounded.eq(Cat(kept[4:27], biased & kept[27].replicate(8)) + up),
            result.eq(Mux(exact, Cat(shifted[4:27], left & shifted[27].replicate(8)), rounded)),
        ]
        # Rounding up from the greatest number makes an infinity by itself.
        with m.If(special | above.all() & total[27]):
            m.d.comb += result.eq(Mux(nan, CANONICAL_NAN, 0x7F800000))
        # What cancels is +0.
        return Cat(result, sign & (~subtract | total.any()) & ~nan)


class Scaler(wiring.Component):
    """IEEE-754 binary32 product: to nearest even, with subnormals; any NaN is 0x7fc00000.

    Members
    -------
    a, b : In, binary32
    o : Out, binary32, ``latency`` clocks later, a register

    One product each clock.
    """

    a: In(32)
    b: In(32)
    o: Out(32)

    latency = Multiplier.latency + 4

    def elaborate(self, platform):
        m = Module()
        normal, zero, infinite, nan = ([], [], [], [])
        for x in (self.a, self.b):
            normal.append(x[23:31].any())
            zero.append(~x[:31].any())
            infinite.append(x[23:31].all() & ~x[:23].any())
            nan.append(x[23:31].all() & x[:23].any())
        product = multiply(m, "product", Cat(self.a[:23], normal[0]), Cat(self.b[:23], normal[1]))
        exponent = sum(Cat(x[23] | ~n, x[24:31]) for x, n in zip((self.a, self.b), normal,
                                                                  strict=True))
        flags = Cat(infinite[0] | infinite[1],
                    nan[0] | nan[1] | infinite[0] & zero[1] | zero[0] & infinite[1],
                    self.a[31] ^ self.b[31])
        for clock in range(Multiplier.latency):
            later = [Signal(len(v), name=f"{n}_{clock}", reset_less=True)
                     for n, v in (("exponent", exponent), ("flags", flags))]
            m.d.sync += [later[0].eq(exponent), later[1].eq(flags)]
            exponent, flags = later

        pipe = Pipeline(m, ("count", "normalise", "align", "round"))
        # With its leading one at the top the product is 2**(exponent - 253).
        value, above, zeros, flags = pipe.cut(
            "count", value=product, above=exponent - (253 - 127), zeros=leading_zeros(m, product),
            flags=flags)
        normal, biased, room = Signal(len(value)), Signal(signed(11)), Signal(signed(11))
        m.d.comb += [normal.eq(value << zeros), biased.eq(above.as_signed() - zeros),
                     room.eq(zeros + (1 - above.as_signed()))]
        small = ~room[-1] & room.any()
        value, biased, shift, flags = pipe.cut(
            "normalise", value=normal, biased=biased[:9] & ~small.replicate(9),
            shift=(room[:5] | room[5:].any().replicate(5)) & small.replicate(5), flags=flags)
        aligned = pipe.cut("align", **self._align(m, value, shift), biased=biased, flags=flags)
        result, = pipe.cut("round", result=self._round(m, *aligned))
        m.d.comb += self.o.eq(result)
        return m

    def _align(self, m, value, shift):
        """The fraction with a bit below it, whether any is lost below these, or set at all."""
        kept, lost = Signal(25), Signal(25)
        low = len(value) - 25
        m.d.comb += [
            kept.eq(value[low:] >> shift),
            lost.eq(value[low:] & ~(Const((1 << 25) - 1, 25) << shift)[:25]),
        ]
        return {"kept": kept[:24], "lost": lost.any() | value[:low].any(), "some": value[-1]}

    def _round(self, m, kept, lost, some, biased, flags):
        rounded, result = Signal(33), Signal(32)
        m.d.comb += [
            rounded.eq(Cat(kept[1:], biased) + (kept[0] & (kept[1] | lost))),
            result.eq(Cat(Mux(some, rounded[:31], 0), flags[2])),
        ]
        with m.If(flags[0] | some & (rounded[23:] >= 255)):
            m.d.comb += result.eq(Cat(Const(0x7F800000, 31), flags[2]))
        with m.If(flags[1]):
            m.d.comb += result.eq(CANONICAL_NAN)
        return result


class ToHalf(wiring.Component):
    """Rounds binary32 to FP16: to nearest even, with subnormals and overflow to infinity.

    Any NaN becomes 0x7e00. One number each clock: shifted in one, rounded in the next.

    Members
    -------
    i : In, binary32
    o : Out, FP16, ``latency`` clocks later; logic
    """

    i: In(32)
    o: Out(16)

    latency = 1

    def elaborate(self, platform):
        m = Module()
        exponent, sign = self.i[23:31], self.i[31]
        # Twelve bits of the significand, and one that says whether any is set below these.
        significand = Cat(self.i[:12].any(), self.i[12:23], exponent.any())
        least = 127 - 14
        normal, shift, kept = Signal(), Signal(4), Signal(25)
        # The least exponent being 1 modulo 16, four bits of it and of its distance are enough.
        m.d.comb += [
            normal.eq(exponent >= least),
            shift.eq(Mux(normal, 0, Mux(exponent < least - 12, 12, (1 - exponent[:4])[:4]))),
            kept.eq(Cat(Const(0, 12), significand) >> shift),
        ]
        # Ten bits, the one below these, and whether any is set below that.
        kept, biased, sign, nan, over = Pipeline(m, ("shift",)).cut(
            "shift", kept=Cat(kept[:13].any(), kept[13:24]),
            biased=Cat(exponent[:4], exponent[7]) & normal.replicate(5), sign=sign,
            nan=exponent.all() & self.i[:23].any(), over=exponent > least + 29)
        half = Signal(15)
        m.d.comb += [
            half.eq(Cat(kept[2:], biased) + (kept[1] & (kept[0] | kept[2]))),
            self.o.eq(Cat(half, sign)),
        ]
        with m.If(nan):
            m.d.comb += self.o.eq(CANONICAL_NAN_FP16)
        with m.Elif(over):
            m.d.comb += self.o.eq(Cat(Const(0x7C00, 15), sign))
        return m


class ToBrain(wiring.Component):
    """Rounds binary32 to BF16: to nearest even. Any NaN becomes 0x7fc0. Combinational.

    Members
    -------
    i : In, binary32
    o : Out, BF16
    """

    i: In(32)
    o: Out(16)

    def elaborate(self, platform):
        m = Module()
        up = self.i[15] & (self.i[16] | self.i[:15].any())
        m.d.comb += self.o.eq(self.i[16:] + up)
        with m.If(self.i[23:31].all() & self.i[:23].any()):
            m.d.comb += self.o.eq(CANONICAL_NAN_BF16)
        return m
