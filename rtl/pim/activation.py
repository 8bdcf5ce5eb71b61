# SPDX-License-Identifier: BSD-2-Clause
"""The activation module: gated and plain activation functions between line buffers."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data
from amaranth.utils import ceil_log2

from logicpim.rtl.generate.share import shared
from logicpim.rtl.pim.activation_lane import ActivationLane
from logicpim.rtl.pim.activation_operand import ActivationMode
from logicpim.rtl.pim.delay import Delay
from logicpim.rtl.pim.function_module import FunctionModule
from logicpim.rtl.pim.groups import Groups
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


class Activation(FunctionModule):
    """Applies an activation function to a matrix in a buffer, see docs/functions.md.

    Promises results of whole cells: +0 in the places past the end of a row, other cells
    untouched. Results are written in the order in which elements are read, so they may go to the
    place of what they come from if they are not wider.

    Parameters
    ----------
    config : Config
    lanes : int
    source_lines, result_lines : int, optional
        As of :class:`~logicpim.rtl.pim.function_module.FunctionModule`, likewise the members.

    A cell of ``rows`` elements each ``rows / lanes`` clocks, if gated one clock more, while
    reads and writes are granted; 37 clocks more for each group of tokens.
    """

    def __init__(self, config: Config, *, lanes: int = 1, source_lines: int | None = None,
                 result_lines: int | None = None):
        super().__init__(config, lanes=lanes, job=activation_job, source_lines=source_lines,
                         depth=ActivationLane.latency * lanes // config.tile.rows + 4,
                         result_lines=result_lines)

    def elaborate(self, platform):
        m = Module()
        config, lanes = self.config, self.lanes
        reader, writer = self._ends(m, matrices=2)
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
            reader.sweep.length.eq(job.width),
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
