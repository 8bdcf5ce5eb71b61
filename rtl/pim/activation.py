# SPDX-License-Identifier: BSD-2-Clause
"""The activation module: gated and plain activation functions between line buffers."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.activation_lane import ActivationLane
from logicpim.rtl.pim.activation_operand import ActivationMode
from logicpim.rtl.pim.cell_reader import CellReader
from logicpim.rtl.pim.cell_writer import CellWriter
from logicpim.rtl.pim.delay import Delay
from logicpim.rtl.pim.groups import Groups
from logicpim.rtl.signatures import BufferRead, BufferWrite, cells_per_line
from logicpim.spec.config import Config
from logicpim.spec.isa import Format


def activation_job(config: Config, *, source_lines: int, result_lines: int) -> data.StructLayout:
    """``f(gate[rows, width])`` or, if ``mode.gated``, ``f(gate) * up``; all sizes >= 1.

    gate and up lie as a GEMM leaves its results; what comes out lies as operands do.
    """
    return data.StructLayout({
        "mode": ActivationMode, "rows": unsigned(16), "width": unsigned(24),
        "gate_line": unsigned(ceil_log2(source_lines)),
        "up_line": unsigned(ceil_log2(source_lines)),
        "result_line": unsigned(ceil_log2(result_lines))})


class Activation(wiring.Component):
    """Applies an activation function to a matrix in a buffer, see docs/functions.md.

    Promises results of whole cells: +0 in the places past the end of a row, other cells
    untouched. Results are written in the order in which elements are read, so they may go to the
    place of what they come from if they are not wider.

    Parameters
    ----------
    config : Config
    lanes : int
        Elements a clock; a power of two up to ``tile.rows``.
    source_lines, result_lines : int
        Of the two buffers; by default of the temp and the input buffer.

    Members
    -------
    job : In, stream of :func:`activation_job`
    read : Out, :class:`~logicpim.rtl.signatures.BufferRead`
    write : Out, :class:`~logicpim.rtl.signatures.BufferWrite`
    done : Out, in the clock that writes the last cell

    A cell of ``rows`` elements each ``rows / lanes`` clocks, if gated one clock more, while
    reads and writes are granted; 37 clocks more for each group of tokens.
    """

    def __init__(self, config: Config, *, lanes: int = 1, source_lines: int | None = None,
                 result_lines: int | None = None):
        self.config = config
        self.lanes = lanes
        self.source_lines = source_lines or config.temp_lines
        self.result_lines = result_lines or config.input_lines
        # Cells under way at full rate: in the lanes, in the queue of the writer, being read.
        self.depth = ActivationLane.latency * lanes // config.tile.rows + 4
        super().__init__({
            "job": In(stream.Signature(activation_job(
                config, source_lines=self.source_lines, result_lines=self.result_lines))),
            "read": Out(BufferRead(self.source_lines, config.line_bits)),
            "write": Out(BufferWrite(self.result_lines, config.line_bits,
                                     cells_per_line(config))),
            "done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        config, lanes = self.config, self.lanes
        m.submodules.reader = reader = CellReader(
            config, lanes=lanes, lines=self.source_lines, matrices=2, credits=self.depth)
        m.submodules.writer = writer = CellWriter(
            config, lanes=lanes, lines=self.result_lines, depth=self.depth)
        wiring.connect(m, wiring.flipped(self.read), reader.read)
        wiring.connect(m, wiring.flipped(self.write), writer.write)
        job = Signal(self.job.payload.shape(), reset_less=True)
        groups = Groups(m, config, rows=job.rows, width=job.width)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.job.ready.eq(1), reader.load.eq(1), writer.load.eq(1)]
                m.d.sync += [job.eq(self.job.payload), groups.group.eq(0)]
                with m.If(self.job.valid):
                    m.next = "START"
            with m.State("START"):
                m.d.comb += reader.start.eq(1)
                m.next = "RUN"
            with m.State("RUN"):
                with m.If(writer.done):
                    m.d.sync += groups.group.eq(groups.group + 1)
                    m.d.comb += self.done.eq(groups.last)
                    m.next = "START"
                    with m.If(groups.last):
                        m.next = "IDLE"
        m.d.comb += [
            reader.base[0].eq(self.job.payload.gate_line), reader.both.eq(job.mode.gated),
            reader.base[1].eq(self.job.payload.up_line),
            writer.base.eq(self.job.payload.result_line),
            reader.sweep.wide.eq(job.mode.input_format == Format.FP32),
            reader.sweep.length.eq(job.width), reader.returned.eq(writer.written),
        ]
        groups.connect(m, reader, writer)
        later = Delay(m)
        m.d.comb += writer.valid.eq(later(reader.beat.valid, ActivationLane.latency, reset=True))
        results = []
        for i in range(lanes):
            m.submodules[f"lane_{i}"] = lane = shared(ActivationLane(), "activation_lane")
            gate, up = (e.word_select(i, 32) for e in reader.beat.elements)
            inside = ~reader.beat.outside[i]
            m.d.comb += [lane.mode.eq(job.mode), lane.gate.eq(Mux(inside, gate, 0)),
                         lane.up.eq(Mux(inside, up, 0))]
            results.append(lane.o)
        m.d.comb += writer.results.eq(Cat(results))
        return m
