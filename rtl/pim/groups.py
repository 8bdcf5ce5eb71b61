# SPDX-License-Identifier: BSD-2-Clause
"""A matrix in a line buffer, a group of tokens after the other."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.utils import ceil_log2

from logicpim.rtl.pim.cell_walk import cell_bits, token_bits
from logicpim.spec.config import Config


class Groups:
    """What reader and writer must know of the group they are at.

    Parameters
    ----------
    m : Module
    config : Config
    rows, width : Value
        Of the matrix, both >= 1.

    Attributes
    ----------
    group : Signal
        Number of the group; to be driven.
    last : Signal
        It is the last.
    """

    def __init__(self, m: Module, config: Config, *, rows, width):
        bits = token_bits(config)
        last_row = Signal(16)
        self.width = width
        self.group, self.last = Signal(16 - bits), Signal()
        self.last_token, self.last_cell = Signal(bits), Signal(cell_bits(config))
        m.d.comb += [
            last_row.eq(rows - 1), self.last.eq(self.group == last_row[bits:]),
            self.last_token.eq(Mux(self.last, last_row[:bits], config.tile.tokens - 1)),
            self.last_cell.eq((width - 1)[ceil_log2(config.tile.rows):]),
        ]

    def connect(self, m: Module, reader, writer) -> None:
        """Tell a :class:`~logicpim.rtl.pim.cell_reader.CellReader` and its writer."""
        m.d.comb += [
            reader.sweep.last_cell.eq(self.last_cell), reader.sweep.group.eq(self.group),
            reader.sweep.last_token.eq(self.last_token), reader.sweep.width.eq(self.width),
            writer.last_cell.eq(self.last_cell), writer.last_token.eq(self.last_token),
        ]
