# SPDX-License-Identifier: BSD-2-Clause
"""Synthesis of a unit to standard cells, done once for each unit and library."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from logicpim.sim.verilog.build import cache_folder

from . import tools
from .liberty import DONT_USE, Library
from .units import Unit

# Whatever is synthesised as such: what lies below `flatten` dissolves in its parent, and the
# sub-modules of a top that stay lose what their parents do not need.
_FLOW = """\
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
memory -nomap
opt_clean
memory_map t:$mem_v2 a:macro %d
opt -fast -full
opt -undriven -fine
techmap
opt -fast
setattr -unset init w:* a:init %i
{gating}
dfflegalize -cell $_DFF_P_ x
dfflibmap {states} {unused}
opt_clean
abc {gates} {unused} -script {abc}
opt_clean
tee -q -o stat.json stat -json
"""

# For area; then buffers for what drives much, and larger drives where a path is too long.
_ABC = ("strash", "&get -n", "&fraig -x", "&put", "scorr", "dc2", "dch -f", "amap", "topo",
        "buffer -c", "topo", "upsize -D {ps}", "dnsize -D {ps}")

GATED = 8
"""Flip-flops with one enable from which a clock gate takes the place of their multiplexers."""


def script(unit: Unit, library: Library, gates, states, period_ps: float, folder: str) -> str:
    """The Yosys script of a unit; ``gates`` and ``states`` name liberty files in ``folder``."""
    def option(name, values):
        return " ".join(f"-{name} {value}" for value in values)

    used = [pattern for pattern in DONT_USE if any("ASAP7" in cell for cell in library.areas)]
    state_files = option("liberty", (f"{folder}/{name}" for name in states))
    gating = f"clockgate {state_files} -min_net_size {GATED}"
    return _FLOW.format(
        top=unit.name,
        shape="flatten" if unit.whole else "opt\nopt_clean\n" + "opt_hier\nopt\n" * 2,
        gating=gating, states=state_files, unused=option("dont_use", used),
        gates=option("liberty", (f"{folder}/{name}" for name in gates)),
        abc="+" + ";".join(_ABC).format(ps=round(period_ps)).replace(" ", ","))


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
    base = cache_folder() / "area"
    base.mkdir(parents=True, exist_ok=True)
    gates, states = library.write(base)
    text = script(unit, library, gates, states, period_ps, "..")
    key = hashlib.sha256("\0".join((unit.rtlil, text, tools.version("yosys"))).encode())
    kept = base / f"{key.hexdigest()[:32]}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    work = Path(tempfile.mkdtemp(dir=base))
    try:
        text = script(unit, library, *_beside(base, work, gates, states), period_ps, ".")
        (work / "unit.il").write_text(unit.rtlil)
        tools.yosys(text, work)
        stat = json.loads((work / "stat.json").read_text())["modules"]
        found = {name.lstrip("\\"): {kind.lstrip("\\"): number for kind, number in
                                     module["num_cells_by_type"].items()}
                 for name, module in stat.items()}
        (work / "new.json").write_text(json.dumps(found))
        os.replace(work / "new.json", kept)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return found


def _beside(base: Path, work: Path, gates, states):
    """Liberty files again in the folder of the work: the tool sees no other."""
    for name in {*gates, *states}:
        os.link(base / name, work / name)
    return gates, states
