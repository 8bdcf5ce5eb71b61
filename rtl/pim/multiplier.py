# SPDX-License-Identifier: BSD-2-Clause
"""A multiplier of unsigned integers in two clocks."""

from amaranth.hdl import Cat, Module, Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.delay import Delay


class Multiplier(wiring.Component):
    """The exact product, in a clock by halves of both operands, in the next put together.

    So no product in one clock is larger than what FPGAs have for it (18 x 18 on ECP5).

    Parameters
    ----------
    left_bits, right_bits : int

    Members
    -------
    left, right : In, unsigned
    o : Out, unsigned, ``latency`` clocks later

    One product each clock.
    """

    latency = 2

    def __init__(self, left_bits: int, right_bits: int):
        self.left_bits = left_bits
        self.right_bits = right_bits
        super().__init__({"left": In(left_bits), "right": In(right_bits),
                          "o": Out(left_bits + right_bits)})

    def elaborate(self, platform):
        m = Module()
        later = Delay(m)
        i, j = self.left_bits // 2, self.right_bits // 2
        low = later.register("low", self.left[:i] * self.right[:j])
        high = later.register("high", self.left[i:] * self.right[j:])
        cross = [later.register("cross_0", self.left[i:] * self.right[:j]),
                 later.register("cross_1", self.left[:i] * self.right[j:])]
        outer = Cat(low, high)
        inner = (cross[0] << i) + (cross[1] << j)
        least = min(i, j)
        product = later.register("product", Cat(outer[:least], outer[least:] + inner[least:]),
                                 unsigned(len(self.o)))
        m.d.comb += self.o.eq(product)
        return m


def multiply(m: Module, name: str, a, b) -> Value:
    """The product of ``a`` and ``b``, :attr:`Multiplier.latency` clocks later."""
    unit = shared(Multiplier(len(a), len(b)), f"multiplier_{len(a)}x{len(b)}")
    m.submodules[name] = unit
    m.d.comb += [unit.left.eq(a), unit.right.eq(b)]
    return unit.o
