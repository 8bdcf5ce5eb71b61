# SPDX-License-Identifier: BSD-2-Clause
"""A line buffer: the input and the temp buffer of a channel."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.generate.share import shared
from logicpim.rtl.signatures import BufferRead, BufferWrite


class LineMemory(wiring.Component):
    """Lines of equal cells, one read and one write port. A module that a macro can replace.

    A memory for each cell: block RAM promises nothing of what is read of a place in the clock that
    writes it, and the other cells of a line must be read right then.

    Parameters
    ----------
    lines, line_bits, cells : int

    Members
    -------
    read_enable, read_address : In
    read_data : Out, from the clock after ``read_enable`` until the next read's. Of a cell that is
        written in the clock of ``read_enable`` it is undefined.
    write_enable : In, a bit for each cell
    write_address, write_data : In
    """

    def __init__(self, *, lines: int, line_bits: int, cells: int):
        self.lines = lines
        self.line_bits = line_bits
        self.cells = cells
        address = ceil_log2(lines)
        super().__init__({
            "read_enable": In(1), "read_address": In(address), "read_data": Out(line_bits),
            "write_enable": In(cells), "write_address": In(address), "write_data": In(line_bits)})

    def elaborate(self, platform):
        m = Module()
        bits = self.line_bits // self.cells
        for index in range(self.cells):
            memory = Memory(shape=bits, depth=self.lines, init=[])
            m.submodules[f"cell_{index}"] = memory
            read, write = memory.read_port(), memory.write_port()
            m.d.comb += [
                read.en.eq(self.read_enable), read.addr.eq(self.read_address),
                self.read_data.word_select(index, bits).eq(read.data),
                write.en.eq(self.write_enable[index]), write.addr.eq(self.write_address),
                write.data.eq(self.write_data.word_select(index, bits)),
            ]
        return m


class LineBuffer(wiring.Component):
    """A buffer with one reader and one writer, always ready for both.

    What is written goes through a register: from whoever has the port to memories all over a
    channel is far. Until the second clock behind that of the write the cell must not be read.

    Parameters
    ----------
    lines, line_bits, cells : int
        As of the signatures.

    Members
    -------
    read : In, :class:`~logicpim.rtl.signatures.BufferRead`
    write : In, :class:`~logicpim.rtl.signatures.BufferWrite`
    """

    def __init__(self, *, lines: int, line_bits: int, cells: int):
        self.lines = lines
        self.line_bits = line_bits
        self.cells = cells
        super().__init__({"read": In(BufferRead(lines, line_bits)),
                          "write": In(BufferWrite(lines, line_bits, cells))})

    def elaborate(self, platform):
        m = Module()
        memory = shared(LineMemory(lines=self.lines, line_bits=self.line_bits, cells=self.cells),
                        "line_memory")
        m.submodules.lines = memory
        enable = Signal.like(self.write.enable, name="enable")
        address, data = (Signal.like(getattr(self.write, name), name=name, reset_less=True)
                         for name in ("address", "data"))
        m.d.sync += [enable.eq(self.write.enable), address.eq(self.write.address),
                     data.eq(self.write.data)]
        m.d.comb += [
            self.read.ready.eq(1), self.write.ready.eq(1),
            memory.read_enable.eq(self.read.enable), memory.read_address.eq(self.read.address),
            self.read.data.eq(memory.read_data),
            memory.write_enable.eq(enable), memory.write_address.eq(address),
            memory.write_data.eq(data),
        ]
        return m


def write_results(m: Module, results, port) -> None:
    """Connect a :class:`~logicpim.rtl.signatures.ResultWrite` to a whole line's writer."""
    times = len(port.data) // len(results.data)
    m.d.comb += [port.enable.eq(results.enable), port.address.eq(results.address),
                 port.data.eq(results.data.replicate(times))]
