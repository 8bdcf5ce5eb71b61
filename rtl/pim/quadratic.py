# SPDX-License-Identifier: BSD-2-Clause
"""Functions of a fraction by parabolas: the exponential's and the reciprocal's significand."""

from itertools import accumulate

from amaranth.hdl import Array, Cat, Const, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from logicpim.rtl.pim.delay import Delay
from logicpim.spec.functions import Quadratic


class QuadraticUnit(wiring.Component):
    """Evaluates a :class:`~logicpim.spec.functions.Quadratic`, whose docstring has the rule.

    Parameters
    ----------
    quadratic : Quadratic

    Members
    -------
    i : In, ``argument_bits``
    o : Out, a bit more than ``fraction``, ``latency`` clocks later

    One value each clock. Each clock has one table, one product or one sum.
    """

    latency = 5

    def __init__(self, quadratic: Quadratic):
        self.quadratic = quadratic
        super().__init__({"i": In(quadratic.argument_bits), "o": Out(quadratic.fraction + 1)})

    def elaborate(self, platform):
        m = Module()
        later, q = Delay(m), self.quadratic
        c0, c1, c2 = _choose(later, q.table, self.i[q.offset_bits:])
        d = later.register("d", self.i[:q.offset_bits])

        def step(value, change):
            return value + change if q.sign > 0 else value - change

        square = later.register("square", (c2 * d[q.offset_bits - q.square_bits:])[q.square_bits:])
        h = later.register("h", step(later(c1, 1), square)[:len(c1)])
        change = later.register("change", (h * later(d, 2))[q.offset_bits:])
        value = later.register("value", step(later(c0, 3), change)[2:2 + len(self.o)])
        m.d.comb += self.o.eq(value)
        return m


def _choose(later, table, index):
    """The row at ``index`` in a register: its constants, each as wide as the widest of its column.

    One choice of whole rows: the Verilog of one of each constant would be three times as long.
    """
    widths = [max(map(bits_for, column)) for column in zip(*table, strict=True)]
    rows = [Cat(Const(c, width) for c, width in zip(row, widths, strict=True)) for row in table]
    row = later.register("row", Array(rows)[index])
    ends = list(accumulate(widths))
    return [later.name(f"c{k}", row[end - width:end])
            for k, (width, end) in enumerate(zip(widths, ends, strict=True))]
