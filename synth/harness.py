# SPDX-License-Identifier: BSD-2-Clause
"""Registers around a component, so that place and route times it without hundreds of pins."""

from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib.wiring import In

from logicpim.rtl.generate.share import flat_ports

_SEEDS = 16
_CHAIN = 64
"""Bits of a shift register: Yosys sorts what hangs together by recursion, which must stay
shallow."""


class Harness(Elaboratable):
    """A component between registers: its inputs are shifted in, its outputs folded out.

    Promises that a path into the component starts at a register and one out of it ends at one,
    and that nothing of the component can be optimised away for want of a reader. What lies
    outside those registers is a gate deep.

    Parameters
    ----------
    component : wiring.Component

    Members
    -------
    seeds : In, 16 bits
    o : Out
    """

    def __init__(self, component):
        self.component = component
        self.seeds = Signal(_SEEDS, name="seeds")
        self.o = Signal(name="o")

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = self.component
        inputs, outputs = [], []
        for _, value, flow in flat_ports(self.component):
            (inputs if flow is In else outputs).append(value)
        starts = Signal(sum(map(len, inputs)), name="harness_in", reset_less=True)
        ends = Signal(sum(map(len, outputs)), name="harness_out", reset_less=True)
        fold = Signal(len(ends), name="harness_fold", reset_less=True)
        m.d.comb += Cat(inputs).eq(starts)
        m.d.sync += ends.eq(Cat(outputs))
        for number, at in enumerate(range(0, len(starts), _CHAIN), 1):
            # Each chain starts with a sum of other seeds: equal chains would become one.
            chain = starts[at:at + _CHAIN]
            seed = Cat(self.seeds[i] for i in range(_SEEDS) if number >> i & 1).xor()
            m.d.sync += chain.eq(Cat(seed, chain))
        lasts = []
        for at in range(0, len(ends), _CHAIN):
            chain, end = fold[at:at + _CHAIN], ends[at:at + _CHAIN]
            m.d.sync += chain.eq(Cat(0, chain[:-1]) ^ end)
            lasts.append(chain[-1])
        m.d.comb += self.o.eq(Cat(lasts).xor())
        return m
