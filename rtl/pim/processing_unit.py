# SPDX-License-Identifier: BSD-2-Clause
"""The processing unit: a fused dot product and the adder that accumulates it."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.pim.dot import Dot
from logicpim.rtl.pim.fp32 import Adder
from logicpim.rtl.pim.operand import FP16_EXPONENTS, operand_vector


class ProcessingUnit(wiring.Component):
    """One element of the tile: adds the dot product of a beat to an accumulator.

    Holds no state between beats, so equal units are one module.

    Parameters
    ----------
    depth, exponents
        As of :class:`~logicpim.rtl.pim.dot.Dot`.

    Members
    -------
    token, weight : In, :func:`~logicpim.rtl.pim.operand.operand_vector`
    accumulator : In, binary32, ``accumulator_delay`` clocks after the exponents
    o : Out, binary32, ``latency`` clocks after the exponents; logic, to be written to a memory
    """

    accumulator_delay = Dot.latency
    latency = Dot.latency + Adder.latency

    def __init__(self, *, depth: int, exponents: tuple[int, int] = FP16_EXPONENTS):
        self.depth = depth
        self.exponents = exponents
        vector = operand_vector(depth, exponents)
        super().__init__({"token": In(vector), "weight": In(vector),
                          "accumulator": In(32), "o": Out(32)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dot = dot = Dot(depth=self.depth, exponents=self.exponents)
        m.submodules.adder = adder = Adder()
        wiring.connect(m, wiring.flipped(self.token), dot.token)
        wiring.connect(m, wiring.flipped(self.weight), dot.weight)
        m.d.comb += [adder.a.eq(self.accumulator), adder.b.eq(dot.o), self.o.eq(adder.o)]
        return m
