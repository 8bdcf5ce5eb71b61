# SPDX-License-Identifier: BSD-2-Clause
"""A multiplier of unsigned integers in two clocks."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.generate.share import shared


class Multiplier(wiring.Component):
    """The exact product, by halves of ``b``: a 24 x 24 product in one stage is too slow for FPGAs.

    Parameters
    ----------
    a_bits, b_bits : int

    Members
    -------
    a, b : In, unsigned
    o : Out, unsigned, ``latency`` clocks later

    One product each clock.
    """

    latency = 2

    def __init__(self, a_bits: int, b_bits: int):
        self.a_bits = a_bits
        self.b_bits = b_bits
        super().__init__({"a": In(a_bits), "b": In(b_bits), "o": Out(a_bits + b_bits)})

    def elaborate(self, platform):
        m = Module()
        half = self.b_bits // 2
        low = Signal(self.a_bits + half, reset_less=True)
        high = Signal(self.a_bits + self.b_bits - half, reset_less=True)
        o = Signal(len(self.o), reset_less=True)
        m.d.sync += [low.eq(self.a * self.b[:half]), high.eq(self.a * self.b[half:]),
                     o[:half].eq(low[:half]), o[half:].eq(high + low[half:])]
        m.d.comb += self.o.eq(o)
        return m


def multiply(m: Module, name: str, a, b) -> Value:
    """The product of ``a`` and ``b``, :attr:`Multiplier.latency` clocks later."""
    unit = shared(Multiplier(len(a), len(b)), f"multiplier_{len(a)}x{len(b)}")
    m.submodules[name] = unit
    m.d.comb += [unit.a.eq(a), unit.b.eq(b)]
    return unit.o
