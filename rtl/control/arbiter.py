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
    lines, bits : int
        Lines of the buffer and their width.
    readers : int
    urgent : bool
        Whether the first reader is never refused.

    Members
    -------
    i : In, array of :class:`~logicpim.rtl.signatures.BufferRead`, first has priority
    o : Out, port of the buffer
    others : Out, a reader but the first has it, if the port is ready
    """

    def __init__(self, *, lines: int, bits: int, readers: int, urgent: bool = False):
        self.urgent = urgent
        port = BufferRead(lines, bits)
        super().__init__({"i": In(port).array(readers), "o": Out(port), "others": Out(1)})

    def elaborate(self, platform):
        m = Module()
        first, *others = self.i
        waited = Signal(range(PATIENCE + 1))
        waits = sum((r.enable for r in others), Const(0, 1)) != 0
        m.d.sync += waited.eq(Mux(waits & first.enable & first.ready, waited + 1, 0))
        # The last one's address needs no choice: it is there if nobody else's is. And whether the
        # port is ready is asked by readers alone: what goes to the port does not wait for it.
        m.d.comb += self.o.address.eq(self.i[-1].address)
        free = Const(1)
        for index, reader in enumerate(self.i):
            here, wins = Signal(name=f"free_{index}"), Signal(name=f"wins_{index}")
            turn = free & (waited != PATIENCE) if index == 0 and not self.urgent else free
            m.d.comb += [here.eq(turn), wins.eq(here & reader.enable),
                         reader.ready.eq(here & self.o.ready), reader.data.eq(self.o.data)]
            with m.If(wins):
                m.d.comb += self.o.enable.eq(1)
                if index < len(others):
                    m.d.comb += self.o.address.eq(reader.address)
                if index:
                    m.d.comb += self.others.eq(1)
            free = free & ~wins
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
        *_, last = self.i
        m.d.comb += [self.o.address.eq(last.address), self.o.data.eq(last.data)]
        free = Const(1)
        for index, writer in enumerate(self.i):
            here, wins = Signal(name=f"free_{index}"), Signal(name=f"wins_{index}")
            m.d.comb += [here.eq(free), wins.eq(here & writer.enable.any()),
                         writer.ready.eq(here & self.o.ready)]
            with m.If(wins):
                m.d.comb += self.o.enable.eq(writer.enable)
                if writer is not last:
                    m.d.comb += [self.o.address.eq(writer.address), self.o.data.eq(writer.data)]
            free = free & ~wins
        return m
