# SPDX-License-Identifier: BSD-2-Clause
"""Who may reach which buffer: GEMM module first, then LOAD/STORE, host, functions."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from logicpim.rtl.signatures import BufferRead, BufferWrite, cells_per_line
from logicpim.spec.config import Config
from logicpim.spec.isa import Buffer

from .arbiter import ReadArbiter, WriteArbiter
from .mover import buffer_lines


class BufferPorts(wiring.Component):
    """Shares the ports of the input and the temp buffer.

    The GEMM module reads both buffers and writes the temp buffer before anybody else; movers and
    host reach both, named by their select, and wait for a free clock. The function modules read the
    temp buffer and write the input buffer in the clocks that are left: they want long runs.

    Parameters
    ----------
    config : Config

    Members
    -------
    operands, prior, results : In, the GEMM module's readers and its writer
    sources, activations : In, the function modules' reader and writer
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

        either = buffer_lines(config)
        super().__init__({
            "operands": In(read(config.input_lines)), "prior": In(read(config.temp_lines)),
            "results": In(write(config.temp_lines)),
            "sources": In(read(config.temp_lines)), "activations": In(write(config.input_lines)),
            "load_select": In(1), "load": In(write(either)),
            "store_select": In(1), "store": In(read(either)),
            "host_select": In(1), "host_read": In(read(either)), "host_write": In(write(either)),
            "input_read": Out(read(config.input_lines)),
            "input_write": Out(write(config.input_lines)),
            "temp_read": Out(read(config.temp_lines)),
            "temp_write": Out(write(config.temp_lines)),
            **({"slice": In(read(config.input_lines))} if config.stack else {}),
        })

    def _readers(self, m: Module, buffer: Buffer, ports) -> None:
        for port, select, client in zip(ports, (self.store_select, self.host_select),
                                        (self.store, self.host_read), strict=True):
            m.d.comb += port.address.eq(client.address)
            with m.If(select == buffer):
                m.d.comb += [port.enable.eq(client.enable), client.ready.eq(port.ready)]

    def _writers(self, m: Module, buffer: Buffer, ports) -> None:
        for port, select, client in zip(ports, (self.load_select, self.host_select),
                                        (self.load, self.host_write), strict=True):
            m.d.comb += [port.address.eq(client.address), port.data.eq(client.data)]
            with m.If(select == buffer):
                m.d.comb += [port.enable.eq(client.enable), client.ready.eq(port.ready)]

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.input_readers = input_readers = ReadArbiter(
            config, lines=config.input_lines, readers=3)
        m.submodules.input_writers = input_writers = WriteArbiter(
            config, lines=config.input_lines, writers=3)
        m.submodules.temp_readers = temp_readers = ReadArbiter(
            config, lines=config.temp_lines, readers=4, urgent=True)
        m.submodules.temp_writers = temp_writers = WriteArbiter(
            config, lines=config.temp_lines, writers=3)
        connect(m, flipped(self.operands), input_readers.i[0])
        connect(m, flipped(self.prior), temp_readers.i[0])
        connect(m, flipped(self.results), temp_writers.i[0])
        connect(m, flipped(self.sources), temp_readers.i[3])
        connect(m, flipped(self.activations), input_writers.i[2])
        self._readers(m, Buffer.INPUT, list(input_readers.i)[1:])
        self._readers(m, Buffer.TEMP, list(temp_readers.i)[1:3])
        self._writers(m, Buffer.INPUT, list(input_writers.i)[:2])
        self._writers(m, Buffer.TEMP, list(temp_writers.i)[1:])
        for arbiter, port in ((self._slice(m, input_readers.o), self.input_read),
                              (input_writers.o, self.input_write),
                              (temp_readers.o, self.temp_read), (temp_writers.o, self.temp_write)):
            connect(m, arbiter, flipped(port))

        # Which buffer answers a read is known a clock earlier, when it was granted.
        for select, client in ((self.store_select, self.store),
                               (self.host_select, self.host_read)):
            with m.If(self._was(m, select)):
                m.d.comb += client.data.eq(self.temp_read.data)
            with m.Else():
                m.d.comb += client.data.eq(self.input_read.data)
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
        return port

    @staticmethod
    def _was(m: Module, select: Signal) -> Signal:
        before = Signal()
        m.d.sync += before.eq(select)
        return before
