# SPDX-License-Identifier: BSD-2-Clause
"""Synthesis of a unit to standard cells, done once for each unit and library."""

import contextlib
import hashlib
import inspect
import json
import shutil
import tempfile
from pathlib import Path

from logicpim.sim.verilog.build import cache_folder

from . import full_adders, tools
from .liberty import DONT_USE, Library
from .units import Unit

# Sub-modules of a whole unit dissolve in it; those of a top stay, and lose what nobody needs.
_FIRST = """\
read_rtlil unit.il
hierarchy -check -top {top}
proc
{shape}
opt_expr
opt_clean
check
opt -nodffe -nosdff
fsm
opt
wreduce
peepopt
opt_clean
booth
alumacc
share
opt
opt_clean
{adders}
write_rtlil middle.il
"""

# Word by word as long as full adders are to be found, then their constants out of the way: each
# round lets them reach the adders behind.
_ADDERS = "maccmap\nopt -fast\n" + """\
techmap -map split.v
opt_expr -mux_undef -undriven -fine
opt_merge
opt_clean
""" * 9

_SECOND = """\
read_rtlil middle.il
{adders}
memory -nomap
opt_clean
memory_map t:$mem_v2 a:macro %d
opt -fast -full
opt -undriven -fine
techmap
opt -fast
setattr -unset init w:* a:init %i
clockgate {states} -min_net_size {gated}
dfflegalize -cell $_DFF_P_ x
rename -wire
dfflibmap {states} {unused}
opt_clean
abc {gates} {unused} -script {abc}
opt_clean
tee -q -o stat.json stat -json
splitnets
opt_clean -purge
write_verilog -noattr -noexpr netlist.v
"""

# For area; then buffers for what drives much, and larger drives where a path is too long.
_ABC = ("strash", "&get -n", "&fraig -x", "&put", "scorr", "dc2", "dch -f", "amap", "topo",
        "buffer -c", "topo", "upsize -D {ps}", "dnsize -D {ps}")

GATED = 8
"""Flip-flops with one enable from which a clock gate takes the place of their multiplexers."""


def scripts(unit: Unit, library: Library, period_ps: float) -> tuple[str, str]:
    """The two Yosys scripts of a unit, between which the full adders are told apart."""
    def option(name, values):
        return " ".join(f"-{name} {value}" for value in values)

    unused = DONT_USE if any("ASAP7" in cell for cell in library.areas) else ()
    shape = "flatten" if unit.whole else "opt\nopt_clean\n" + "opt_hier\nopt\n" * 2
    adder = library.full_adder
    return (_FIRST.format(top=unit.name, shape=shape, adders=_ADDERS if adder else ""),
            _SECOND.format(
                adders="techmap -map full_adders.v" if adder else "", gated=GATED,
                states=option("liberty", library.with_states), unused=option("dont_use", unused),
                gates=option("liberty", library.with_gates),
                abc="+" + ";".join(_ABC).format(ps=round(period_ps)).replace(" ", ",")))


def synthesise(unit: Unit, library: Library, period_ps: float) -> dict[str, dict[str, int]]:
    """Number of cells by type, of each module of a unit; sub-modules are cells too.

    Parameters
    ----------
    unit : Unit
    library : Library
    period_ps : float
        What a path should take at most; gates are sized for it, without wires.

    Raises
    ------
    ToolError
        If Yosys fails, or nothing is left of the unit's flip-flops.
    """
    return json.loads((kept(unit, library, period_ps) / "cells.json").read_text())


def kept(unit: Unit, library: Library, period_ps: float) -> Path:
    """The folder with a unit's ``cells.json`` and ``netlist.v``, made if it is not there."""
    base = cache_folder() / "area"
    base.mkdir(parents=True, exist_ok=True)
    texts = (*scripts(unit, library, period_ps), full_adders.PREPARE,
             inspect.getsource(full_adders), *library.with_states, *library.with_gates)
    key = hashlib.sha256("\0".join((unit.rtlil, tools.version("yosys"), *texts)).encode())
    folder = base / key.hexdigest()[:32]
    if folder.exists():
        return folder
    work = Path(tempfile.mkdtemp(dir=base))
    try:
        found = _run(unit, library, period_ps, work)
        done = work / "done"
        done.mkdir()
        (done / "cells.json").write_text(json.dumps(found))
        (work / "netlist.v").rename(done / "netlist.v")
        with contextlib.suppress(OSError):  # someone else was quicker
            done.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _run(unit: Unit, library: Library, period_ps: float, work: Path) -> dict:
    first, second = scripts(unit, library, period_ps)
    library.write(work)
    (work / "unit.il").write_text(unit.rtlil)
    if library.full_adder:
        (work / "split.v").write_text(full_adders.PREPARE)
        (work / "full_adders.v").write_text(library.full_adder.techmap())
    tools.yosys(first, work, "first.ys")
    if library.full_adder:
        middle = work / "middle.il"
        middle.write_text(full_adders.alternate(middle.read_text()))
    tools.yosys(second, work, "second.ys")
    stat = json.loads((work / "stat.json").read_text())["modules"]
    return {name.lstrip("\\"): {kind.lstrip("\\"): number for kind, number in
                                module["num_cells_by_type"].items()}
            for name, module in stat.items()}
