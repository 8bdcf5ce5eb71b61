# SPDX-License-Identifier: BSD-2-Clause
"""Brings weights and operands together, beat by beat: the order of a GEMM's work."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.pim.block import beat_kind, beat_place, row_block
from logicpim.rtl.pim.job import tile_job
from logicpim.rtl.pim.scales import ScaleReader
from logicpim.rtl.signatures import GemmEvents, OperandRead, beat_stream, line_stream
from logicpim.spec.config import Config
from logicpim.spec.isa import Format


class Sequencer(wiring.Component):
    """Takes every weight word once for all groups of tokens: row block, word, group, beat.

    A row block is a block for the accumulators; with scales along K, each group of its words is.

    A weight stored as W[K, N] is one block: both beats of each of its words use the same half of an
    operand line, turned round, and belong to two row blocks of results. The words of 8 rows come
    in turn, in place of groups of tokens; then the other half of the line has its turn.

    A step is one operand line with one weight word, in two beats: lower half, upper half. The
    line is used as it stands at the buffer's port; the upper half is kept. The first group takes
    a word from the stream, the others get it again from a register. So a clock takes a beat if
    weights are there, the line is there and the page of accumulators is free, also from job to
    job. The operand buffer is asked every other clock; while a step waits, only if another reader
    has taken its line away.

    Weights of 8 bits come two words' worth in one: both beats of a step use the same weights,
    one half of them each. In a reshaped job a step is one beat, of a line of its own: the upper
    half of the units works on the tokens of the lower half, with the upper halves of their
    granules and of the weights. The operand port is then busy in every clock, so each line of
    scales costs one; else they come between operands.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : In, stream of :func:`~logicpim.rtl.pim.job.tile_job`
    beats : In, :func:`~logicpim.rtl.signatures.beat_stream`; ready does not depend on valid
    operands : Out, :class:`~logicpim.rtl.signatures.OperandRead`
    lines : In, :func:`~logicpim.rtl.signatures.line_stream`, used by dealt jobs in place of
        ``operands`` (``config.stack``)
    tokens, weights, kind, mask, mask_upper, place : Out, to the tile, registered: a
        clock after the beat is taken
    blocks : Out, stream of :func:`~logicpim.rtl.pim.block.row_block`, valid in the clock that
        takes a block's last beat
    released : In, a block has been drained
    events : Out, :class:`~logicpim.rtl.signatures.GemmEvents`
    scales : Out, those of a scaled block's rows, in a clock in which ``scales_here`` is high: that
        behind its last step
    """

    def __init__(self, config: Config):
        self.config = config
        tile = config.tile
        super().__init__({
            "job": In(stream.Signature(tile_job(config))),
            "beats": In(beat_stream(config)),
            "operands": Out(OperandRead(config)),
            "tokens": Out(tile.tokens * tile.depth * 16), "weights": Out(config.beat_bits),
            "mask": Out(tile.depth), "mask_upper": Out(tile.depth),
            "kind": Out(beat_kind(config)), "place": Out(beat_place(config)),
            "blocks": Out(stream.Signature(row_block(config))), "released": In(1),
            "events": Out(GemmEvents(config)),
            "scales": Out(tile.rows * 32), "scales_here": Out(1),
            **({"lines": In(line_stream(config))} if config.stack else {})})

    def elaborate(self, platform):
        m = Module()
        if self.config.has_bytes:
            m.submodules.scales = self._reader = ScaleReader(self.config)
        job = Signal(tile_job(self.config), reset_less=True)
        active = Signal()                       # a step is to be done
        word = Signal(24, reset_less=True)      # the step's
        group = Signal(job.last_group.shape(), reset_less=True)
        start, page = Signal(reset_less=True), Signal()
        second = Signal()                       # the upper half of the last step is to be done
        again = Signal(reset_less=True)         # its word is that of the register
        read = Signal(name="here")              # the step's line has been read and is still there
        undrained = Signal(2)                   # blocks
        same = Signal(reset_less=True)          # the last step's weights have 8 bits
        odd = Signal(reset_less=True)           # the upper half of a line has its turn
        turned = Signal(reset_less=True)        # the last step's weights are turned round

        last_word = Signal()
        end_of_word, end_of_line, end_of_block, end_of_job = (Signal(name=f"end_of_{n}") for n in (
            "word", "line", "block", "job"))
        free, lower, upper = Signal(), Signal(), Signal()
        following = (group != 0) & ~job.transpose
        repeated = Mux(second, again, following)
        here = self._lines(m, job, lower, read)
        within, last_within = self._within(m, job, word, last_word, lower, end_of_line)
        m.d.comb += [
            last_word.eq((word == job.last_word)
                         & (~job.transpose | (odd == job.last_element[-1]))),
            end_of_word.eq(group == job.last_group),
            end_of_line.eq(end_of_word & (~job.transpose | odd | last_word)),
            end_of_block.eq(end_of_word & last_within),
            free.eq(~start | (undrained != 2)),
            lower.eq(active & ~second & here & free & (self.beats.valid | repeated)),
            upper.eq(second & (self.beats.valid | repeated)),
            self.beats.ready.eq(~repeated & (second | active & here & free)),
        ]
        with m.If(lower):
            m.d.sync += [second.eq(~job.reshaped), again.eq(following | job.split),
                         same.eq(job.split), turned.eq(job.transpose), start.eq(end_of_block),
                         group.eq(Mux(end_of_word, 0, group + 1))]
            with m.If(end_of_word):
                m.d.sync += odd.eq(job.transpose & ~odd)
            with m.If(end_of_line):
                m.d.sync += word.eq(Mux(last_word, 0, word + 1))
        with m.If(upper):
            m.d.sync += second.eq(0)

        fetching = self._scales(m, job, lower & end_of_block, end_of_job)
        self._addresses(m, job, lower, end_of_line, last_word)
        self._fetch(m, job, active, read, lower, end_of_job, fetching)
        self._blocks(m, job, page, lower, upper, last_word, Cat(odd, within), end_of_block,
                     end_of_job, undrained)
        m.d.comb += self.job.ready.eq(~active | lower & end_of_job)
        with m.If(self.job.ready):
            m.d.sync += active.eq(self.job.valid)
            with m.If(self.job.valid):
                m.d.sync += [job.eq(self.job.payload), word.eq(0), group.eq(0), start.eq(1),
                             odd.eq(0)]
        line = lower & ~(job.transpose & odd), upper & ~turned | lower & job.transpose & odd
        self._data(m, job, lower, upper, line, repeated, Mux(second, same, job.split),
                   Mux(second, turned, job.transpose))
        self._mask(m, job, line, word)
        self._place(m, job, lower, upper, same | turned, Cat(odd, within), group, page)
        waiting = second | active & ~fetching & free
        m.d.comb += [
            self.events.active.eq(lower | upper),
            self.events.stall_output.eq(active & ~second & ~free),
            self.events.stall_weights.eq(waiting & ~repeated & ~self.beats.valid),
        ]
        if self.config.stack:
            m.d.comb += self.events.stall_broadcast.eq(
                active & ~second & free & job.dealt & ~self.lines.valid
                & (repeated | self.beats.valid))
        return m

    def _lines(self, m, job, lower, read):
        """Whether the step's line is here."""
        if not self.config.stack:
            return read
        # Scales come before the first line they are for; here no order of reads sees to that.
        scales = self._reader.pending if self.config.has_bytes else 0
        m.d.comb += self.lines.ready.eq(lower & job.dealt)
        return Mux(job.dealt, self.lines.valid & ~scales, read)

    def _fetch(self, m, job, active, read, lower, end_of_job, fetching):
        """Asks for the step's line, and knows whether it is still there."""
        # Nothing but registers says whether it asks where all steps have two beats: the way from
        # here to a buffer's memories is long enough.
        asks = ~read
        if self.config.has_bytes:
            asks = asks | job.reshaped & ~(lower & end_of_job)
        if self.config.stack:
            asks = asks & ~job.dealt
        m.d.comb += self.operands.enable.eq(active & (fetching | asks))
        m.d.sync += read.eq(Mux(self.operands.enable & self.operands.ready, ~fetching,
                                read & ~lower & ~self.operands.lost))

    def _within(self, m, job, word, last_word, lower, end_of_line):
        """(word within its block, it is the block's last)."""
        if not self.config.has_bytes:
            return word, last_word
        within, last = Signal(24, reset_less=True), Signal()
        m.d.comb += last.eq(last_word | job.grouped & (within == job.last_in_group))
        with m.If(lower & end_of_line):
            m.d.sync += within.eq(Mux(last, 0, within + 1))
        with m.If(self.job.ready):
            m.d.sync += within.eq(0)
        return within, last

    def _scales(self, m, job, last_step, end_of_job):
        """Whether the operand port is to read a line of scales now."""
        if not self.config.has_bytes:
            return Const(0)
        reader = self._reader
        taken = self.job.payload
        m.d.comb += [
            reader.start.eq(self.job.valid & self.job.ready), reader.scaled.eq(taken.scaled),
            reader.line.eq(taken.scale_line), reader.block.eq(last_step & job.scaled),
            reader.final.eq(end_of_job), reader.ready.eq(self.operands.ready),
            reader.data.eq(self.operands.data),
            self.scales.eq(reader.scales), self.scales_here.eq(reader.valid)]
        return reader.enable

    def _place(self, m, job, lower, upper, apart, beat, group, page):
        """Where the beat goes, and how it is to be read.

        ``beat``: half and word of the step. ``apart``: the beats of the last step are apart in two
        groups, not lanes.
        """
        word = beat[1:]
        place, kind = self.place, self.kind
        m.d.sync += place.enable.eq(lower | upper)
        with m.If(lower):
            m.d.sync += [place.first.eq(word[1:] == 0), place.page.eq(page),
                         place.group.eq(group), place.lane.eq(beat[:2]),
                         kind.weight_format.eq(job.weight_format),
                         kind.brain_inputs.eq(job.brain_inputs),
                         kind.part.eq(0), kind.part_upper.eq(job.reshaped)]
        with m.If(lower & (job.split | job.transpose)):
            m.d.sync += place.group.eq(Cat(0, group))
        with m.If(upper & ~apart):
            m.d.sync += place.lane[0].eq(1)
        if len(place.group):
            with m.If(upper & apart):
                m.d.sync += place.group[0].eq(1)
        if not self.config.has_bytes:
            return
        with m.If(lower & job.split):
            m.d.sync += [place.first.eq(word[2:] == 0), place.lane.eq(word[:2])]
        with m.If(upper):
            m.d.sync += [kind.part.eq(1), kind.part_upper.eq(1)]

    def _addresses(self, m, job, lower, end_of_line, last_word):
        """The operand line of the step, or the line of the block's scales."""
        line = Signal(self.operands.address.shape(), reset_less=True)
        first = Signal(line.shape(), reset_less=True)  # of group 0
        following, next_line = (Signal(line.shape(), name=name)
                                for name in ("following", "next_line"))
        m.d.comb += [
            following.eq(Mux(last_word, job.source_line, first + 1)),
            next_line.eq(Mux(end_of_line, following,
                             line + Mux(job.transpose, 0, job.last_word + 1))),
            self.operands.address.eq(Mux(lower, next_line, line) if self.config.has_bytes
                                     else line),
        ]
        if self.config.has_bytes:
            with m.If(self._reader.enable):
                m.d.comb += self.operands.address.eq(self._reader.address)
        with m.If(self.job.ready):
            m.d.sync += [line.eq(self.job.payload.source_line),
                         first.eq(self.job.payload.source_line)]
        with m.Elif(lower):
            m.d.sync += line.eq(next_line)
            with m.If(end_of_line):
                m.d.sync += first.eq(following)

    def _blocks(self, m, job, page, lower, upper, last_word, beat, end_of_block, end_of_job,
                undrained):
        """Blocks: where their results go, and handing them over with their last beat."""
        rows = self.config.tile.rows
        cells = self.config.granule_elements // rows
        block = Signal(job.last_block.shape(), reset_less=True)     # of rows
        line = Signal(job.result_line.shape(), reset_less=True)
        slot = Signal(range(cells), reset_less=True)
        closing, waiting, closed, at_once = Signal(), Signal(), Signal(), Signal()
        last, more = block == job.last_block, Signal(reset_less=True)
        wide = job.output_format == Format.FP32
        following = Signal(range(cells + 1))
        this, finished = (Signal(row_block(self.config), name=name, reset_less=True)
                          for name in ("this_block", "finished"))
        m.d.comb += [
            end_of_job.eq(end_of_block & last_word & last),
            following.eq(slot + 1 + wide),
            this.line.eq(line), this.stride.eq(job.result_lines), this.slot.eq(slot),
            this.last_group.eq(Mux(job.transpose, Cat(job.last_odd, job.last_group),
                                   job.last_group)), this.last_token.eq(job.last_token),
            this.last_row.eq(Mux(last, job.last_row, rows - 1)),
            this.output_format.eq(job.output_format), this.transpose.eq(job.transpose),
            this.last_lane.eq(Mux(job.transpose, beat[:2] | beat[2:].any().replicate(2),
                                  Cat(1, beat[1:] != job.split))),
            this.split.eq(job.split), this.reshaped.eq(job.reshaped),
            this.scaled.eq(job.scaled), this.final.eq(last & last_word),
            this.more.eq(more), this.partial.eq(~last_word),
            this.accumulate.eq(job.accumulate), this.first.eq((block == 0) & ~more),
            # A reshaped step has one beat, so that its block ends with it.
            at_once.eq(lower & end_of_block & job.reshaped),
            closed.eq(upper & closing | at_once),
            self.blocks.payload.eq(Mux(at_once, this, finished)),
            self.blocks.valid.eq(closed | waiting),
        ]
        with m.If(lower):
            m.d.sync += closing.eq(end_of_block)
        with m.If(lower & end_of_block):
            m.d.sync += finished.eq(this)
            with m.If(last_word):
                m.d.sync += [block.eq(block + 1), slot.eq(following),
                             line.eq(line + following[-1])]
            if self.config.has_bytes:
                m.d.sync += more.eq(~last_word)
        with m.If(self.job.ready):
            m.d.sync += [block.eq(0), slot.eq(0), line.eq(self.job.payload.result_line),
                         more.eq(0)]
        m.d.sync += [waiting.eq(self.blocks.valid & ~self.blocks.ready),
                     page.eq(page ^ closed), undrained.eq(undrained + closed - self.released)]

    def _data(self, m, job, lower, upper, line_is, repeated, same, turned):
        """Operands and weights of the beat; the line ``line_is`` (new, to be used further)."""
        config, tile = self.config, self.config.tile
        half = tile.depth * 16
        whole = self.operands.data
        if config.stack:
            whole = Mux(job.dealt, self.lines.payload, whole)
        line = [whole.word_select(i, half) for i in range(2 * tile.tokens)]
        tokens, rest = (Signal(tile.tokens * half, name=name, reset_less=True)
                        for name in ("operand_lower", "operand_upper"))
        weights, kept = (Signal(config.beat_bits, name=name, reset_less=True)
                         for name in ("weight", "weight_before"))
        m.d.comb += [self.tokens.eq(tokens), self.weights.eq(weights)]
        new, further = line_is
        with m.If(new):
            m.d.sync += [tokens.eq(Cat(line[::2])), rest.eq(Cat(line[1::2]))]
            if config.has_bytes and tile.tokens > 1:
                with m.If(job.reshaped):
                    m.d.sync += tokens.eq(Cat(line[:tile.tokens:2], line[1:tile.tokens:2]))
        with m.If(further):
            m.d.sync += tokens.eq(rest)
        beat = self.beats.payload
        if config.transposes:
            element = [beat.word_select(i, 16) for i in range(tile.rows * tile.depth)]
            beat = Mux(turned, Cat(Cat(element[r::tile.rows]) for r in range(tile.rows)), beat)
        again = Mux(same, weights, kept) if config.has_bytes else kept
        with m.If(lower | upper):
            m.d.sync += [weights.eq(Mux(repeated, again, beat)), kept.eq(weights)]

    def _mask(self, m, job, line_is, word):
        """Which elements of the beat count."""
        new, further = line_is
        mask, rest = (Signal(self.config.tile.depth, name=name, reset_less=True)
                      for name in ("mask_lower", "mask_rest"))
        at = word == job.last_line
        valid = Cat(1, *(~at | (i <= job.last_element)
                         for i in range(1, self.config.granule_elements)))
        if self.config.has_bytes:
            # The last word of a pair may lie beyond.
            beyond = (word == job.last_word) & ~at
            valid = valid & (~beyond).replicate(len(valid))
        m.d.comb += self.mask.eq(mask)
        with m.If(new):
            m.d.sync += Cat(mask, rest).eq(valid)
        with m.If(further):
            m.d.sync += mask.eq(rest)
        if not self.config.has_bytes:
            m.d.comb += self.mask_upper.eq(mask)
            return
        mask_upper = Signal(self.config.tile.depth, reset_less=True)
        m.d.comb += self.mask_upper.eq(mask_upper)
        with m.If(new):
            m.d.sync += mask_upper.eq(Mux(job.reshaped, valid[len(mask):], valid[:len(mask)]))
        with m.If(further):
            m.d.sync += mask_upper.eq(rest)
