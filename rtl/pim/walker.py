# SPDX-License-Identifier: BSD-2-Clause
"""Walks over the tokens of finished row blocks."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.pim.block import drain_step, row_block
from logicpim.spec.config import Config


class DrainWalker(wiring.Component):
    """A step (two of a split block) for each valid token, one a clock, blocks without a gap.

    Blocks come from page 0 and page 1 in turn. Beats and steps go through pipelines of equal
    length, so a walker may start on a block in the clock after its last beat, and the page may
    take beats of another block in the clock after its last step. Blocks of which one adds to the
    sums of the other are ``apart`` clocks apart at least.

    Parameters
    ----------
    config : Config
    apart : int

    Members
    -------
    blocks : In, stream of :func:`~logicpim.rtl.pim.block.row_block`; its ready depends on
        registers alone
    step : Out, :func:`~logicpim.rtl.pim.block.drain_step`, registered
    released : Out, in the clock that decides the last step of a block, or when the next may come
    """

    def __init__(self, config: Config, *, apart: int = 1):
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
        walking, page = Signal(), Signal()
        part, whole = Signal(), Signal()        # a split token has its second step now
        over, resting, early = Signal(), Signal(), self._early(m, block)
        entry, unit = group, token
        if config.has_bytes:
            entry = Mux(block.split, Cat(part & ~block.reshaped, group), group)
            if config.tile.tokens > 1:
                unit = Cat(token[:-1], Mux(block.reshaped, part, token[-1]))

        in_last_group = group == block.last_group
        end_of_group, end = Signal(), Signal()
        m.d.comb += [
            end_of_group.eq(token == Mux(in_last_group, block.last_token,
                                         config.tile.tokens - 1)),
            whole.eq(part | ~block.split if config.has_bytes else 1),
            end.eq(end_of_group & in_last_group & whole),
            over.eq(walking & end | resting),
            self.released.eq(over & ~early),
            self.blocks.ready.eq(~walking & ~resting | self.released),
        ]
        if config.has_bytes:
            m.d.sync += part.eq(walking & ~whole)
        with m.If(walking & whole):
            m.d.sync += token.eq(token + 1)
            with m.If(end_of_group):
                m.d.sync += [token.eq(0), group.eq(group + 1), line.eq(line + block.stride)]
        m.d.sync += resting.eq(over & early)
        with m.If(walking & end):
            m.d.sync += [walking.eq(0), page.eq(~page)]
        with m.If(self.blocks.valid & self.blocks.ready):
            m.d.sync += [block.eq(self.blocks.payload), line.eq(self.blocks.payload.line),
                         group.eq(0), token.eq(0), walking.eq(1)]

        step = self.step
        m.d.sync += [
            step.enable.eq(walking), step.page.eq(page),
            step.read.eq((token == 0) | (block.split if config.has_bytes else 0)),
            step.group.eq(entry), step.token.eq(unit), step.line.eq(line),
            step.part.eq(part), step.final.eq(block.final & end),
            step.last.eq(end),
            *(step[name].eq(block[name])
              for name in ("slot", "last_row", "output_format", "single", "split", "reshaped",
                                              "scaled", "more", "partial"))]
        return m

    def _early(self, m, block):
        """Whether the block before is too near for the next, which adds to its sums."""
        if not self.config.has_bytes:
            return Const(0)
        age = Signal(range(self.apart))         # clocks since it was taken
        with m.If(age != self.apart - 1):
            m.d.sync += age.eq(age + 1)
        with m.If(self.blocks.valid & self.blocks.ready):
            m.d.sync += age.eq(0)
        return block.partial & (age != self.apart - 1)
