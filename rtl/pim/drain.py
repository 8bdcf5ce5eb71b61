# SPDX-License-Identifier: BSD-2-Clause
"""From the lanes of a token to results in the temp buffer."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.block import drain_step, row_block
from logicpim.rtl.pim.fp32 import Adder, ToHalf
from logicpim.rtl.pim.tile import Tile
from logicpim.rtl.pim.walker import DrainWalker
from logicpim.rtl.signatures import BufferWrite, cells_per_line
from logicpim.spec.config import Config
from logicpim.spec.isa import Format


class LaneReducer(wiring.Component):
    """(lane 0 + lane 1) + (lane 2 + lane 3) of one output element.

    Members
    -------
    lanes : In, four times binary32
    single : In, binary32 :data:`sum_latency` clocks later: give FP32
    o : Out, ``latency`` clocks later: FP16 in the lower half and, for FP32, all of it

    One element each clock.
    """

    lanes: In(32).array(4)
    wide: In(1)
    o: Out(32)

    sum_latency = 2 * (Adder.latency + 1)
    latency = sum_latency + 1

    def elaborate(self, platform):
        m = Module()

        def add(name, a, b):
            m.submodules[name] = adder = shared(Adder(), "fp32_adder")
            total = Signal(32, name=name, reset_less=True)
            m.d.comb += [adder.a.eq(a), adder.b.eq(b)]
            m.d.sync += total.eq(adder.o)
            return total

        total = add("sum", add("sum_01", self.lanes[0], self.lanes[1]),
                    add("sum_23", self.lanes[2], self.lanes[3]))
        m.submodules.to_half = to_half = ToHalf()
        result = Signal(32, reset_less=True)
        m.d.comb += to_half.i.eq(total), self.o.eq(result)
        m.d.sync += result.eq(Mux(self.wide, total, to_half.o))
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
    lanes : In, the lanes of ``step``'s token a clock later
    results : Out, :class:`~logicpim.rtl.signatures.BufferWrite`, which must be ready always
    done : Out, in the clock that writes the last result of a job

    A block's first result is written :attr:`latency` clocks after the walker took it, each
    further one a clock later.
    """

    latency = 1 + Tile.latency + LaneReducer.latency + 1

    def __init__(self, config: Config):
        self.config = config
        tile = config.tile
        super().__init__({
            "blocks": In(stream.Signature(row_block(config))), "released": Out(1),
            "step": Out(drain_step(config)),
            "lanes": In(tile.rows * 32).array(tile.lanes),
            "results": Out(BufferWrite(config.temp_lines, config.line_bits,
                                       cells_per_line(config))),
            "done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.walker = walker = DrainWalker(self.config)
        wiring.connect(m, wiring.flipped(self.blocks), walker.blocks)
        m.d.comb += self.released.eq(walker.released)
        steps = self._delay(m, walker.step, Tile.latency + LaneReducer.latency)
        last = steps[-1]
        rows = self._reduce(m, steps)
        m.d.comb += [
            self.step.eq(steps[Tile.latency - 1]),
            self.results.address.eq(last.line),
            self.results.data.eq(self._line(last, rows)),
            self.done.eq(last.enable & last.final),
        ]
        wide = last.output_format == Format.FP32
        cells = self.config.granule_elements // self.config.tile.rows
        for token in range(self.config.tile.tokens):
            for cell in range(cells):
                here = last.slot == cell
                if cell % 2:
                    upper = last.last_row >= self.config.tile.rows // 2
                    here = Mux(wide, (last.slot == cell - 1) & upper, here)
                m.d.comb += self.results.enable[token * cells + cell].eq(
                    last.enable & (last.token == token) & here)
        return m

    def _delay(self, m, step, clocks):
        """``step`` and its delayed copies."""
        steps = [step]
        for clock in range(1, clocks + 1):
            delayed = Signal(drain_step(self.config), name=f"step_{clock}")
            m.d.sync += delayed.eq(steps[-1])
            steps.append(delayed)
        return steps

    def _reduce(self, m, steps):
        """Results of the rows, 32 bits each, +0 where there is no row."""
        rows = []
        for r in range(self.config.tile.rows):
            m.submodules[f"row_{r}"] = reducer = shared(LaneReducer(), "lane_reducer")
            m.d.comb += [
                reducer.wide.eq(steps[Tile.latency + LaneReducer.sum_latency].output_format
                                == Format.FP32),
                *(reducer.lanes[lane].eq(self.lanes[lane].word_select(r, 32))
                  for lane in range(self.config.tile.lanes))]
            rows.append(Mux(r <= steps[-1].last_row, reducer.o, 0) if r else reducer.o)
        return rows

    def _line(self, step, rows):
        """A line that holds the results in every place where they might belong."""
        wide = step.output_format == Format.FP32
        half = Cat(row[:16] for row in rows)
        pairs = self.config.line_bits // (2 * len(half))
        return Cat(Mux(wide, Cat(rows), Cat(half, half)) for _ in range(pairs))
