# SPDX-License-Identifier: BSD-2-Clause
"""The softmax module: maximum, exponentials and their sum, division, in three passes."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, enum
from amaranth.utils import ceil_log2

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.delay import Delay
from logicpim.rtl.pim.function_module import FunctionModule
from logicpim.rtl.pim.groups import Groups
from logicpim.rtl.pim.softmax_lane import SoftmaxLane
from logicpim.rtl.pim.softmax_state import Greatest, ScaleFactor, Total
from logicpim.spec.config import Config
from logicpim.spec.isa import Format


class Passes(data.Struct):
    """Which passes a job makes over its matrix."""

    maximum: unsigned(1)
    add: unsigned(1)
    normalise: unsigned(1)


class Pass(enum.Enum, shape=2):
    """The pass under way."""

    MAXIMUM = 0
    ADD = 1
    NORMALISE = 2


def softmax_job(config: Config, *, source_lines: int, result_lines: int) -> data.StructLayout:
    """softmax(scale * scores[rows, width]) along rows; rows and width >= 1.

    ``length`` elements of row 0 count and, if ``causal``, r more of row r; at most ``width``.
    Rows too long for the buffer come in pieces, a group of tokens at most, all pieces through
    one pass after the other: ``resume`` is 1 in the passes maximum and add of all pieces but the
    first. Scores lie as a GEMM leaves its results; what comes out lies as operands do.
    """
    return data.StructLayout({
        "rows": unsigned(16), "width": unsigned(24), "length": unsigned(24),
        "causal": unsigned(1), "scale": unsigned(32),
        "input_format": Format, "output_format": Format,
        "passes": Passes, "resume": unsigned(1),
        "source_line": unsigned(ceil_log2(source_lines)),
        "result_line": unsigned(ceil_log2(result_lines))})


class Softmax(FunctionModule):
    """Softmax of rows in a buffer, the bits of docs/functions.md.

    Promises finite results for finite scores; +0 in the places past a row's length; whole cells,
    other cells untouched. Results may go to the place of the scores.

    Parameters
    ----------
    config : Config
    lanes : int, optional
        By default ``tile.rows``.
    source_lines, result_lines : int, optional
        As of :class:`~logicpim.rtl.pim.function_module.FunctionModule`, likewise the members.

    ``lanes`` elements a clock and pass while reads and writes are granted: ``lanes / 3`` results
    a clock; 65 clocks more for each group of tokens.
    Source of the structure: Duplex (MICRO 2024), VII-E.
    """

    def __init__(self, config: Config, *, lanes: int | None = None,
                 source_lines: int | None = None, result_lines: int | None = None):
        lanes = lanes or config.tile.rows
        super().__init__(config, lanes=lanes, job=softmax_job, source_lines=source_lines,
                         depth=SoftmaxLane.latency * lanes // config.tile.rows + 6,
                         result_lines=result_lines)

    def elaborate(self, platform):
        m = Module()
        reader, writer = self._ends(m, matrices=1)
        m.submodules.scale = scale = ScaleFactor()
        job, now = Signal(self.job.payload.shape(), reset_less=True), Signal(Pass)
        groups = Groups(m, self.config, rows=job.rows, width=job.width)
        groups.connect(m, reader, writer)
        drained = self._compute(m, job, now, reader, writer, scale)
        self._control(m, job, now, groups, reader, writer, scale, drained)
        m.d.comb += [
            writer.base.eq(job.result_line), reader.free.eq(now != Pass.NORMALISE),
            reader.sweep.wide.eq(job.input_format == Format.FP32),
            reader.sweep.length.eq(job.length), reader.sweep.causal.eq(job.causal),
            scale.scale.eq(self.job.payload.scale),
        ]
        return m

    def _control(self, m, job, now, groups, reader, writer, scale, drained):
        """Group after group, pass after pass."""
        base = Signal(ceil_log2(self.source_lines), reset_less=True)
        m.d.comb += reader.base[0].eq(base)
        wanted = Signal()
        m.d.comb += wanted.eq(job.passes.as_value().bit_select(now, 1))
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.job.ready.eq(1), scale.start.eq(self.job.valid)]
                m.d.sync += [job.eq(self.job.payload), base.eq(self.job.payload.source_line),
                             groups.group.eq(0), now.eq(Pass.MAXIMUM)]
                with m.If(self.job.valid):
                    m.next = "RESULT"
            with m.State("RESULT"):
                m.d.comb += writer.load.eq(1)
                m.next = "LOAD"
            with m.State("LOAD"):
                m.next = "NEXT"
                with m.If(wanted):
                    m.d.comb += reader.load.eq(1)
                    m.next = "START"
            with m.State("START"):
                with m.If((now == Pass.MAXIMUM) | scale.ready):
                    m.d.comb += reader.start.eq(1)
                    m.next = "RUN"
            with m.State("RUN"):
                with m.If(Mux(now == Pass.NORMALISE, writer.done, drained)):
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += now.eq(now.as_value() + 1)
                m.next = "LOAD"
                with m.If(now == Pass.NORMALISE):
                    m.d.sync += [now.eq(Pass.MAXIMUM), base.eq(reader.line[0]),
                                 groups.group.eq(groups.group + 1)]
                    m.d.comb += self.done.eq(groups.last)
                    with m.If(groups.last):
                        m.next = "IDLE"

    def _compute(self, m, job, now, reader, writer, scale):
        """The lanes and the state of the rows; whether nothing is on the way."""
        later, beat, tokens = Delay(m), reader.beat, self.config.tile.tokens
        m.submodules.greatest = greatest = Greatest(rows=tokens, lanes=self.lanes)
        m.submodules.total = total = Total(rows=tokens, lanes=self.lanes)
        finding = later.name("finding", beat.valid & (now == Pass.MAXIMUM))
        adding = later.name("adding", beat.valid & (now == Pass.ADD))
        dividing = later.name("dividing", beat.valid & (now == Pass.NORMALISE))
        row, fresh = beat.token, later.name("fresh", beat.first & ~job.resume)
        part, divide = SoftmaxLane.part_latency, SoftmaxLane.reciprocal_after
        found = self._lately(m, finding, greatest.latency)
        added = self._lately(m, adding, part + total.latency)
        m.d.comb += [
            greatest.input_format.eq(job.input_format), greatest.elements.eq(beat.elements[0]),
            greatest.outside.eq(beat.outside), greatest.row.eq(row), greatest.valid.eq(finding),
            greatest.fresh.eq(fresh), greatest.find.eq(now == Pass.MAXIMUM),
            total.valid.eq(added[part]), total.row.eq(later(row, part)),
            total.fresh.eq(later(fresh, part)), total.add.eq(now == Pass.ADD),
            total.divisor_row.eq(later(row, divide - Total.reciprocal_latency)),
        ]
        results = []
        for i in range(self.lanes):
            m.submodules[f"lane_{i}"] = lane = shared(SoftmaxLane(), "softmax_lane")
            m.d.comb += [
                lane.i.eq(beat.elements[0].word_select(i, 32)), lane.outside.eq(beat.outside[i]),
                lane.greatest.eq(greatest.greatest), lane.input_format.eq(job.input_format),
                lane.output_format.eq(job.output_format), lane.factor.eq(scale.factor),
                lane.factor_exponent.eq(scale.exponent), lane.reciprocal.eq(total.reciprocal),
                lane.places.eq(total.places), total.parts[i].eq(lane.part),
            ]
            results.append(lane.o)
        m.d.comb += [
            writer.results.eq(Cat(results)),
            writer.valid.eq(later(dividing, SoftmaxLane.latency, reset=True)),
        ]
        return ~reader.busy & ~Cat(found, added).any()

    @staticmethod
    def _lately(m, signal, clocks):
        """Bit k: ``signal`` k clocks ago."""
        before = Signal(clocks - 1, name=f"{signal.name}_before")
        lately = Cat(signal, before)
        m.d.sync += before.eq(lately[:-1])
        return lately
