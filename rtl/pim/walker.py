# SPDX-License-Identifier: BSD-2-Clause
"""Walks over the tokens of finished row blocks."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.pim.block import drain_step, row_block
from logicpim.spec.config import Config
from logicpim.spec.isa import Format


class DrainWalker(wiring.Component):
    """A step (or two, see :func:`~logicpim.rtl.pim.block.drain_step`) for each valid token.

    One a clock, blocks without a gap.

    Blocks come from page 0 and page 1 in turn. Beats and steps go through pipelines of equal
    length, so a walker may start on a block in the clock after its last beat, and the page may
    take beats of another block in the clock after its last step. Blocks of which one adds to the
    sums of the other are ``apart`` clocks apart at least. A job that adds to what lies in the temp
    buffer is begun ``flush`` clocks behind the last step of the one before, whose results may be
    what it adds to.

    Parameters
    ----------
    config : Config
    apart, flush : int

    Members
    -------
    blocks : In, stream of :func:`~logicpim.rtl.pim.block.row_block`; its ready depends on
        registers alone
    step : Out, :func:`~logicpim.rtl.pim.block.drain_step`, registered
    released : Out, in the clock that decides the last step of a block, or when the next may come
    """

    def __init__(self, config: Config, *, apart: int, flush: int):
        self.flush = flush
        self.config = config
        self.apart = apart
        super().__init__({"blocks": In(stream.Signature(row_block(config))),
                          "step": Out(drain_step(config)), "released": Out(1)})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        layout = row_block(config)
        block = Signal(layout, reset_less=True)
        line = Signal(layout["line"].shape, reset_less=True)
        group = Signal(layout["last_group"].shape)
        token = Signal(layout["last_token"].shape)
        taken, walking, page = Signal(), Signal(), Signal()
        part, whole = Signal(), Signal()        # a token of two steps has its second now
        over, resting, early = Signal(), Signal(), self._early(m, block, walking, taken)
        twice = block.split if config.has_bytes else block.accumulate
        m.d.comb += walking.eq(taken & ~self._waits(m, walking))
        entry, unit = group, token
        if config.has_bytes:
            entry = Mux(block.split, Cat(part & ~block.reshaped, group), group)
            if config.tile.tokens > 1:
                unit = Cat(token[:-1], Mux(block.reshaped, part, token[-1]))

        slot, wide = Signal(block.slot.shape(), reset_less=True), block.output_format == Format.FP32
        # Row blocks share a line, unless their results are wide.
        step_of_line = Mux(block.transpose, wide | slot[0], block.stride)
        in_last_group = group == block.last_group
        end_of_group, end = Signal(), Signal()
        m.d.comb += [
            end_of_group.eq(token == Mux(in_last_group | block.transpose, block.last_token,
                                         config.tile.tokens - 1)),
            whole.eq(part | ~twice),
            end.eq(end_of_group & in_last_group & whole),
            over.eq(walking & end | resting),
            self.released.eq(over & ~early),
            self.blocks.ready.eq(~taken & ~resting | self.released),
        ]
        m.d.sync += part.eq(walking & ~whole)
        with m.If(walking & whole):
            m.d.sync += token.eq(token + 1)
            with m.If(end_of_group):
                m.d.sync += [token.eq(0), group.eq(group + 1), line.eq(line + step_of_line)]
                if config.transposes:
                    with m.If(block.transpose):
                        m.d.sync += slot.eq(slot ^ ~wide)
        m.d.sync += resting.eq(over & early)
        with m.If(walking & end):
            m.d.sync += [taken.eq(0), page.eq(~page)]
        with m.If(self.blocks.valid & self.blocks.ready):
            m.d.sync += [block.eq(self.blocks.payload), line.eq(self.blocks.payload.line),
                         slot.eq(self.blocks.payload.slot),
                         group.eq(0), token.eq(0), taken.eq(1)]

        step = self.step
        m.d.sync += [
            step.enable.eq(walking), step.page.eq(page),
            step.read.eq((token == 0) | (block.split if config.has_bytes else 0)),
            step.group.eq(entry), step.token.eq(unit), step.line.eq(line),
            step.part.eq(part), step.slot.eq(slot),
            step.last_row.eq(Mux(block.transpose & ~in_last_group, config.tile.rows - 1,
                                 block.last_row)), step.final.eq(block.final & end),
            step.last.eq(end),
            *(step[name].eq(block[name])
              for name in ("output_format", "last_lane", "split", "reshaped",
                                              "scaled", "more", "partial", "accumulate"))]
        return m

    def _early(self, m, block, walking, taken):
        """Whether the next block would be too near to this one."""
        if not self.config.has_bytes:
            # The adder of lanes has yet to add the last token to what lies there.
            idle = Signal()
            m.d.sync += idle.eq(~walking)
            return block.accumulate & ~idle
        age = Signal(range(self.apart))         # clocks since it was taken, and waits no more
        with m.If(age != self.apart - 1):
            m.d.sync += age.eq(age + 1)
        with m.If(self.blocks.valid & self.blocks.ready | taken & ~walking):
            m.d.sync += age.eq(0)
        return block.partial & (age != self.apart - 1)

    def _waits(self, m, walking):
        """Whether the first block of a job has to wait for results of the one before."""
        waits = Signal()
        pending = Signal(range(self.flush + 1))     # clocks until all results are written
        with m.If(walking):
            m.d.sync += pending.eq(self.flush)
        with m.Elif(pending != 0):
            m.d.sync += pending.eq(pending - 1)
        with m.If(pending == 0):
            m.d.sync += waits.eq(0)
        with m.If(self.blocks.valid & self.blocks.ready):
            m.d.sync += waits.eq(self.blocks.payload.accumulate & self.blocks.payload.first)
        return waits
