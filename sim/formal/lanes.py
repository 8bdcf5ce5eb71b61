# SPDX-License-Identifier: BSD-2-Clause
"""What lane repair promises, as gateware that asserts it."""

from amaranth.hdl import Assert, Assume, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.utils import bits_for

from logicpim.rtl.tsv.lanes import receive, send


class RepairedLanes(wiring.Component):
    """Data sent past a lane of each group arrives, whatever that lane carries.

    Parameters
    ----------
    sizes : sequence of int
        Data lanes of the groups.
    fault : int, optional
        A lane that carries anything besides; for a proof that must fail.

    Members
    -------
    data, dead, carried : In, anything: data, the lane left out in each group, what it carries
    """

    def __init__(self, sizes, fault: int | None = None):
        self.sizes, self.fault = tuple(sizes), fault
        super().__init__({
            "data": In(sum(sizes)), "carried": In(len(sizes) + 1),
            "dead": In(bits_for(max(sizes))).array(len(sizes))})

    def elaborate(self, platform):
        m = Module()
        data = Signal.like(self.data)  # so that the proof has a clock
        m.d.sync += data.eq(self.data)
        lanes = send(m, data, self.dead, self.sizes, 0, Signal(2))
        arrived = []
        for index, size in enumerate(self.sizes):
            at = len(arrived)
            m.d.comb += Assume(self.dead[index] <= size)
            for lane in range(size + 1):
                wire = Signal(name=f"wire{at + lane}")
                m.d.comb += wire.eq(lanes[at + lane])
                with m.If(self.dead[index] == lane):
                    m.d.comb += wire.eq(self.carried[index])
                if at + lane == self.fault:
                    m.d.comb += wire.eq(self.carried[-1])
                arrived.append(wire)
        m.d.comb += Assert(receive(m, Cat(arrived), self.dead, self.sizes) == data)
        return m
