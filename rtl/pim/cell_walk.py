# SPDX-License-Identifier: BSD-2-Clause
"""The order in which a matrix in a line buffer is visited: cell by cell, tokens innermost."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.signatures import cells_per_line
from logicpim.spec.config import Config


def token_bits(config: Config) -> int:
    """Width of the number of a token in its group; 0 where there is one only."""
    return ceil_log2(config.tile.tokens)


def cell_bits(config: Config) -> int:
    """Width of the number of a cell in its row."""
    return 24 - ceil_log2(config.tile.rows)


class CellWalk(wiring.Component):
    """Visits the cells of a group of tokens: all tokens' first cell, their second, and so on.

    A cell is ``tile.rows`` elements of one token. After the last it stands at the first of the
    next group, whose lines follow.

    Parameters
    ----------
    config : Config
    lines : int
        Of the buffer.
    matrices : int
        Visited together; all have the same shape.

    Members
    -------
    load : In, go to the first cell of the matrices that begin at ``base``
    base : In, a line for each matrix
    step : In, go to the next cell
    wide : In, elements have 32 bits and a cell takes two slots
    last_cell, last_token : In, numbers of the last ones
    line : Out, of the cell, for each matrix
    slot : Out, which of the parts of a line in 16 bits an element
    cell, token : Out, numbers of the cell in its row, and of the token
    last : Out, it is the group's last
    """

    def __init__(self, config: Config, *, lines: int, matrices: int = 1):
        self.config = config
        self.lines = lines
        self.matrices = matrices
        address = ceil_log2(lines)
        super().__init__({
            "load": In(1), "base": In(address).array(matrices), "step": In(1), "wide": In(1),
            "last_cell": In(cell_bits(config)), "last_token": In(token_bits(config)),
            "line": Out(address).array(matrices), "slot": Out(ceil_log2(cells_per_line(config))),
            "cell": Out(cell_bits(config)), "token": Out(token_bits(config)), "last": Out(1)})

    def elaborate(self, platform):
        m = Module()
        parts = self.config.granule_elements // self.config.tile.rows
        part = Signal(range(parts))
        last_part, last_token, last_cell = Signal(), Signal(), Signal()
        m.d.comb += [
            self.slot.eq(Cat(part, self.token)),
            last_part.eq((part | self.wide) == parts - 1),
            last_token.eq(self.token == self.last_token if len(self.token) else 1),
            last_cell.eq(self.cell == self.last_cell),
            self.last.eq(last_token & last_cell),
        ]
        with m.If(self.step):
            m.d.sync += self.token.eq(self.token + 1)
            with m.If(last_token):
                m.d.sync += [self.token.eq(0), self.cell.eq(self.cell + 1),
                             part.eq(part + Mux(self.wide, 2, 1))]
                with m.If(last_part | last_cell):
                    m.d.sync += [line.eq(line + 1) for line in self.line]
                with m.If(last_cell):
                    m.d.sync += [part.eq(0), self.cell.eq(0)]
        with m.If(self.load):
            m.d.sync += [part.eq(0), self.token.eq(0), self.cell.eq(0),
                         *(line.eq(base) for line, base in zip(self.line, self.base, strict=True))]
        return m
