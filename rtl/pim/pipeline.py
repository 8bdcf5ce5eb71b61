# SPDX-License-Identifier: BSD-2-Clause
"""Pieces of arithmetic pipelines: registers at named cuts, and normalising shifts."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value


class Pipeline:
    """Puts registers without reset at those named places that ``cuts`` contains.

    Parameters
    ----------
    m : Module
    cuts : collection of str
    """

    def __init__(self, m: Module, cuts):
        self._m = m
        self._cuts = cuts

    def cut(self, place: str, **values) -> tuple:
        """The values, registered if there is a cut at ``place``; lists stay lists."""
        domain = self._m.d.sync if place in self._cuts else self._m.d.comb

        def signal(name, value):
            if isinstance(value, list):
                return [signal(f"{name}_{i}", v) for i, v in enumerate(value)]
            result = Signal(len(value), name=f"{place}_{name}", reset_less=True)
            domain.__iadd__(result.eq(value))
            return result

        return tuple(signal(name, value) for name, value in values.items())


def shift_left(value: Value, amount: int) -> Value:
    """``value << amount`` in the width of ``value``."""
    return Cat(Const(0, amount), value[:len(value) - amount])


def normalise(m: Module, value: Value, steps, name: str = "normalise") -> tuple[Value, Value]:
    """Shift left by each of ``steps`` whose top bits are all zero; (value, the steps taken).

    With the powers of two below ``len(value)``, greatest first, this brings the leading one of a
    non-zero value to the top. The steps taken are bits, the last step's lowest.
    """
    taken = []
    for step in steps:
        zero = Signal(name=f"{name}_by_{step}")
        shifted = Signal(len(value), name=f"{name}_{step}")
        m.d.comb += [zero.eq(value[len(value) - step:] == 0),
                     shifted.eq(Mux(zero, shift_left(value, step), value))]
        value = shifted
        taken.insert(0, zero)
    return value, Cat(taken)


def leading_zeros(m: Module, value: Value, name: str = "zeros") -> Value:
    """Number of zeros above the leading one; its greatest value if there is no one.

    Halves are counted beside each other: a step for each bit of the number, each a gate or two.
    """
    bits = (len(value) - 1).bit_length()
    value = Cat(Const(0, (1 << bits) - len(value)), value)
    # Of each part: that it is all zero, and the zeros above its leading one.
    parts = [(~bit, Const(0, 0)) for bit in value]
    for step in range(bits):
        joined = []
        for at, (low, high) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
            empty, count = (Signal(width, name=f"{name}_{what}_{step}_{at}")
                            for what, width in (("empty", 1), ("count", step + 1)))
            m.d.comb += [empty.eq(low[0] & high[0]),
                         count.eq(Cat(Mux(high[0], low[1], high[1]), high[0]))]
            joined.append((empty, count))
        parts = joined
    return parts[0][1]
