# SPDX-License-Identifier: BSD-2-Clause
"""How fast a module runs on an ECP5, stage by stage: Yosys, nextpnr and registers around it."""

import json
import re
import shutil
import tempfile
from pathlib import Path

from amaranth.back import rtlil

from logicpim.sim.verilog.build import cache_folder

from . import tools
from .harness import Harness
from .modules import Choice

DEVICE = ("--85k", "--speed", "6", "--package", "CABGA756")

_SCRIPT = "read_rtlil harness.il\nsynth_ecp5 -top harness -json netlist.json\n"
_RESOURCES = {"luts": "TRELLIS_COMB", "flip_flops": "TRELLIS_FF", "multipliers": "MULT18X18D",
              "memories": "DP16KD"}
# From the cell of an endpoint to the register it belongs to.
_TAIL = re.compile(r"_(?:TRELLIS|DP16KD|MULT18X18D|DPR16X4|CCU2C|LUT4|PFUMX|L6MUX)\w*.*$")
_NUMBER = re.compile(r"\$?\d+(?=$|\.|_|\$)")


def measure(choice: Choice, mhz: float = 100.0, seed: int = 1) -> dict:
    """Place and route a module on an LFE5U-85F of speed grade 6.

    Parameters
    ----------
    choice : Choice
    mhz : float
        What the tool strives for.
    seed : int
        Of the placement.

    Returns
    -------
    dict
        ``fmax_mhz``, the resources (those of the registers around it included), and
        ``stages``: for each register, by its name, and for ``(outputs)`` the nanoseconds of the
        slowest path that ends there, from clock to clock.

    Raises
    ------
    ToolError
        If a tool is missing or fails.
    """
    base = cache_folder() / "timing"
    base.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=base))
    try:
        harness = Harness(choice.make())
        (work / "harness.il").write_text(rtlil.convert(
            harness, name="harness", ports=[harness.seeds, harness.o], emit_src=False))
        tools.yosys(_SCRIPT, work)
        tools.run("nextpnr-ecp5", [
            *DEVICE, "--json", "netlist.json", "--freq", f"{mhz:g}", "--seed", str(seed),
            "--report", "report.json", "--detailed-timing-report", "--timing-allow-fail", "-q",
            "-l", "log.txt"], work)
        report = json.loads((work / "report.json").read_text())
    finally:
        shutil.rmtree(work, ignore_errors=True)
    used = {name: report["utilization"][cell]["used"] for name, cell in _RESOURCES.items()}
    return {"fmax_mhz": round(min(v["achieved"] for v in report["fmax"].values()), 1), **used,
            "stages": stages(report["detailed_net_timings"])}


def stages(nets: list[dict]) -> dict[str, float]:
    """The slowest path into each register, slowest first, from nextpnr's detailed report."""
    worst = {}
    for net in nets:
        for end in net["endpoints"]:
            if "<async>" not in (net["event"], end["event"]):
                name = register(end["cell"])
                worst[name] = max(worst.get(name, 0.0), *end["delay"])
    for around in ("harness_in", "harness_fold"):
        worst.pop(around, None)
    return {name: round(ns, 2) for name, ns in sorted(worst.items(), key=lambda x: -x[1])}


def register(cell: str) -> str:
    """Name of the register that a cell of the netlist belongs to; those of a list are one."""
    name = _TAIL.sub("", cell)
    if name.startswith("harness_out"):
        return "(outputs)"
    if "." not in name and not name.startswith("harness"):
        return "harness_in"  # Amaranth's own names for the inputs of the component
    return _NUMBER.sub("*", name.removeprefix("dut."))
