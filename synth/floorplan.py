# SPDX-License-Identifier: BSD-2-Clause
"""A floor plan for an LFE5U-85F: places of a channel's block RAM and of its multipliers.

These lie in a few rows across the whole device. nextpnr moves each to the next free place in such
a row: slices of a buffer end up anywhere, and most wires of a channel in the same few rows. Here
they are fixed before:

- Bits at the same place of a beat meet in an operand bank, in the DRAM's words, in the host's
  granules: their block RAMs lie in the same columns. So do those that the drain chooses from.
- Each token has a row of block RAM. Tokens that are written the same are neighbours.
- The multipliers of a processing unit are neighbours, units of a token in a row of multipliers.

All else is the placer's, which has less to decide then and more room to do it in.
"""

import copy
import re
from collections import defaultdict

from logicpim.spec.config import Config

GROUPS = (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)
"""Columns, as nextpnr numbers them, where four places of either kind begin."""

SITES = 4 * len(GROUPS)
"""Of a row."""

RAM_ROWS, MULTIPLIER_ROWS = (22, 46, 70, 82), (10, 34, 58)

RAM, MULTIPLIER = "DP16KD", "MULT18X18D"

LINE = re.compile(r"(input|temp)_buffer\.lines\.cell_(\d+)\.\d+\.(\d+)$")
BANK = re.compile(r"\.bank_\d+_\d+\.memory\.\d+\.(\d+)$")
QUEUE = re.compile(r"\.storage\.\d+\.(\d+)$")
PRODUCT = re.compile(r"\.pu_(\d+)_(\d+)\.dot\.product_product_(\d+)")


class Sites:
    """The places of one kind.

    Parameters
    ----------
    rows : sequence of int
    names : four of (int, str)
        Columns from the first of a group on, and what the place there is called.
    """

    def __init__(self, rows, names):
        self.names = names
        self.free = {y: set(range(SITES)) for y in rows}

    def take(self, row: int, near: float) -> str | None:
        """The free place that is nearest in this row, or else in the next; None if none is."""
        for y in sorted(self.free, key=lambda y: abs(y - row)):
            if self.free[y]:
                site = min(self.free[y], key=lambda s: (abs(s - near), s))
                self.free[y].remove(site)
                column, name = self.names[site % 4]
                return f"X{GROUPS[site // 4] + column}/Y{y}/{name}"
        return None


class Plan:
    """What is at home where.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config):
        self.config = config
        tile, part = config.tile, config.word_bits // config.granule_bits
        self.beat = 16 * tile.depth
        order = sorted(range(tile.tokens), key=lambda t: (t % part, t))
        self.rank = {token: rank for rank, token in enumerate(order)}
        self.rams = Sites(RAM_ROWS, [(2 * i, f"EBR{i}") for i in range(4)])
        self.multipliers = Sites(MULTIPLIER_ROWS, [(i, f"MULT18_{i}") for i in (0, 1, 4, 5)])

    def column(self, bit: float) -> float:
        """Where a bit of a granule is at home, in places from the left.

        By its place in a beat; first by the row whose binary32 result it is a bit of.
        """
        rows = min(self.config.tile.rows, self.beat // 32)
        turn, bit = divmod(bit % self.beat, 32 * rows)
        row, bit = divmod(bit, 32)
        return (row * self.beat / rows + turn * 32 + bit) / self.beat * SITES

    def line(self, temp: bool, bit: float) -> str | None:
        """A place for a slice of the temp or the input buffer, of the line's ``bit``."""
        token, bit = divmod(bit, self.config.granule_bits)
        # Four slices have the same home: of both beats, in both buffers.
        nth = 2 * (bit >= self.beat) + temp
        first, end = (len(RAM_ROWS) * (self.rank[token] + i) // len(self.rank) for i in (0, 1))
        rows = RAM_ROWS[first:max(end, first + 1)]
        apart = SITES * 32 / self.beat / 4
        return self.rams.take(rows[nth * len(rows) // 4], self.column(bit) + (nth - 1.5) * apart)

    def product(self, token: int, row: int, element: int) -> str | None:
        """A place for a multiplier of a processing unit."""
        tile = self.config.tile
        units, most = tile.tokens * tile.rows, SITES // tile.depth
        rows = MULTIPLIER_ROWS[1:] if units <= 2 * most else MULTIPLIER_ROWS
        here = -(-units // len(rows))           # units in a row
        at, nth = divmod(self.rank[token] * tile.rows + row, here)
        return self.multipliers.take(
            rows[at], (nth + 0.5) * SITES / here + element - (tile.depth - 1) / 2)


def place(modules: dict, top: str, config: Config) -> int:
    """Fixes what it knows in the modules of a netlist of Yosys; returns how many cells that is."""
    plan, lines, others = Plan(config), [], []
    cells = dict(_separate(modules, top, ""))
    slices = defaultdict(int)
    for path in cells:
        slices[path.rpartition(".")[0]] += 1
    fixed = 0

    def fix(path, site):
        nonlocal fixed
        if site is not None:
            cells[path]["attributes"]["BEL"] = site
            fixed += 1

    for path, cell in cells.items():
        group = path.rpartition(".")[0]
        if cell["type"] == MULTIPLIER and (found := PRODUCT.search(path)):
            fix(path, plan.product(*map(int, found.groups())))
        elif cell["type"] == RAM and (found := LINE.search(path)):
            bits = 16 * config.tile.rows
            middle = (int(found[3]) + 0.5) / slices[group] * bits
            lines.append((int(found[2]) * bits + middle, found[1] == "temp", path))
        elif cell["type"] == RAM and (found := BANK.search(path) or QUEUE.search(path)):
            middle = (int(found[1]) + 0.5) / slices[group] * config.granule_bits
            others.append((bool(QUEUE.search(path)), plan.column(middle), path))
    for bit, temp, path in sorted(lines):
        fix(path, plan.line(temp, bit))
    for nth, (_, column, path) in enumerate(sorted(others)):
        fix(path, plan.rams.take(RAM_ROWS[nth % len(RAM_ROWS)], column))
    return fixed


def _separate(modules: dict, name: str, path: str):
    """(path, cell) of each cell to be fixed, none shared: instances of what holds them differ."""
    for inner, cell in list(modules[name]["cells"].items()):
        here = f"{path}.{inner}" if path else inner
        if cell["type"] in (RAM, MULTIPLIER):
            yield here, cell
        elif _holds(modules, cell["type"]):
            own = f"{cell['type']}.{here}"
            modules[own] = copy.deepcopy(modules[cell["type"]])
            cell["type"] = own
            yield from _separate(modules, own, here)


def _holds(modules: dict, name: str) -> bool:
    """Whether there is a cell to be fixed in a module."""
    cells = modules[name]["cells"].values() if name in modules else ()
    return any(cell["type"] in (RAM, MULTIPLIER) or _holds(modules, cell["type"])
               for cell in cells)
