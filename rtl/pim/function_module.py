# SPDX-License-Identifier: BSD-2-Clause
"""What the activation and the softmax module have in common: a job between two line buffers."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.pim.cell_reader import CellReader
from logicpim.rtl.pim.cell_writer import CellWriter
from logicpim.rtl.signatures import BufferRead, BufferWrite, cells_per_line
from logicpim.spec.config import Config


class FunctionModule(wiring.Component):
    """Ports, and the reader and the writer behind them.

    Parameters
    ----------
    config : Config
    lanes : int
        Elements a clock; a power of two up to ``tile.rows``.
    depth : int
        Cells under way at full rate: in the lanes, in the queue of the writer, being read.
    job : callable
        Layout of a job, from ``config``, ``source_lines`` and ``result_lines``.
    source_lines, result_lines : int, optional
        Of the two buffers; by default of the temp and the input buffer.

    Members
    -------
    job : In, stream of jobs
    read : Out, :class:`~logicpim.rtl.signatures.BufferRead`
    write : Out, :class:`~logicpim.rtl.signatures.BufferWrite`
    done : Out, a pulse not before the clock that writes a job's last cell
    """

    def __init__(self, config: Config, *, lanes: int, depth: int, job,
                 source_lines: int | None, result_lines: int | None):
        self.config = config
        self.lanes = lanes
        self.depth = depth
        self.source_lines = source_lines or config.temp_lines
        self.result_lines = result_lines or config.input_lines
        super().__init__({
            "job": In(stream.Signature(job(config, source_lines=self.source_lines,
                                           result_lines=self.result_lines))),
            "read": Out(BufferRead(self.source_lines, config.line_bits)),
            "write": Out(BufferWrite(self.result_lines, config.line_bits,
                                     cells_per_line(config))),
            "done": Out(1)})

    def _ends(self, m: Module, *, matrices: int) -> tuple[CellReader, CellWriter]:
        """The reader, with a credit for each cell of the writer's queue, and the writer."""
        m.submodules.reader = reader = CellReader(
            self.config, lanes=self.lanes, lines=self.source_lines, matrices=matrices,
            credits=self.depth)
        m.submodules.writer = writer = CellWriter(
            self.config, lanes=self.lanes, lines=self.result_lines, depth=self.depth)
        wiring.connect(m, wiring.flipped(self.read), reader.read)
        wiring.connect(m, wiring.flipped(self.write), writer.write)
        m.d.comb += reader.returned.eq(writer.written)
        return reader, writer
