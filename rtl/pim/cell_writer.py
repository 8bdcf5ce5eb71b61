# SPDX-License-Identifier: BSD-2-Clause
"""From beats of results to cells of a line buffer."""

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.pim.cell_walk import CellWalk, cell_bits, token_bits
from logicpim.rtl.signatures import BufferWrite, cells_per_line
from logicpim.rtl.stream import Queue
from logicpim.spec.config import Config


class CellWriter(wiring.Component):
    """Writes results of 16 bits in the order in which :class:`CellReader` read elements.

    Parameters
    ----------
    config : Config
    lanes : int
        Results in a beat.
    lines : int
        Of the buffer.
    depth : int
        Cells it has room for; each is written as a whole.

    Members
    -------
    load, base, last_cell, last_token : In, as of :class:`~logicpim.rtl.pim.cell_walk.CellWalk`;
        the last two constant from a group's first beat to ``done``
    valid, results : In, a beat, which must find room
    write : Out, :class:`~logicpim.rtl.signatures.BufferWrite`
    written : Out, a cell is written in this clock
    done : Out, it is the group's last
    """

    def __init__(self, config: Config, *, lanes: int, lines: int, depth: int):
        self.config = config
        self.lanes = lanes
        self.lines = lines
        self.depth = depth
        super().__init__({
            "load": In(1), "base": In(ceil_log2(lines)),
            "last_cell": In(cell_bits(config)), "last_token": In(token_bits(config)),
            "valid": In(1), "results": In(16 * lanes),
            "write": Out(BufferWrite(lines, config.line_bits, cells_per_line(config))),
            "written": Out(1), "done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        rows, slots = self.config.tile.rows, cells_per_line(self.config)
        m.submodules.walk = walk = CellWalk(self.config, lines=self.lines)
        m.submodules.queue = queue = Queue(unsigned(16 * rows), depth=self.depth)
        if self.lanes == rows:
            m.d.comb += [queue.i.payload.eq(self.results), queue.i.valid.eq(self.valid)]
        else:
            earlier = Signal(16 * (rows - self.lanes), reset_less=True)
            cell, beat = Cat(earlier, self.results), Signal(range(rows // self.lanes))
            m.d.comb += [queue.i.payload.eq(cell), queue.i.valid.eq(self.valid & beat.all())]
            with m.If(self.valid):
                m.d.sync += [earlier.eq(cell[16 * self.lanes:]), beat.eq(beat + 1)]

        m.d.comb += [
            walk.load.eq(self.load), walk.base[0].eq(self.base), walk.step.eq(self.written),
            walk.last_cell.eq(self.last_cell), walk.last_token.eq(self.last_token),
            self.write.address.eq(walk.line[0]),
            self.write.data.eq(queue.o.payload.replicate(slots)),
            self.write.enable.eq(Cat((walk.slot == i) & queue.o.valid for i in range(slots))),
            queue.o.ready.eq(self.write.ready),
            self.written.eq(queue.o.valid & self.write.ready),
            self.done.eq(self.written & walk.last),
        ]
        return m
