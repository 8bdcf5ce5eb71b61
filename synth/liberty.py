# SPDX-License-Identifier: BSD-2-Clause
"""Liberty files: what cells there are and how large; the rest is left to the synthesis."""

import gzip
import hashlib
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from logicpim.spec.errors import ToolError

from .full_adders import KNOWN, FullAdder

_CELL = re.compile(r"^\s*cell\s*\(\s*\"?([^\s\")]+)\"?\s*\)\s*\{", re.MULTILINE)
_AREA = re.compile(r"^\s*area\s*:\s*\"?([0-9.eE+-]+)", re.MULTILINE)
_STATE = re.compile(r"^\s*(ff|ff_bank|latch|latch_bank|statetable)\s*\(", re.MULTILINE)
_GATED = re.compile(r"^\s*clock_gating_integrated_cell\s*:\s*\"?latch_posedge", re.MULTILINE)
_ROLE = re.compile(r"^\s*pin\s*\(\s*\"?(\w+)\"?\s*\)(?:(?!^\s*pin\s*\().)*?"
                   r"^\s*clock_gate_(clock|enable|test|out)_pin\s*:\s*\"?true",
                   re.MULTILINE | re.DOTALL)

DONT_USE = ("*x1p*_ASAP7*", "*xp*_ASAP7*", "DFFHQx4_ASAP7*", "DFFLQx4_ASAP7*")
"""Cells of ASAP7 to leave alone: the drives that OpenROAD's flow leaves alone too, and two
flip-flops that Yosys would take for the smaller ones beside them."""


@dataclass(frozen=True)
class Liberty:
    """One file.

    Attributes
    ----------
    name : str
        Of the file.
    sha256 : str
        Of its text, uncompressed.
    text : str
    areas : dict of str to float
        Area by cell, um2.
    states : frozenset of str
        Cells that hold state.
    clock_gates : dict of str to dict of str to str
        Cells that gate a rising clock behind a latch: their pins by role (``clock``, ``enable``,
        ``test``, ``out``).
    """

    name: str
    sha256: str
    text: str
    areas: dict[str, float]
    states: frozenset[str]
    clock_gates: dict[str, dict[str, str]]


def read(path: Path) -> Liberty:
    """Read a liberty file, plain or compressed by gzip; :class:`ToolError` if it is none."""
    try:
        raw = Path(path).read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        text = raw.decode()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "not a liberty file"
        raise ToolError(f"cannot read liberty file {path}: {reason}") from None
    starts = list(_CELL.finditer(text))
    areas, states, gates = {}, set(), {}
    ends = [*(start.start() for start in starts[1:]), len(text)][:len(starts)]
    for start, end in zip(starts, ends, strict=True):
        area = _AREA.search(text, start.end(), end)
        areas[start[1]] = float(area[1]) if area else 0.0
        if _STATE.search(text, start.end(), end):
            states.add(start[1])
        if _GATED.search(text, start.end(), end):
            gates[start[1]] = {m[2]: m[1] for m in _ROLE.finditer(text, start.end(), end)}
    if not areas:
        raise ToolError(f"no cells in {path}: a liberty file is needed")
    return Liberty(Path(path).name, hashlib.sha256(raw).hexdigest(), text, areas,
                   frozenset(states), gates)


class Library:
    """All cells of some liberty files.

    Parameters
    ----------
    paths : sequence of Path

    Attributes
    ----------
    files : list of Liberty
    areas : dict of str to float
    states : set of str
    clock_gates : dict of str to dict of str to str
    """

    def __init__(self, paths):
        # In one order, for one result; and some orders crash ABC as Yosys for WebAssembly has it.
        self.files = sorted((read(path) for path in paths), key=lambda file: file.name)
        self.areas = {name: area for file in self.files for name, area in file.areas.items()}
        self.states = {name for file in self.files for name in file.states}
        self.clock_gates = {name: pins for file in self.files
                            for name, pins in file.clock_gates.items()}
        if not self.states:
            raise ToolError("no flip-flop in the liberty files: give the file of the sequential "
                            "cells with --liberty too")
        if self.areas.keys() == self.states:
            raise ToolError("nothing but flip-flops in the liberty files: give those of the gates "
                            "with --liberty too")

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 by file name."""
        return {file.name: file.sha256 for file in self.files}

    @property
    def with_gates(self) -> list[str]:
        """File names, as :meth:`write` gives them, of files with gates."""
        return [_name(file) for file in self.files if file.areas.keys() - file.states]

    @property
    def with_states(self) -> list[str]:
        """Those of files with flip-flops."""
        return [_name(file) for file in self.files if file.states]

    @property
    def full_adder(self) -> FullAdder | None:
        """A full adder of the library."""
        return next((cell for cell in KNOWN if cell.name in self.areas), None)

    def write(self, folder: Path) -> None:
        """Write the files into ``folder``, uncompressed."""
        for file in self.files:
            (folder / _name(file)).write_text(file.text)


def _name(file: Liberty) -> str:
    return f"{file.sha256[:16]}.lib"
