# SPDX-License-Identifier: BSD-2-Clause
"""Brings weights and operands together, beat by beat: the order of a GEMM's work."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.pim.block import beat_place, row_block
from logicpim.rtl.pim.job import tile_job
from logicpim.rtl.signatures import BufferRead, GemmEvents, beat_stream
from logicpim.spec.config import Config
from logicpim.spec.isa import Format


class Sequencer(wiring.Component):
    """Takes every weight word once for all groups of tokens: row block, word, group, beat.

    A step is one operand line with one weight word, in two beats: lower half, upper half. The
    line is used in the clock in which it arrives; the upper half is kept. The first group takes
    a word from the stream, the others get it again from a register. So a clock takes a beat if
    weights are there, the line is there and the page of accumulators is free, also from job to
    job. The operand buffer is asked every other clock; while a step waits, every clock, so that
    its line is there when its weights come.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : In, stream of :func:`~logicpim.rtl.pim.job.tile_job`
    beats : In, :func:`~logicpim.rtl.signatures.beat_stream`; ready does not depend on valid
    operands : Out, :class:`~logicpim.rtl.signatures.BufferRead`
    tokens, weights, mask, place : Out, to the tile, registered: a clock after the beat is taken
    blocks : Out, stream of :func:`~logicpim.rtl.pim.block.row_block`, valid in the clock that
        takes a block's last beat
    released : In, a block has been drained
    events : Out, :class:`~logicpim.rtl.signatures.GemmEvents`
    """

    def __init__(self, config: Config):
        self.config = config
        tile = config.tile
        super().__init__({
            "job": In(stream.Signature(tile_job(config))),
            "beats": In(beat_stream(config)),
            "operands": Out(BufferRead(config.input_lines, config.line_bits)),
            "tokens": Out(tile.tokens * tile.depth * 16), "weights": Out(config.beat_bits),
            "mask": Out(tile.depth), "place": Out(beat_place(config)),
            "blocks": Out(stream.Signature(row_block(config))), "released": In(1),
            "events": Out(GemmEvents())})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        job = Signal(tile_job(config), reset_less=True)
        active = Signal()                       # a step is to be done
        word = Signal(24, reset_less=True)      # the step's
        group = Signal(job.last_group.shape(), reset_less=True)
        start, page = Signal(reset_less=True), Signal()
        second = Signal()                       # the upper half of the last step is to be done
        again = Signal(reset_less=True)         # its word is that of the register
        here = Signal()                         # the step's line is here
        undrained = Signal(2)                   # blocks

        last_word = Signal()
        end_of_word, end_of_block, end_of_job = Signal(), Signal(), Signal()
        free, lower, upper = Signal(), Signal(), Signal()
        repeated = Mux(second, again, group != 0)
        m.d.comb += [
            last_word.eq(word == job.last_word),
            end_of_word.eq(group == job.last_group),
            end_of_block.eq(end_of_word & last_word),
            free.eq(~start | (undrained != 2)),
            lower.eq(active & ~second & here & free & (self.beats.valid | repeated)),
            upper.eq(second & (self.beats.valid | repeated)),
            self.beats.ready.eq(~repeated & (second | active & here & free)),
            self.operands.enable.eq(active & ~lower),
        ]
        m.d.sync += here.eq(self.operands.enable & self.operands.ready)
        with m.If(lower):
            m.d.sync += [second.eq(1), again.eq(group != 0), start.eq(end_of_block),
                         group.eq(Mux(end_of_word, 0, group + 1))]
            with m.If(end_of_word):
                m.d.sync += word.eq(Mux(last_word, 0, word + 1))
        with m.If(upper):
            m.d.sync += second.eq(0)

        self._addresses(m, job, lower, end_of_word, last_word)
        self._blocks(m, job, page, lower, upper, end_of_block, end_of_job, undrained)
        m.d.comb += self.job.ready.eq(~active | lower & end_of_job)
        with m.If(self.job.ready):
            m.d.sync += active.eq(self.job.valid)
            with m.If(self.job.valid):
                m.d.sync += [job.eq(self.job.payload), word.eq(0), group.eq(0), start.eq(1)]
        self._data(m, job, lower, upper, repeated, last_word)

        place = self.place
        m.d.sync += place.enable.eq(lower | upper)
        with m.If(lower):
            m.d.sync += [place.first.eq(word[1:] == 0), place.page.eq(page),
                         place.group.eq(group), place.lane.eq(Cat(0, word[0]))]
        with m.If(upper):
            m.d.sync += place.lane[0].eq(1)

        waiting = second | active & free
        m.d.comb += [
            self.events.active.eq(lower | upper),
            self.events.stall_output.eq(active & ~second & ~free),
            self.events.stall_weights.eq(waiting & ~repeated & ~self.beats.valid),
        ]
        return m

    def _addresses(self, m, job, lower, end_of_word, last_word):
        """The operand line of the step."""
        line = Signal(self.operands.address.shape(), reset_less=True)
        first = Signal(line.shape(), reset_less=True)  # of group 0
        m.d.comb += self.operands.address.eq(line)
        following = Mux(last_word, job.source_line, first + 1)
        with m.If(self.job.ready):
            m.d.sync += [line.eq(self.job.payload.source_line),
                         first.eq(self.job.payload.source_line)]
        with m.Elif(lower):
            with m.If(end_of_word):
                m.d.sync += [line.eq(following), first.eq(following)]
            with m.Else():
                m.d.sync += line.eq(line + job.last_word + 1)

    def _blocks(self, m, job, page, lower, upper, end_of_block, end_of_job, undrained):
        """Row blocks: where their results go, and handing them over."""
        rows = self.config.tile.rows
        cells = self.config.granule_elements // rows
        block = Signal(job.last_block.shape(), reset_less=True)
        line = Signal(job.result_line.shape(), reset_less=True)
        slot = Signal(range(cells), reset_less=True)
        closing, waiting, closed = Signal(), Signal(), Signal()
        last = block == job.last_block
        wide = job.output_format == Format.FP32
        following = Signal(range(cells + 1))
        finished = Signal(row_block(self.config), reset_less=True)
        m.d.comb += [
            self.blocks.payload.eq(finished),
            end_of_job.eq(end_of_block & last),
            following.eq(slot + 1 + wide),
            closed.eq(upper & closing),
            self.blocks.valid.eq(closed | waiting),
        ]
        with m.If(lower):
            m.d.sync += closing.eq(end_of_block)
        with m.If(lower & end_of_block):
            m.d.sync += [
                finished.line.eq(line), finished.stride.eq(job.result_lines),
                finished.slot.eq(slot), finished.last_group.eq(job.last_group),
                finished.last_token.eq(job.last_token),
                finished.last_row.eq(Mux(last, job.last_row, rows - 1)),
                finished.output_format.eq(job.output_format),
                finished.single.eq(job.last_word == 0), finished.final.eq(last),
                block.eq(block + 1), slot.eq(following), line.eq(line + following[-1])]
        with m.If(self.job.ready):
            m.d.sync += [block.eq(0), slot.eq(0), line.eq(self.job.payload.result_line)]
        m.d.sync += [waiting.eq(self.blocks.valid & ~self.blocks.ready),
                     page.eq(page ^ closed), undrained.eq(undrained + closed - self.released)]

    def _data(self, m, job, lower, upper, repeated, last_word):
        """Operands and weights of the beat, and which of its elements count."""
        config, tile = self.config, self.config.tile
        half = tile.depth * 16
        line = [self.operands.data.word_select(i, half) for i in range(2 * tile.tokens)]
        tokens, rest = (Signal(tile.tokens * half, name=name, reset_less=True)
                        for name in ("operand_lower", "operand_upper"))
        mask, rest_mask = (Signal(tile.depth, name=name, reset_less=True)
                           for name in ("mask_lower", "mask_upper"))
        weights, kept = (Signal(config.beat_bits, name=name, reset_less=True)
                         for name in ("weight", "weight_before"))
        m.d.comb += [self.tokens.eq(tokens), self.mask.eq(mask), self.weights.eq(weights)]
        valid = Cat(~last_word | (i <= job.last_element) for i in range(config.granule_elements))
        with m.If(lower):
            m.d.sync += [tokens.eq(Cat(line[::2])), rest.eq(Cat(line[1::2])),
                         Cat(mask, rest_mask).eq(valid)]
        with m.If(upper):
            m.d.sync += [tokens.eq(rest), mask.eq(rest_mask)]
        with m.If(lower | upper):
            m.d.sync += [weights.eq(Mux(repeated, kept, self.beats.payload)), kept.eq(weights)]
