# SPDX-License-Identifier: BSD-2-Clause
"""Sharing a buffer port: fixed priority, decided anew each clock."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import BufferRead, BufferWrite, cells_per_line
from logicpim.spec.config import Config

PATIENCE = 31


class ReadArbiter(wiring.Component):
    """Gives the read port of a line buffer to the first of its readers that asks.

    ``ready`` of a reader is low while an earlier one asks; read data goes to all, a reader knows
    its own by the clock. When others have waited :data:`PATIENCE` clocks in a row, the first
    reader, which may ask for a line every clock, stands back for one, unless it is ``urgent``.

    Parameters
    ----------
    config : Config
    lines : int
        Lines of the buffer.
    readers : int
    urgent : bool
        Whether the first reader is never refused.

    Members
    -------
    i : In, array of :class:`~logicpim.rtl.signatures.BufferRead`, first has priority
    o : Out, port of the buffer
    """

    def __init__(self, config: Config, *, lines: int, readers: int, urgent: bool = False):
        self.urgent = urgent
        port = BufferRead(lines, config.line_bits)
        super().__init__({"i": In(port).array(readers), "o": Out(port)})

    def elaborate(self, platform):
        m = Module()
        free = self.o.ready
        first, *others = self.i
        waited = Signal(range(PATIENCE + 1))
        waits = sum((r.enable for r in others), Const(0, 1)) != 0
        m.d.sync += waited.eq(Mux(waits & first.enable & first.ready, waited + 1, 0))
        for index, reader in enumerate(self.i):
            here = Signal(name=f"free_{index}")
            turn = free & (waited != PATIENCE) if index == 0 and not self.urgent else free
            m.d.comb += [here.eq(turn), reader.ready.eq(here), reader.data.eq(self.o.data)]
            with m.If(here & reader.enable):
                m.d.comb += [self.o.enable.eq(1), self.o.address.eq(reader.address)]
            free = free & ~(here & reader.enable)
        return m


class WriteArbiter(wiring.Component):
    """Gives the write port of a line buffer to the first of its writers that asks.

    Parameters
    ----------
    config : Config
    lines : int
        Lines of the buffer.
    writers : int

    Members
    -------
    i : In, array of :class:`~logicpim.rtl.signatures.BufferWrite`, first has priority
    o : Out, port of the buffer
    """

    def __init__(self, config: Config, *, lines: int, writers: int):
        port = BufferWrite(lines, config.line_bits, cells_per_line(config))
        super().__init__({"i": In(port).array(writers), "o": Out(port)})

    def elaborate(self, platform):
        m = Module()
        free = self.o.ready
        for index, writer in enumerate(self.i):
            here = Signal(name=f"free_{index}")
            m.d.comb += [here.eq(free), writer.ready.eq(here)]
            with m.If(here & writer.enable.any()):
                m.d.comb += [self.o.enable.eq(writer.enable), self.o.address.eq(writer.address),
                             self.o.data.eq(writer.data)]
            free = here & ~writer.enable.any()
        return m
