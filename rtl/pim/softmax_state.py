# SPDX-License-Identifier: BSD-2-Clause
"""What a softmax row is known by between its passes: its greatest element and its sum."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.delay import Delay
from logicpim.rtl.pim.number import Number, Unpacker
from logicpim.rtl.pim.pipeline import leading_zeros
from logicpim.rtl.pim.quadratic import QuadraticUnit
from logicpim.rtl.pim.softmax_lane import FACTOR_BITS
from logicpim.spec.functions import (
    LOG2E_FIXED,
    RECIPROCAL_ARGUMENT,
    RECIPROCAL_FRACTION,
    SUM_FRACTION,
    reciprocal_table,
)
from logicpim.spec.isa import Format

SUM_BITS = SUM_FRACTION + 24


def tree(later: Delay, name: str, values, combine):
    """(One value out of several by pairs, clocks it takes): a register after each level."""
    level = 0
    while len(values) > 1:
        values = [later.register(f"{name}_{level}_{i}", combine(*values[2 * i:2 * i + 2]))
                  for i in range(len(values) // 2)]
        level += 1
    return values[0], level


class RowState(wiring.Component):
    """A value for each row of a group, that grows by what comes in.

    Parameters
    ----------
    rows, bits : int

    Members
    -------
    row : In
    o : Out, the row's value, in the same clock
    new : In, the row's next value
    update : In, take it
    """

    def __init__(self, *, rows: int, bits: int):
        self.rows = rows
        self.bits = bits
        super().__init__({"row": In(ceil_log2(rows)), "o": Out(bits), "new": In(bits),
                          "update": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.values = values = memory.Memory(shape=self.bits, depth=self.rows, init=[])
        read, write = values.read_port(domain="comb"), values.write_port()
        m.d.comb += [read.addr.eq(self.row), write.addr.eq(self.row), write.data.eq(self.new),
                     write.en.eq(self.update), self.o.eq(read.data)]
        return m


class Greatest(wiring.Component):
    """The greatest element of each row: a tree of comparators, then a register for each row.

    Parameters
    ----------
    rows, lanes : int

    Members
    -------
    input_format : In, constant while there are elements on the way
    elements : In, as for :class:`~logicpim.rtl.pim.number.Unpacker`
    outside : In, a bit each: does not count
    row, valid, fresh : In, with the elements; ``fresh``: forget what was
    find : In, there are valid elements on the way, else nothing is looked for
    greatest : Out, if not ``find``: that of ``row`` a clock ago, if any; NaN is greatest of all

    A beat each clock; it counts ``latency`` clocks later.
    """

    def __init__(self, *, rows: int, lanes: int):
        self.rows = rows
        self.lanes = lanes
        self.latency = 2 + ceil_log2(lanes)
        super().__init__({
            "input_format": In(Format), "elements": In(32 * lanes), "outside": In(lanes),
            "row": In(ceil_log2(rows)), "valid": In(1), "fresh": In(1), "find": In(1),
            "greatest": Out(Number)})

    def elaborate(self, platform):
        m = Module()
        later = Delay(m)
        half = self.input_format == Format.FP16
        keys = [later.register(f"key_{i}", Mux(
            self.outside[i], 0, self._key(self.elements.word_select(i, 32), half))[:32])
            for i in range(self.lanes)]
        best, levels = tree(later, "best", keys, lambda a, b: Mux(a > b, a, b))

        m.submodules.state = state = RowState(rows=self.rows, bits=32)
        m.d.comb += [
            state.row.eq(Mux(self.find, later(self.row, 1 + levels), self.row)),
            state.update.eq(later(self.valid, 1 + levels, reset=True)),
            state.new.eq(Mux(later(self.fresh, 1 + levels) | (best > state.o), best, state.o)),
        ]
        m.submodules.unpacker = unpacker = Unpacker()
        m.d.comb += [unpacker.i.eq(Mux(state.o[31], state.o ^ 1 << 31, ~state.o)),
                     unpacker.format.eq(self.input_format)]
        m.d.sync += self.greatest.eq(unpacker.o)
        return m

    @staticmethod
    def _key(element, half):
        """An integer in the order of the numbers; all ones for NaN."""
        ones = element[26:31].all() & (half | element[23:26].all())
        nan = ones & (element[:23].any() | half & element[23:26].any())
        return Mux(nan, (1 << 32) - 1, Mux(element[31], ~element, element | 1 << 31))


class Total(wiring.Component):
    """The sum of each row: a tree of adders, then a register for each row; and its reciprocal.

    Parameters
    ----------
    rows, lanes : int

    Members
    -------
    parts : In, in units of 2**-40
    row, valid, fresh : In, with the parts; ``fresh``: forget what was
    add : In, there are valid parts on the way, else reciprocals are wanted
    divisor_row : In, whose reciprocal is wanted, if not ``add``
    reciprocal, places : Out, 1 / sum is ``reciprocal * 2 ** (-places - 22)``;
        :attr:`reciprocal_latency` clocks later

    Parts of a clock count ``latency`` clocks later.
    """

    reciprocal_latency = 3 + QuadraticUnit.latency

    def __init__(self, *, rows: int, lanes: int):
        self.rows = rows
        self.lanes = lanes
        self.latency = 1 + ceil_log2(lanes)
        super().__init__({
            "parts": In(SUM_FRACTION + 1).array(lanes), "row": In(ceil_log2(rows)),
            "valid": In(1), "fresh": In(1), "add": In(1), "divisor_row": In(ceil_log2(rows)),
            "reciprocal": Out(RECIPROCAL_FRACTION + 1), "places": Out(5)})

    def elaborate(self, platform):
        m = Module()
        later = Delay(m)
        parts, levels = tree(later, "parts", list(self.parts), lambda a, b: a + b)
        m.submodules.state = state = RowState(rows=self.rows, bits=SUM_BITS)
        m.d.comb += [
            state.row.eq(Mux(self.add, later(self.row, levels), self.divisor_row)),
            state.update.eq(later(self.valid, levels, reset=True)),
            state.new.eq(Mux(later(self.fresh, levels), 0, state.o) + parts),
        ]
        # The sum is at least 1: the leading one is in its whole part. The bits below that are the
        # reciprocal's argument.
        total = later.register("divisor", state.o)
        zeros = later.register("zeros", leading_zeros(m, total[SUM_FRACTION:]))
        q = later.register("q", (later(total, 1) << zeros)[SUM_BITS - 1 - RECIPROCAL_ARGUMENT:
                                                          SUM_BITS - 1])
        places = later.register("places", (SUM_BITS - 1 - SUM_FRACTION - zeros)[:5])
        m.submodules.quadratic = quadratic = shared(QuadraticUnit(reciprocal_table()),
                                                    "reciprocal")
        m.d.comb += [quadratic.i.eq(q), self.reciprocal.eq(quadratic.o),
                     self.places.eq(later(places, QuadraticUnit.latency))]
        return m


class ScaleFactor(wiring.Component):
    """scale * log2(e), a bit of the scale's significand each clock.

    Members
    -------
    start : In, take ``scale``
    scale : In, binary32, zero or normal, not negative
    factor, exponent : Out, ``factor * 2 ** (exponent - 148)``
    ready : Out, they are valid: 26 clocks after start
    """

    start: In(1)
    scale: In(32)
    factor: Out(FACTOR_BITS)
    exponent: Out(8)
    ready: Out(1)

    def elaborate(self, platform):
        m = Module()
        rest, product, left = Signal(24, reset_less=True), Signal(24, reset_less=True), Signal(5)
        exponent = Signal(8, reset_less=True)
        m.d.comb += self.exponent.eq(exponent)
        m.d.sync += [self.ready.eq((left == 0) & ~self.start), self.factor.eq((product + 1)[1:])]
        with m.If(self.start):
            normal = self.scale[23:31].any()
            m.d.sync += [rest.eq(Mux(normal, Cat(self.scale[:23], 1), 0)), product.eq(0),
                         left.eq(24), exponent.eq(self.scale[23:31])]
        with m.Elif(left != 0):
            m.d.sync += [
                product.eq((product + Mux(rest[0], Const(LOG2E_FIXED, 24), 0))[1:]),
                rest.eq(rest >> 1), left.eq(left - 1)]
        return m
