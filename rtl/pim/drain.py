# SPDX-License-Identifier: BSD-2-Clause
"""From the lanes of a token to results in the temp buffer."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.accumulators import LaneMemory
from logicpim.rtl.pim.block import drain_step, row_block
from logicpim.rtl.pim.delay import Delay
from logicpim.rtl.pim.fp32 import ONE, Adder, Scaler, ToBrain, ToHalf
from logicpim.rtl.pim.tile import Tile
from logicpim.rtl.pim.walker import DrainWalker
from logicpim.rtl.signatures import BufferRead, ResultWrite
from logicpim.rtl.stream import Queue
from logicpim.spec.config import Config
from logicpim.spec.isa import Format

SCALES = 16
"""Blocks between their last beat and their scaling: one waiting, and those in the pipeline of some
20 clocks, at least two each."""


LANES = Tile.latency + 1
"""Clocks from a step of the walker to its lanes."""

MINUS_ZERO = 1 << 31
"""Added to a binary32 number it changes nothing."""


class LaneReducer(wiring.Component):
    """(lane 0 + lane 1) + (lane 2 + lane 3) of one output element, scaled, added up and rounded.

    Parameters
    ----------
    split : bool
        Whether elements may come in two halves, the second a clock after the first, and whether
        they are scaled and added to those of other groups of K.
    brain : bool
        Whether BF16 may be asked for.

    Members
    -------
    lanes : In, four times binary32
    addend : In, binary32: what to add the sum to. If ``split``, every sum, ``add_latency`` clocks
        after the lanes; else if ``second``, ``again_latency`` after them, with the adder of lanes,
        so that no lanes may come in the clock ``again_latency - last_latency`` behind these
    second : In, if ``split`` with the lanes' sum, ``pair_latency`` later: add the element before
    scale : In, binary32, ``scale_latency`` clocks after the lanes
    total : Out, binary32, :attr:`Adder.latency` after ``addend``: the sum of both; logic
    output_format : In, in the clock before ``o``
    o : Out, ``latency`` clocks after the lanes: 16 bits in the lower half and, for FP32, all of it

    One element each clock.
    """

    last_latency = Adder.latency + 1  # odd, so that second turns fall on second steps of tokens

    pair_latency = again_latency = 2 * last_latency

    scale_latency = pair_latency + Adder.latency + 1

    add_latency = scale_latency + Scaler.latency

    @classmethod
    def latency(cls, split: bool) -> int:
        """Clocks from the lanes to the result: the whole sum, then two to round it."""
        whole = cls.add_latency + Adder.latency + 1 if split else cls.pair_latency
        return whole + ToHalf.latency + 1

    def __init__(self, *, split: bool = False, brain: bool = False):
        self.split = split
        self.brain = brain
        super().__init__({"lanes": In(32).array(4), "second": In(1), "scale": In(32),
                          "addend": In(32), "total": Out(32),
                          "output_format": In(Format), "o": Out(32)})

    def elaborate(self, platform):
        m = Module()

        def add(name, a, b):
            m.submodules[name] = adder = shared(Adder(), "fp32_adder")
            total = Signal(32, name=name, reset_less=True)
            m.d.comb += [adder.a.eq(a), adder.b.eq(b)]
            m.d.sync += total.eq(adder.o)
            return total

        pairs = [add("sum_01", self.lanes[0], self.lanes[1]),
                 add("sum_23", self.lanes[2], self.lanes[3])]
        if not self.split:
            again = Signal(32)
            pairs = [Mux(self.second, a, b) for a, b in zip((again, self.addend), pairs,
                                                            strict=True)]
        total = add("sum", *pairs)
        if not self.split:
            m.d.comb += again.eq(total)
        else:
            before = Signal(32, reset_less=True)
            m.d.sync += before.eq(total)
            total = add("sum_all", total, Mux(self.second, before, MINUS_ZERO))
            m.submodules.scaler = scaler = shared(Scaler(), "fp32_scaler")
            m.d.comb += [scaler.a.eq(total), scaler.b.eq(self.scale)]
            total = add("sum_scaled", scaler.o, self.addend)
            m.d.comb += self.total.eq(m.submodules.sum_scaled.o)
        m.submodules.to_half = to_half = ToHalf()
        result, rounding = Signal(32, reset_less=True), total
        total = Delay(m)(rounding, ToHalf.latency)
        m.d.comb += to_half.i.eq(rounding), self.o.eq(result)
        m.d.sync += result.eq(Mux(self.output_format == Format.FP32, total, to_half.o))
        if self.brain:
            m.submodules.to_brain = to_brain = ToBrain()
            m.d.comb += to_brain.i.eq(total)
            with m.If(self.output_format == Format.BF16):
                m.d.sync += result.eq(to_brain.o)
        return m


class Drain(wiring.Component):
    """Writes the results of finished blocks, a token a clock.

    Row slots past the last valid row get +0; cells without a valid row are left alone.

    Parameters
    ----------
    config : Config

    Members
    -------
    blocks : In, stream of :func:`~logicpim.rtl.pim.block.row_block`
    released : Out, as of :class:`~logicpim.rtl.pim.walker.DrainWalker`
    step : Out, :func:`~logicpim.rtl.pim.block.drain_step` for the tile
    lanes : In, the lanes of ``step``'s token two clocks later
    prior : Out, :class:`~logicpim.rtl.signatures.BufferRead`, must be ready always
    scales, scales_here : In, of the rows of a scaled block, in the clock behind its last step
    results : Out, :class:`~logicpim.rtl.signatures.ResultWrite`
    done : Out, in the clock that writes the last result of a job

    A block's first result is written ``latency`` clocks after the walker took it, each further
    one a clock later; with weights of 8 bits a clock more, and two clocks each. Sums of a partial
    block stay in a memory of an entry per token, to be read for the next group of its rows.
    """

    def __init__(self, config: Config):
        self.config = config
        tile = config.tile
        self._adding, self._written, self._late = self._clocks(config)
        self.latency = 1 + self._written + 1
        super().__init__({
            "blocks": In(stream.Signature(row_block(config))), "released": Out(1),
            "step": Out(drain_step(config)),
            "lanes": In(tile.rows * 32).array(tile.lanes),
            "prior": Out(BufferRead(config.temp_lines, config.line_bits)),
            "results": Out(ResultWrite(config)),
            "scales": In(tile.rows * 32), "scales_here": In(1), "done": Out(1)})

    @staticmethod
    def _clocks(config: Config):
        """Clocks from a step until what its sum is added to is here, until its result is there, and
        how much later that is where it is added with the adder of lanes."""
        if config.has_bytes:
            return LANES + LaneReducer.add_latency, LANES + LaneReducer.latency(True), 0
        return (LANES + LaneReducer.again_latency - 1, LANES + LaneReducer.latency(False),
                LaneReducer.last_latency - 1)

    @classmethod
    def walker(cls, config: Config) -> DrainWalker:
        """A walker that keeps the distances of these pipelines."""
        # A sum is read a clock before it is added to, and written when the adder is done. What lies
        # in the temp buffer is read a clock earlier still, two clocks behind its write at least.
        adding, written, late = cls._clocks(config)
        return DrainWalker(config, apart=1 + Adder.latency + 1, flush=written + late - adding + 2)

    def elaborate(self, platform):
        m = Module()
        m.submodules.walker = walker = self.walker(self.config)
        wiring.connect(m, wiring.flipped(self.blocks), walker.blocks)
        # The last token is picked from what its page's memories have read, until a clock in which
        # the next block's fifth beat may be there. Beats before it are the first of their entries
        # and read nothing; the fifth, if it comes so soon, adds to what the first one just wrote.
        m.d.comb += self.released.eq(walker.released)
        steps = self._delay(m, walker.step, self._written + self._late - 1)
        next_last, written = self._last(m, steps)
        last = Signal(next_last.shape(), name="last", reset_less=True)
        m.d.sync += [last.eq(next_last), self.done.eq(written & next_last.final),
                     self.results.enable.eq(self._cells(next_last) & written.replicate(
                         len(self.results.enable)))]
        rows = self._reduce(m, steps, self._scales(m, steps), last)
        m.d.comb += [
            self.step.eq(steps[Tile.latency - 1]),
            self.results.address.eq(last.line),
            self.results.data.eq(self._pair(last, rows)),
        ]
        return m

    def _cells(self, step):
        """The cells of a line that the results of a step go to."""
        tile, cells = self.config.tile, self.config.granule_elements // self.config.tile.rows
        wide = step.output_format == Format.FP32
        places = []
        for cell in range(cells):
            here = step.slot == cell
            if cell % 2:
                upper = step.last_row >= tile.rows // 2
                here = Mux(wide, (step.slot == cell - 1) & upper, here)
            places.append(here)
        token = self._token(step)
        return Cat(Cat(places) & (token == t).replicate(cells) for t in range(tile.tokens))

    def _last(self, m, steps):
        """(the step whose result is there next clock, whether that is to be written).

        Told a clock before, so that whatever all rows and cells wait for comes from registers.
        """
        now = Signal(steps[0].shape(), name="next_last")
        m.d.comb += now.eq(steps[self._written - 1])
        if self.config.has_bytes:
            return now, self._whole(now) & ~now.partial
        late = steps[self._written + self._late - 1]
        added, direct = late.enable & late.accumulate & late.part, now.enable & ~now.accumulate
        written = Signal(name="next_written")
        m.d.comb += written.eq(added | direct)
        with m.If(added):
            m.d.comb += now.eq(late)
        return now, written

    def _token(self, step):
        """The token of a step within its group."""
        if not self.config.has_bytes or self.config.tile.tokens == 1:
            return step.token
        return Cat(step.token[:-1], step.token[-1] & ~step.reshaped)

    def _prior(self, m, steps):
        """What lies where the results of a token will go."""
        read, here = steps[self._adding - 2], steps[self._adding - 1]
        prior = Signal(len(self.scales), name="prior_sums", reset_less=True)
        m.d.comb += [
            self.prior.enable.eq(self._whole(read) & read.accumulate & ~read.more),
            self.prior.address.eq(read.line)]
        m.d.sync += prior.eq(self.prior.data.word_select(Cat(here.slot[1:], self._token(here)),
                                                         len(prior)))
        return prior

    def _delay(self, m, step, clocks):
        """``step`` and its delayed copies."""
        steps = [step]
        for clock in range(1, clocks + 1):
            delayed = Signal(drain_step(self.config), name=f"step_{clock}")
            m.d.sync += delayed.eq(steps[-1])
            steps.append(delayed)
        return steps

    def _scales(self, m, steps):
        """Scales of the rows of the token that is to be scaled."""
        if not self.config.has_bytes:
            return Const(0, len(self.scales))
        step = steps[LANES + LaneReducer.scale_latency]
        m.submodules.scales = queue = Queue(unsigned(len(self.scales)), depth=SCALES)
        m.d.comb += [queue.i.payload.eq(self.scales), queue.i.valid.eq(self.scales_here),
                     queue.o.ready.eq(step.enable & step.scaled & step.last)]
        one = Const(ONE, 32).replicate(self.config.tile.rows)
        return Mux(step.scaled, queue.o.payload, one)

    def _sums(self, m, steps, totals):
        """What the rows are added to: sums of the groups before, what lies there, or -0."""
        prior = self._prior(m, steps)
        if not self.config.has_bytes:
            return prior
        at = LANES + LaneReducer.add_latency
        read, write = steps[at - 1], steps[at + Adder.latency]
        token = Signal(range(self.config.tile.max_tokens))
        with m.If(self._whole(read)):
            m.d.sync += token.eq(Mux(read.last, 0, token + 1))
        later = Delay(m)(token, 1 + Adder.latency)
        m.submodules.sums = memory = shared(
            LaneMemory(depth=self.config.tile.max_tokens, width=len(totals)), "sum_memory")
        m.d.comb += [
            memory.read_enable.eq(self._whole(read) & read.more), memory.read_address.eq(token),
            memory.write_enable.eq(self._whole(write) & write.partial),
            memory.write_address.eq(later), memory.write_data.eq(totals)]
        nothing = Const(MINUS_ZERO, 32).replicate(self.config.tile.rows)
        return Mux(steps[at].more, memory.read_data,
                   Mux(steps[at].accumulate, prior, nothing))

    def _whole(self, step):
        """Whether a token ends with this step."""
        twice = step.split if self.config.has_bytes else step.accumulate
        return step.enable & (step.part | ~twice)

    def _reduce(self, m, steps, scales, last):
        """Results of the rows, 32 bits each, +0 where there is no row."""
        rows, totals = [], Signal(len(scales))
        sums = self._sums(m, steps, totals)
        second, output_format = self._choices(m, steps)
        for r in range(self.config.tile.rows):
            reducer = shared(LaneReducer(split=self.config.has_bytes,
                                         brain=Format.BF16 in self.config.output_formats),
                             "lane_reducer")
            m.submodules[f"row_{r}"] = reducer
            m.d.comb += [
                reducer.second.eq(second),
                reducer.scale.eq(scales.word_select(r, 32)),
                reducer.addend.eq(sums.word_select(r, 32)),
                totals.word_select(r, 32).eq(reducer.total),
                reducer.output_format.eq(output_format),
                *(reducer.lanes[lane].eq(self.lanes[lane].word_select(r, 32))
                  for lane in range(self.config.tile.lanes))]
            rows.append(Mux(r <= last.last_row, reducer.o, 0) if r else reducer.o)
        return rows

    def _choices(self, m, steps):
        """(adders take their second turn, format of the results): registers, as for all rows."""
        if self.config.has_bytes:
            return (steps[LANES + LaneReducer.pair_latency].part,
                    steps[self._written - 1].output_format)
        second, output_format = Signal(name="second"), Signal(Format)
        adding, rounding = steps[self._adding - 1], steps[self._written - 2]
        late = steps[self._written + self._late - 2]
        added = late.enable & late.accumulate & late.part
        m.d.sync += [second.eq(adding.enable & adding.accumulate & adding.part),
                     output_format.eq(Mux(added, Format.FP32, rounding.output_format))]
        return second, output_format

    def _pair(self, step, rows):
        """Two cells: the results of 32 bits, or those of 16 in the place of either."""
        half = Cat(row[:16] for row in rows)
        return Mux(step.output_format == Format.FP32, Cat(rows), Cat(half, half))
