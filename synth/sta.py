# SPDX-License-Identifier: BSD-2-Clause
"""Static timing in standard cells, stage by stage, by OpenSTA where it is installed."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from logicpim.sim.verilog.build import cache_folder
from logicpim.spec.errors import ToolError

from .area import SIZED_FOR
from .cells import kept
from .liberty import Library
from .modules import Choice
from .units import units

_SCRIPT = """\
{read}
read_verilog netlist.v
link_design {top}
create_clock -name clk -period {period} [get_ports clk]
set_input_delay 0 -clock clk [all_inputs]
set_output_delay 0 -clock clk [all_outputs]
report_checks -path_delay max -format end -group_count {most} -endpoint_count 1
exit
"""
_ENDS = 20_000
_END = re.compile(r"^(\S+)(?: \((.*?)\))? +(-?[\d.]+) +(-?[\d.]+) +(-?[\d.]+) \(", re.MULTILINE)
_NUMBER = re.compile(r"\d+(?=$|\.|_|\$)")


def measure(choice: Choice, library: Library) -> dict[str, dict[str, float]]:
    """Nanoseconds of the slowest path into each register, by distinct module.

    From clock to clock, set-up time included; inputs come and outputs go at the clock's edge; no
    wires. Only the flip-flops and gates of a module are timed, not what it instantiates.

    Parameters
    ----------
    choice : Choice
    library : Library
    """
    require()
    period = 1e12 / choice.config.clock_hz
    found = {}
    for unit in units(choice.make, choice.name, choice.whole):
        if unit.registers:
            netlist = kept(unit, library, SIZED_FOR * period) / "netlist.v"
            found[unit.name] = _stages(netlist, unit.name, library, period)
    return found


def _stages(netlist: Path, top: str, library: Library, period: float) -> dict[str, float]:
    report = run(_SCRIPT, netlist.read_text(), library, top=top, period=period, most=_ENDS)
    return stages(report, period)


def require() -> None:
    """:class:`ToolError` if OpenSTA is missing."""
    if not shutil.which("sta"):
        raise ToolError("OpenSTA (sta) is missing: apt-get install opensta")


def run(script: str, netlist: str, library: Library, **values) -> str:
    """What OpenSTA prints for a script, in which ``read`` stands for reading the liberty files.

    Parameters
    ----------
    script : str
        Its fields are filled with ``values``.
    netlist : str
        The file ``netlist.v`` beside it.
    library : Library

    Raises
    ------
    ToolError
        If OpenSTA is missing or reports an error.
    """
    require()
    work = Path(tempfile.mkdtemp(dir=cache_folder() / "area"))
    try:
        library.write(work)
        names = sorted({*library.with_gates, *library.with_states})
        # This reader knows no signed wires.
        (work / "netlist.v").write_text(netlist.replace("wire signed", "wire"))
        (work / "script.tcl").write_text(script.format(
            read="\n".join(f"read_liberty {name}" for name in names), **values))
        done = subprocess.run(["sta", "-no_splash", "-exit", "script.tcl"], cwd=work, text=True,
                              capture_output=True, check=False)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    errors = [line for line in (done.stdout + done.stderr).splitlines()
              if line.startswith("Error")]
    if errors or done.returncode:
        raise ToolError(f"sta failed: {(errors or [f'status {done.returncode}'])[0]}")
    return done.stdout


def stages(report: str, period: float) -> dict[str, float]:
    """Nanoseconds by register, slowest first, from a report of endpoints; ``period`` in ps."""
    worst = {}
    for pin, _, _, _, slack in _END.findall(report):
        instance, slash, _ = pin.rpartition("/")
        name = _NUMBER.sub("*", instance.replace("/", ".").split("$_")[0].split("[")[0]) \
            if slash else "(outputs)"
        worst[name] = max(worst.get(name, 0.0), (period - float(slack)) / 1000)
    return {name: round(ns, 3) for name, ns in sorted(worst.items(), key=lambda x: -x[1])}
