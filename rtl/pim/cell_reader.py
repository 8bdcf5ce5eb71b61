# SPDX-License-Identifier: BSD-2-Clause
"""From a line buffer to beats of a few elements."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.pim.cell_walk import CellWalk, cell_bits, token_bits
from logicpim.rtl.signatures import BufferRead, cells_per_line
from logicpim.spec.config import Config


class ElementBeat(wiring.Signature):
    """``lanes`` elements of one token, from each matrix.

    An element of 16 bits lies in the upper half of its 32. ``outside``: the element is past the
    end of its row. ``first``: the row's first beat.
    """

    def __init__(self, config: Config, *, lanes: int, matrices: int):
        super().__init__({
            "valid": Out(1), "elements": Out(32 * lanes).array(matrices), "outside": Out(lanes),
            "token": Out(token_bits(config)), "first": Out(1)})


class Sweep(wiring.Signature):
    """What part of a matrix is visited, constant while it is; all but ``length`` and ``causal``
    as of :class:`~logicpim.rtl.pim.cell_walk.CellWalk`.

    ``width`` is the elements of a row in the buffer, ``length`` how many count; if ``causal``,
    row r of the matrix, which is token ``r % tokens`` of group ``r // tokens``, has r more.
    """

    def __init__(self, config: Config):
        super().__init__({
            "wide": Out(1), "last_cell": Out(cell_bits(config)),
            "last_token": Out(token_bits(config)), "group": Out(16 - token_bits(config)),
            "width": Out(24), "length": Out(24), "causal": Out(1)})


class CellReader(wiring.Component):
    """Reads a group of tokens and hands out its elements, ``lanes`` a clock.

    Beats cannot be stalled: whoever must not get more than it has room for gives ``credits``,
    one for each cell it has room for.

    Parameters
    ----------
    config : Config
    lanes : int
        A power of two up to ``tile.rows``.
    lines : int
        Of the buffer.
    matrices : int
        1, or 2 that are visited together.
    credits : int

    Members
    -------
    load, base : In, as of :class:`~logicpim.rtl.pim.cell_walk.CellWalk`
    line : Out, likewise: after a sweep where the next group begins
    start : In, begin a sweep; a clock after ``load`` or later, while not ``busy``
    both : In, read the second matrix too; constant during a sweep
    sweep : In, :class:`Sweep`
    free : In, this sweep needs no credits
    returned : In, a credit comes back
    read : Out, :class:`~logicpim.rtl.signatures.BufferRead`
    beat : Out, :class:`ElementBeat`; registers
    busy : Out, there are beats to come

    A cell each ``rows / lanes`` clocks, with both matrices a clock more. Its first beat comes 2
    clocks after the grant of its (last) read.
    """

    def __init__(self, config: Config, *, lanes: int, lines: int, matrices: int, credits: int):
        rows = config.tile.rows
        if lanes < 1 or rows % lanes:
            raise ValueError(f"{lanes} lanes do not divide a cell of {rows} elements")
        self.config = config
        self.lanes = lanes
        self.lines = lines
        self.matrices = matrices
        self.credits = credits
        super().__init__({
            "load": In(1), "base": In(ceil_log2(lines)).array(matrices),
            "line": Out(ceil_log2(lines)).array(matrices),
            "start": In(1), "both": In(1), "sweep": In(Sweep(config)),
            "free": In(1), "returned": In(1),
            "read": Out(BufferRead(lines, config.line_bits)),
            "beat": Out(ElementBeat(config, lanes=lanes, matrices=matrices)), "busy": Out(1)})

    def elaborate(self, platform):
        m = Module()
        sweep, beats = self.sweep, self.config.tile.rows // self.lanes
        m.submodules.walk = walk = CellWalk(self.config, lines=self.lines, matrices=self.matrices)
        active, second = Signal(), Signal()
        pace = Signal(range(max(2, beats)))
        credits = Signal(range(self.credits + 1), init=self.credits)
        granted, final = Signal(), Signal()
        m.d.comb += [
            walk.load.eq(self.load), walk.wide.eq(sweep.wide), walk.step.eq(final),
            walk.last_cell.eq(sweep.last_cell), walk.last_token.eq(sweep.last_token),
            *(to.eq(base) for to, base in zip(walk.base, self.base, strict=True)),
            *(to.eq(line) for to, line in zip(self.line, walk.line, strict=True)),
            self.read.enable.eq(active & (second | (pace == 0) & (self.free | (credits != 0)))),
            self.read.address.eq(Mux(second, walk.line[-1], walk.line[0])),
            granted.eq(self.read.enable & self.read.ready),
            final.eq(granted & (second | ~self.both | (self.matrices == 1))),
        ]
        m.d.sync += [
            pace.eq(Mux(final, beats - 1, Mux(pace == 0, 0, pace - 1))),
            credits.eq(credits + self.returned - (final & ~self.free)),
            second.eq(Mux(granted, ~final, second)),
            active.eq(self.start | active & ~(final & walk.last)),
        ]
        arrived, arriving, completes = self._arrival(m, walk, granted, final, second)
        left = self._beats(m, arrived, arriving, completes, beats)
        m.d.comb += self.busy.eq(active | arrived | (left != 0))
        return m

    def _arrival(self, m, walk, granted, final, second):
        """The clock in which data arrives: (whether, what, whether it completes a cell)."""
        config = self.config
        arrived, completes = Signal(), Signal(reset_less=True)
        arriving = Signal(data.StructLayout({
            "second": 1, "slot": ceil_log2(cells_per_line(config)), "token": token_bits(config),
            "first": 1, "start": 24, "reach": 25}), reset_less=True)
        row = Cat(walk.token, self.sweep.group)
        m.d.sync += [
            arrived.eq(granted), completes.eq(final), arriving.second.eq(second),
            arriving.slot.eq(walk.slot), arriving.token.eq(walk.token),
            arriving.first.eq(walk.cell == 0),
            arriving.start.eq(Cat(Const(0, ceil_log2(config.tile.rows)), walk.cell)),
            arriving.reach.eq(self.sweep.length + Mux(self.sweep.causal, row, 0)),
        ]
        return arrived, arriving, completes

    def _beats(self, m, arrived, arriving, completes, beats):
        """The cell's registers, shifted by a beat each clock; beats left in them."""
        rows, lanes, beat = self.config.tile.rows, self.lanes, self.beat
        left, inside = Signal(range(beats + 1)), Signal(range(rows + 1), reset_less=True)
        for index, elements in enumerate(beat.elements):
            cell = Signal(32 * rows, name=f"cell_{index}", reset_less=True)
            m.d.comb += elements.eq(cell)
            with m.If(beat.valid):
                m.d.sync += cell.eq(cell[32 * lanes:])
            with m.If(arrived & (arriving.second == index)):
                m.d.sync += cell.eq(self._cell(m, arriving.slot, index))
        m.d.comb += [
            beat.valid.eq(left != 0),
            beat.outside.eq(Cat(j >= inside for j in range(lanes))),
        ]
        # Elements of the cell that count and that there are; the less of both is inside.
        counts = [self._clip(end - arriving.start) for end in (arriving.reach, self.sweep.width)]
        m.d.sync += [left.eq(Mux(left == 0, 0, left - 1)),
                     inside.eq(Mux(inside > lanes, inside - lanes, 0)), beat.first.eq(0)]
        with m.If(arrived & completes):
            m.d.sync += [
                left.eq(beats), beat.token.eq(arriving.token), beat.first.eq(arriving.first),
                inside.eq(Mux(counts[0] < counts[1], *counts))]
        return left

    def _clip(self, count):
        """``count``, a signed number, between none and all of a cell."""
        bits = ceil_log2(self.config.tile.rows)
        most = self.config.tile.rows
        return Mux(count[-1], 0, Mux(count[bits:].any(), most, count[:bits]))

    def _cell(self, m, slot, index):
        """The cell of a slot, or of a slot and its upper neighbour, as 32 bits an element."""
        rows = self.config.tile.rows
        halves = [self.read.data.word_select(i, 16 * rows)
                  for i in range(cells_per_line(self.config))]
        low, high = Signal(16 * rows, name=f"low_{index}"), Signal(16 * rows, name=f"high_{index}")
        with m.Switch(slot[1:]):
            for i in range(len(halves) // 2):
                with m.Case(i):
                    m.d.comb += [low.eq(halves[2 * i]), high.eq(halves[2 * i + 1])]
        narrow = Mux(slot[0], high, low)
        return Mux(self.sweep.wide, Cat(low, high),
                   Cat(Cat(Const(0, 16), narrow.word_select(j, 16)) for j in range(rows)))
