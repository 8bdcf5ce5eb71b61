# SPDX-License-Identifier: BSD-2-Clause
"""Who may reach which buffer: GEMM module first, then LOAD/STORE, host, functions."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from logicpim.rtl.pim.buffer import write_results
from logicpim.rtl.signatures import (
    BufferRead,
    BufferWrite,
    OperandRead,
    ResultWrite,
    cells_per_line,
)
from logicpim.spec.config import Config

from .arbiter import ReadArbiter, WriteArbiter
from .mover import buffer_lines, buffer_parts, part_bits


class BufferPorts(wiring.Component):
    """Shares the ports of the input and the temp buffer.

    The GEMM module reads both buffers and writes the temp buffer before anybody else; movers and
    host reach both, named by their select, and wait for a free clock. These share a reader and a
    writer, a mover before the host: lines are wide, and a choice for each buffer would be twice
    the wires. The function modules read the temp buffer and write the input buffer in the clocks
    that are left: they want long runs.

    Parameters
    ----------
    config : Config

    Members
    -------
    operands, prior, results : In, the GEMM module's readers and its writer
    sources, activations : In, the function modules' reader and writer (``config.functions``)
    load_select, load : In, the loader's buffer and writer
    store_select, store : In, the storer's buffer and reader
    host_select, host_read, host_write : In, the host's buffer, reader and writer
    slice : In, the broadcaster's reader of the input buffer, never refused (``config.stack``)
    input_read, input_write, temp_read, temp_write : Out, ports of the buffers
    """

    def __init__(self, config: Config):
        self.config = config

        def read(lines):
            return BufferRead(lines, config.line_bits)

        def write(lines):
            return BufferWrite(lines, config.line_bits, cells_per_line(config))

        either, part = buffer_lines(config), BufferRead(buffer_parts(config), part_bits(config))
        super().__init__({
            "operands": In(OperandRead(config)), "prior": In(read(config.temp_lines)),
            "results": In(ResultWrite(config)),
            "load_select": In(1), "load": In(write(either)),
            "store_select": In(1), "store": In(part),
            "host_select": In(1), "host_read": In(part), "host_write": In(write(either)),
            "input_read": Out(read(config.input_lines)),
            "input_write": Out(write(config.input_lines)),
            "temp_read": Out(read(config.temp_lines)),
            "temp_write": Out(write(config.temp_lines)),
            **({"sources": In(read(config.temp_lines)),
                "activations": In(write(config.input_lines))} if config.functions else {}),
            **({"slice": In(read(config.input_lines))} if config.stack else {}),
        })

    def _reader(self, m: Module, ports) -> None:
        """The storer, or else the host, at a port of each buffer's readers."""
        parts, bits = buffer_parts(self.config), part_bits(self.config)
        m.submodules.readers = reader = ReadArbiter(lines=parts, bits=bits, readers=2, urgent=True)
        connect(m, flipped(self.store), reader.i[0])
        connect(m, flipped(self.host_read), reader.i[1])
        select, low = Signal(name="read_select"), ceil_log2(self.config.line_bits // bits)
        m.d.comb += select.eq(Mux(self.store.enable, self.store_select, self.host_select))
        self._either(m, select, reader.o, reader.o.address[low:], ports)
        # Which part answers a read is known a clock earlier, when it was granted.
        answers = Signal(low + 1, name="read_answers")
        m.d.sync += answers.eq(Cat(reader.o.address[:low], select))
        m.d.comb += reader.o.data.eq(Cat(self.input_read.data, self.temp_read.data)
                                     .word_select(answers, bits))

    def _writer(self, m: Module, ports) -> None:
        """The loader, or else the host, at a port of each buffer's writers."""
        lines = buffer_lines(self.config)
        m.submodules.writers = writer = WriteArbiter(self.config, lines=lines, writers=2)
        connect(m, flipped(self.load), writer.i[0])
        connect(m, flipped(self.host_write), writer.i[1])
        select = Signal(name="write_select")
        m.d.comb += select.eq(Mux(self.load.enable.any(), self.load_select, self.host_select))
        self._either(m, select, writer.o, writer.o.address, ports)
        m.d.comb += (port.data.eq(writer.o.data) for port in ports)

    def _either(self, m: Module, select, client, line, ports) -> None:
        """A client of both buffers: its line goes to both, its enable to the selected one."""
        m.d.comb += client.ready.eq(Mux(select, *reversed([port.ready for port in ports])))
        for buffer, port in enumerate(ports):
            m.d.comb += port.address.eq(line)
            with m.If(select == buffer):
                m.d.comb += port.enable.eq(client.enable)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.input_readers = input_readers = ReadArbiter(
            lines=config.input_lines, bits=config.line_bits, readers=2)
        m.submodules.input_writers = input_writers = WriteArbiter(
            config, lines=config.input_lines, writers=1 + config.functions)
        m.submodules.temp_readers = temp_readers = ReadArbiter(
            lines=config.temp_lines, bits=config.line_bits, readers=2 + config.functions,
            urgent=True)
        m.submodules.temp_writers = temp_writers = WriteArbiter(
            config, lines=config.temp_lines, writers=2)
        operands, reader = self.operands, input_readers.i[0]
        m.d.comb += [reader.enable.eq(operands.enable), reader.address.eq(operands.address),
                     operands.ready.eq(reader.ready), operands.data.eq(reader.data),
                     operands.lost.eq(input_readers.others)]
        connect(m, flipped(self.prior), temp_readers.i[0])
        write_results(m, self.results, temp_writers.i[0])
        if config.functions:
            connect(m, flipped(self.sources), temp_readers.i[2])
            connect(m, flipped(self.activations), input_writers.i[1])
        self._reader(m, (input_readers.i[1], temp_readers.i[1]))
        self._writer(m, (input_writers.i[0], temp_writers.i[1]))
        for arbiter, port in ((self._slice(m, input_readers.o), self.input_read),
                              (input_writers.o, self.input_write),
                              (temp_readers.o, self.temp_read), (temp_writers.o, self.temp_write)):
            connect(m, arbiter, flipped(port))
        return m

    def _slice(self, m: Module, others):
        """The input buffer's reader: first the broadcaster, whose lines come after a fixed time."""
        if not self.config.stack:
            return others
        port = others.signature.create()
        m.d.comb += [
            self.slice.ready.eq(1), self.slice.data.eq(port.data), others.data.eq(port.data),
            others.ready.eq(port.ready & ~self.slice.enable),
            port.enable.eq(others.enable | self.slice.enable),
            port.address.eq(Mux(self.slice.enable, self.slice.address, others.address)),
        ]
        with m.If(self.slice.enable):
            m.d.comb += self.operands.lost.eq(1)
        return port
