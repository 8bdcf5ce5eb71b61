# SPDX-License-Identifier: BSD-2-Clause
"""A line buffer: the input and the temp buffer of a channel."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.generate.share import shared
from logicpim.rtl.signatures import BufferRead, BufferWrite


class LineMemory(wiring.Component):
    """Lines of equal cells, one read and one write port. A module that a macro can replace.

    Parameters
    ----------
    lines, line_bits, cells : int

    Members
    -------
    read_enable, read_address : In
    read_data : Out, from the clock after ``read_enable`` until the next read's. Reading a line
        in the clock that writes it gives either content.
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
        m.submodules.memory = memory = Memory(shape=self.line_bits, depth=self.lines, init=[])
        read = memory.read_port()
        write = memory.write_port(granularity=self.line_bits // self.cells)
        m.d.comb += [
            read.en.eq(self.read_enable), read.addr.eq(self.read_address),
            self.read_data.eq(read.data),
            write.en.eq(self.write_enable), write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
        ]
        return m


class LineBuffer(wiring.Component):
    """A buffer with one reader and one writer, always ready for both.

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
        m.d.comb += [
            self.read.ready.eq(1), self.write.ready.eq(1),
            memory.read_enable.eq(self.read.enable), memory.read_address.eq(self.read.address),
            self.read.data.eq(memory.read_data),
            memory.write_enable.eq(self.write.enable),
            memory.write_address.eq(self.write.address), memory.write_data.eq(self.write.data),
        ]
        return m
