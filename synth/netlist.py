# SPDX-License-Identifier: BSD-2-Clause
"""The netlist of a channel, in standard cells or in those of an ECP5, with models to simulate it.

Ports are those of the generated Verilog, so that what simulates that simulates the netlist too.
"""

import contextlib
import hashlib
import re
import shutil
import tempfile
from pathlib import Path

from logicpim.rtl.generate.artefacts import FILE_LIST, WAIVER, artefacts
from logicpim.sim.verilog.build import built, cache_folder
from logicpim.spec.config import Config
from logicpim.spec.errors import ToolError

from . import ecp5_models, tools
from .area import SIZED_FOR
from .cells import kept
from .liberty import Library
from .modules import choose
from .units import units

TOP = "channel"

_CELLS = """\
{read}
proc
opt_clean
write_verilog -noattr cells.v
"""
_ECP5 = f"""\
read_verilog {{files}}
hierarchy -check -top {TOP}
synth_ecp5 -top {TOP}
splitnets
clean
tee -q -o stat.json stat -json
write_verilog -noattr netlist.v
"""
_GATE = """\
module {name}(input {clock}, {enable}, {test}, output {out});
  reg on;
  always @* if (!{clock}) on = {enable} | {test};
  assign {out} = {clock} & on;
endmodule
"""
_MODULE = re.compile(r"^module (\w+)\b.*?^endmodule\n", re.MULTILINE | re.DOTALL)
INSTANCE = re.compile(r"^  (\w+) (?:#\(|\S+ +\(|\S+\()", re.MULTILINE)


def standard_cells(config: Config, library: Library, note=lambda text: None) -> dict[str, str]:
    """Verilog by file name: the netlist in the parts that ``logicpim area`` counts, and the cells.

    A cell does what its liberty file says, as Yosys reads it; a clock gate is a latch before an
    AND. Memories that ``area`` counts by the bit stay memories.

    Parameters
    ----------
    config : Config
    library : Library
    note : callable, optional
        Told in a line of text what takes long.
    """
    choice = choose(config, TOP)
    parts = units(choice.make, choice.name, choice.whole)
    files = {}
    for number, unit in enumerate(parts, 1):
        note(f"synthesising {unit.name} ({number} of {len(parts)})")
        folder = kept(unit, library, SIZED_FOR * 1e12 / config.clock_hz)
        files[f"{unit.name}.v"] = (folder / "netlist.v").read_text()
    used = {kind for text in files.values() for kind in INSTANCE.findall(text)}
    return files | {"cells.v": models(library, used & library.areas.keys())}


def models(library: Library, used: set[str]) -> str:
    """Verilog of cells; :class:`ToolError` where the files do not say what one does."""
    with _work() as folder:
        library.write(folder)
        tools.yosys(_CELLS.format(read="\n".join(
            f"read_liberty -ignore_miss_func {name}"
            for name in sorted({*library.with_gates, *library.with_states}))), folder)
        text = (folder / "cells.v").read_text()
    models = {m[1]: m[0] for m in _MODULE.finditer(text)}
    models |= {name: _GATE.format(name=name, **pins)
               for name, pins in library.clock_gates.items()}
    if unknown := sorted(used - models.keys()):
        raise ToolError(f"what {unknown[0]} does is not in the liberty files: a function, a "
                        f"flip-flop or a clock gate behind a latch is needed")
    return "".join(models[name] for name in sorted(used))


def ecp5(config: Config, note=lambda text: None) -> dict[str, str]:
    """Verilog by file name: the netlist in cells of an ECP5, multipliers and block memories too.

    What they do say Yosys' models and :mod:`~logicpim.synth.ecp5_models`.

    Parameters
    ----------
    config : Config
    note : callable, optional
        Told in a line of text what takes long.
    """
    texts, _ = artefacts(config.replace(name="model"))
    names = texts[FILE_LIST].split()
    key = hashlib.sha256("\0".join(
        [tools.version("yosys"), _ECP5, *(texts[name] for name in names)]).encode())
    folder = cache_folder() / "netlist" / f"ecp5-{key.hexdigest()[:32]}"
    if not folder.exists():
        note("synthesising the channel for an ECP5")
        with _work() as work:
            for name in names:
                (work / name).write_text(texts[name])
            tools.yosys(_ECP5.format(files=" ".join(names)), work)
            done = work / "done"
            done.mkdir()
            (work / "netlist.v").rename(done / "netlist.v")
            (work / "stat.json").rename(done / "stat.json")
            with contextlib.suppress(OSError):  # someone else was quicker
                done.rename(folder)
    return {"netlist.v": ecp5_models.spelled_out((folder / "netlist.v").read_text()),
            "ecp5_cells.v": ecp5_models.text()}


def simulator(config: Config, files: dict[str, str], name: str, note=None,
              activity: bool = False) -> Path:
    """The library that simulates a netlist, for :class:`~logicpim.sim.verilog.VerilatorDevice`.

    Parameters
    ----------
    config : Config
    files : dict of str to str
        As :func:`standard_cells` and :func:`ecp5` give them.
    name : str
        What people are told that is built.
    note : callable, optional
    activity : bool
        It can count how often nets change.
    """
    texts, _ = artefacts(config.replace(name="model"))
    texts = {"logicpim.h": texts["logicpim.h"], WAIVER: texts[WAIVER], **files,
             FILE_LIST: "".join(f"{name}\n" for name in files if name.endswith(".v"))}
    with _work() as folder:
        for file, text in texts.items():
            (folder / file).write_text(text)
        # Gates by the hundred thousand: a compiler that tries harder takes many times as long.
        return built(config, folder, name, note, fast=("-O1",), activity=activity)


@contextlib.contextmanager
def _work():
    """A folder for the time being."""
    base = cache_folder() / "netlist"
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
