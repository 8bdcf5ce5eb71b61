# SPDX-License-Identifier: BSD-2-Clause
"""Area of a module in standard cells: each distinct module synthesised once, then counted."""

from dataclasses import dataclass, field

from logicpim.spec.errors import ToolError

from .cells import synthesise
from .liberty import Library
from .modules import Choice
from .units import units

UM2_PER_BIT = 0.042
SOURCE = ("estimate: the bit cell of ASAP7's SRAM macros, 0.0292 um2, at an array efficiency of "
          "70 %; 8 KB are 2,750 um2")

SIZED_FOR = 0.9
"""Part of a clock that gates are sized for: the rest is a flip-flop's own."""

# Says where something was, and is none.
_NOTES = {"$scopeinfo"}
_KEPT_MEMORY = {"$mem_v2", "$mem"}


@dataclass
class Block:
    """A module and how often it is there; what it instantiates is not in it.

    Attributes
    ----------
    name : str
    count : int
    um2 : float
        Of its own cells, once.
    cells, flip_flops : int
        Once.
    memory_bits : int
        In memories, once.
    children : dict of str to int
    """

    name: str
    count: int = 0
    um2: float = 0.0
    cells: int = 0
    flip_flops: int = 0
    memory_bits: int = 0
    children: dict[str, int] = field(default_factory=dict)


def block(name: str, kinds: dict[str, int], modules, library: Library) -> Block:
    """What the cells of one module come to.

    Parameters
    ----------
    name : str
    kinds : dict of str to int
        Number of cells by type.
    modules : collection of str
        Types that are modules of the design.
    library : Library
    """
    result = Block(name)
    for kind, number in kinds.items():
        if kind in modules:
            result.children[kind] = number
        elif kind in library.areas:
            result.um2 += number * library.areas[kind]
            result.cells += number
            result.flip_flops += number * (kind in library.states)
        elif kind not in _NOTES | _KEPT_MEMORY:
            raise ToolError(f"{number} cells {kind} of {name} have no counterpart in the liberty "
                            f"files: give the libraries that hold it with --liberty too")
    return result


def count(blocks: dict[str, Block], top: str) -> list[Block]:
    """Fill in how often each block is below ``top``; those that are, parents first."""
    order, seen = [], set()

    def visit(name):
        if name not in seen:
            seen.add(name)
            for child in blocks[name].children:
                visit(child)
            order.append(blocks[name])

    visit(top)
    order.reverse()
    for entry in order:
        entry.count = 0
    blocks[top].count = 1
    for entry in order:
        for child, number in entry.children.items():
            blocks[child].count += entry.count * number
    return order


def measure(choice: Choice, library: Library, um2_per_bit: float = UM2_PER_BIT,
            note=lambda text: None) -> dict:
    """Area of a module.

    Parameters
    ----------
    choice : Choice
    library : Library
    um2_per_bit : float
        What memories are counted with.
    note : callable, optional
        Told in a line of text what takes long.

    Returns
    -------
    dict
        ``um2`` (``cells``, ``memory``, ``total``), ``cells``, ``flip_flops``, ``memory_bits`` and
        ``blocks``, all in plain values.

    Raises
    ------
    ToolError
        If the synthesis fails, a cell is unknown, or flip-flops vanish.
    """
    parts = units(choice.make, choice.name, choice.whole)
    found, bits = {}, {}
    for number, unit in enumerate(parts, 1):
        note(f"synthesising {unit.name} ({number} of {len(parts)})")
        modules = synthesise(unit, library, SIZED_FOR * 1e12 / choice.config.clock_hz)
        sequential = sum(number for kinds in modules.values() for kind, number in kinds.items()
                         if kind in library.states)
        if unit.registers and not sequential:
            raise ToolError(f"{unit.name} vanished: it has registers, and none is left after "
                            f"synthesis (is its clock a port?)")
        for name, kinds in modules.items():
            found.setdefault(name, kinds)
        bits |= unit.memory_bits
    blocks = {name: block(name, kinds, found, library) for name, kinds in found.items()}
    for name, number in bits.items():
        if name in blocks:  # else nobody needed it
            blocks[name].memory_bits = number
    order = count(blocks, choice.name)
    cells = sum(b.count * b.um2 for b in order)
    memory_bits = sum(b.count * b.memory_bits for b in order)
    if not cells and not memory_bits:
        raise ToolError(f"{choice.name} vanished: nothing is left of it after synthesis")
    memory = memory_bits * um2_per_bit
    return {
        "um2": {"cells": cells, "memory": memory, "total": cells + memory},
        "cells": sum(b.count * b.cells for b in order),
        "flip_flops": sum(b.count * b.flip_flops for b in order),
        "memory_bits": memory_bits,
        "blocks": [{"module": b.name, "count": b.count, "um2_each": b.um2,
                    "um2": b.count * b.um2, "cells": b.count * b.cells,
                    "flip_flops": b.count * b.flip_flops,
                    "memory_bits": b.count * b.memory_bits} for b in order],
    }
