# SPDX-License-Identifier: BSD-2-Clause
"""The tile's partial sums: two pages of lanes, one filling while the other drains."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.block import beat_place, drain_step
from logicpim.spec.config import Config


class LaneMemory(wiring.Component):
    """One lane of one page: a sum of every processing unit for each group.

    A module of its own, so that a macro can replace it. Reading an entry in the clock in which
    it is written never happens.

    Parameters
    ----------
    depth, width : int

    Members
    -------
    read_enable, read_address : In
    read_data : Out, from the clock after ``read_enable`` until the next read's
    write_enable, write_address, write_data : In
    """

    def __init__(self, *, depth: int, width: int):
        self.depth = depth
        self.width = width
        address = max(1, ceil_log2(depth))
        super().__init__({
            "read_enable": In(1), "read_address": In(address), "read_data": Out(width),
            "write_enable": In(1), "write_address": In(address), "write_data": In(width)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.width, depth=max(2, self.depth), init=[])
        read, write = memory.read_port(), memory.write_port()
        m.d.comb += [
            read.en.eq(self.read_enable), read.addr.eq(self.read_address),
            self.read_data.eq(read.data),
            write.en.eq(self.write_enable), write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
        ]
        return m


class Accumulators(wiring.Component):
    """Partial sums of all processing units: 2 pages x lanes x groups entries, one a beat.

    A memory that beats read must not be drained, and the other way round. What is written reaches
    a memory a clock later; until it can be read there, it comes from the registers that hold the
    last two entries written. So an adder's result has a clock to itself, as has the choice of the
    entry to be added to: what is to be chosen is known before.

    Parameters
    ----------
    config : Config

    Members
    -------
    read : In, :func:`~logicpim.rtl.pim.block.beat_place`
    again : In, the entry of ``read`` is that of ``write``: no memory is read
    sums : Out, entry of ``read`` two clocks later, token by token, row by row; +0 if ``first``;
        registers
    write : In, :func:`~logicpim.rtl.pim.block.beat_place`
    data : In, the new entry, for reads of its clock and later
    step : In, :func:`~logicpim.rtl.pim.block.drain_step`; for entries written two clocks before it
    lanes : Out, the lanes of the drained token two clocks later, row by row; +0 if without beat;
        registers
    """

    def __init__(self, config: Config):
        self.config = config
        tile = config.tile
        self.width = tile.tokens * tile.rows * 32
        super().__init__({
            "read": In(beat_place(config)), "again": In(1), "sums": Out(self.width),
            "write": In(beat_place(config)), "data": In(self.width),
            "step": In(drain_step(config)),
            "lanes": Out(tile.rows * 32).array(tile.lanes)})

    def elaborate(self, platform):
        m = Module()
        tile = self.config.tile
        select = Signal(beat_place(self.config), reset_less=True)
        token = Signal(drain_step(self.config), reset_less=True)
        m.d.sync += [select.eq(self.read), token.eq(self.step)]
        new, stored = Signal(), Signal(self.width)
        m.d.sync += new.eq(self.write.enable)
        reading = self.read.enable & ~self.read.first & ~self.again
        (last, entry), (_, entry_before) = written = self._written(m)
        from_last, from_before = self._forward(m, *(place for place, _ in written))
        picked = [Signal(len(lane), name=f"picked_{i}") for i, lane in enumerate(self.lanes)]
        m.d.sync += [lane.eq(now) for lane, now in zip(self.lanes, picked, strict=True)]
        for page in range(2):
            read, drain = self.read.page == page, Signal(name=f"drain_{page}")
            m.d.comb += drain.eq(self.step.enable & self.step.read & (self.step.page == page))
            for lane in range(tile.lanes):
                memory = shared(LaneMemory(depth=tile.groups, width=self.width), "lane_memory")
                m.submodules[f"page_{page}_lane_{lane}"] = memory
                m.d.comb += [
                    memory.read_enable.eq(drain | reading & read & (self.read.lane == lane)),
                    memory.read_address.eq(Mux(drain, self.step.group, self.read.group)),
                    memory.write_enable.eq(new & (last.page == page)
                                           & (last.lane == lane)),
                    memory.write_address.eq(last.group),
                    memory.write_data.eq(entry),
                ]
                with m.If((select.page == page) & (select.lane == lane)):
                    m.d.comb += stored.eq(memory.read_data)
                self._pick(m, picked[lane], memory.read_data, token, page, lane)
        m.d.sync += self.sums.eq(stored)
        for chosen, kept in ((from_before, entry_before), (from_last, entry)):
            with m.If(chosen):
                m.d.sync += self.sums.eq(kept)
        with m.If(select.first):
            m.d.sync += self.sums.eq(0)
        return m

    def _written(self, m):
        """The last entry written and the one before: (place, entry) each."""
        written = [(self.write, self.data)]
        for name in ("last", "before"):
            place = Signal(beat_place(self.config), name=f"{name}_place")
            entry = Signal(self.width, name=f"{name}_entry", reset_less=True)
            with m.If(self.write.enable):
                m.d.sync += [place.eq(written[-1][0]), entry.eq(written[-1][1])]
            written.append((place, entry))
        return written[1:]

    def _forward(self, m, last, before):
        """Whether the entry to be read is the last one written, or the one before: registers."""
        def is_read(place):
            same = Cat(place[name] == self.read[name] for name in ("page", "lane", "group"))
            return place.enable & same.all()

        from_last, from_before = (Signal(name=f"from_{n}") for n in ("last", "before"))
        m.d.sync += [from_last.eq(is_read(last)), from_before.eq(is_read(before))]
        with m.If(self.write.enable):
            m.d.sync += [from_last.eq(is_read(self.write)), from_before.eq(is_read(last))]
        return from_last, from_before

    def _pick(self, m, picked, sums, token, page, lane):
        used = token.page == page
        if lane:
            used = used & (lane <= token.last_lane)
        width = len(picked)
        with m.If(used), m.Switch(token.token):
            for t in range(self.config.tile.tokens):
                with m.Case(t):
                    m.d.comb += picked.eq(sums[t * width:][:width])
