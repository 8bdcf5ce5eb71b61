# SPDX-License-Identifier: BSD-2-Clause
"""From a board to its bitstream: Yosys, nextpnr and the packer of its FPGA's family."""

import json
import re
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from logicpim.rtl.generate.share import sharing, to_rtlil
from logicpim.rtl.prototype import Prototype
from logicpim.spec.config import Config
from logicpim.spec.errors import ToolError
from logicpim.spec.link import BAUD

from . import tools
from .boards.base import Board, BoardTop
from .floorplan import place
from .spread import spread

TOP, CORE = "top", "prototype"

# Around block RAM that is read with a clock, Yosys builds registers for a place that is read and
# written at once. None of ours needs them: Amaranth's FIFOs (`storage`) never do so, and of a bank
# of the DRAM or a cell of a line buffer nobody uses what it then gives.
MEMORIES = """\
setattr -set no_rw_check 1 m:storage
setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 r:CLK_ENABLE=1 %i r:MEMID=*storage %i
setparam -set COLLISION_X_MASK 1'1 logicpim_bank_memory*/t:$memrd_v2
setparam -set COLLISION_X_MASK 1'1 logicpim_line_memory*/t:$memrd_v2
"""


# What a wire costs that another net has, in nextpnr's router2: 4 in the first round and 4 more in
# each, where 0.5 and 2 more are usual. A net that can go round does so at once: by the usual prices
# router2 stood still on most channels of 32 multipliers (docs/fpga.md).
ROUTER2 = {"router2/initCurrCongWeight": "4", "router2/currCongWeightMult": "4",
           "router2/estimateWeight": "1"}

# Of the board's clock, what nextpnr is asked for. It leaves a wire on whatever way round is just
# fast enough, so that what is asked for is reached by little, and what is reached is a matter of
# luck; asked for more, it routes such wires again, for 1,500 rounds where that cannot be had.
ASKED = 1.1

# Rounds of router2 in which each net had its own wires and some missed the clock, until no more
# can be hoped for; and rounds in all.
LATE_ROUNDS, ROUNDS = 20, 1000
ROUND = re.compile(r"iter=\d+ .*overused=(\d+)(?:.*tmgfail=(\d+))?")


@dataclass(frozen=True)
class Family:
    """How a family of FPGAs is synthesised, placed and packed.

    Attributes
    ----------
    synthesis : str
        The command of Yosys.
    nextpnr, packer : str
        Tools of :mod:`.tools`.
    constraints, bitstream : str
        Suffixes of the file with pins and of the result.
    clock : str
        What asks for a clock of ``hz`` in the former, where nextpnr's option does not reach it.
    arguments : callable
        From a platform, the arguments of nextpnr beside those that all have.
    pack : callable
        From a platform, those of the packer.
    resources : dict
        Name in a report to the cells that count, each with its weight.
    settings : dict
        Of nextpnr, those that have no option: they travel in the netlist.
    place : callable or None
        Fixes cells of a channel in the netlist.
    spread : callable or None
        Adds LUTs to the netlist that keep a placement from being dense; returns their number.
    """

    synthesis: str
    nextpnr: str
    packer: str
    constraints: str
    bitstream: str
    clock: str
    arguments: Callable
    pack: Callable
    resources: dict[str, dict[str, int]]
    settings: dict[str, str] = field(default_factory=dict)
    place: Callable | None = None
    spread: Callable | None = None


FAMILIES = {
    "ecp5": Family(
        synthesis="synth_ecp5", nextpnr="nextpnr-ecp5", packer="ecppack", constraints="lpf",
        bitstream="bit", clock='FREQUENCY NET "pll_clk" {hz} HZ;\n',
        # Of a channel this placer makes less wire than the default one. All boards of the family
        # have an LFE5U-85F, which `spread` is for.
        arguments=lambda p: [p._nextpnr_device_options[p.device], "--package",
                             p._nextpnr_package_options[p.package].upper(), "--speed", p.speed,
                             "--placer", "static", "--router", "router2", "--tmg-ripup",
                             "--lpf", "top.lpf", "--textcfg", "placed"],
        pack=lambda p: ["--compress", "--input", "placed", "--bit", "top.bit"],
        resources={"luts": {"TRELLIS_COMB": 1}, "flip_flops": {"TRELLIS_FF": 1},
                   "dsps": {"MULT18X18D": 1}, "brams": {"DP16KD": 1}},
        settings=ROUTER2, place=place, spread=spread),
    "gw5a": Family(
        # Amaranth's pins bring buffers; Yosys would give some to the modules that it keeps too.
        synthesis="synth_gowin -family gw5a -noiopads",
        nextpnr="nextpnr-himbaechel-gowin", packer="gowin_pack", constraints="cst",
        bitstream="fs", clock="",
        arguments=lambda p: ["--device", p.part, "--vopt", f"family={p.family}", "--vopt",
                             "cst=top.cst", "--router", "router2", "--write", "placed.json"],
        pack=lambda p: ["-d", p.family, "-o", "top.fs", "placed.json"],
        resources={"luts": {"LUT4": 1}, "flip_flops": {"DFF": 1},
                   "dsps": {"MULT12X12": 1}, "brams": {"BSRAM": 1}}),
}


def build(board: Board, config: Config, work: Path, seed: int, note: Callable,
          progress: Callable = lambda text: None) -> dict:
    """A bitstream in the folder ``work``.

    Parameters
    ----------
    work : Path
        An empty folder; `top.*` of the family is the bitstream, afterwards.
    seed : int
        Of the placement.
    note, progress : callable
        Told of each step, and how far it has come.

    Returns
    -------
    dict
        ``fmax_mhz`` and the resources used, each with ``_of``, what the FPGA has.

    Raises
    ------
    ToolError
        If a tool is missing or fails, or the clock is missed.
    """
    family = FAMILIES[board.family]
    for tool in ("yosys", family.nextpnr, family.packer):
        tools.version(tool)
    note(f"generating {config.name}")
    platform = board.platform()
    shared = _write(board, config, platform, family, work)
    note("synthesising with Yosys")
    with _followed(work / "script.ys.log", progress):
        tools.yosys(_script(shared, family, board.clock_hz), work)
    left_out = _prepare(work / "netlist.json", family, config)
    note(f"placing and routing for {board.clock_hz / 1e6:g} MHz or more")
    with _followed(work / "nextpnr.log", progress):
        tools.run(family.nextpnr, [
            *family.arguments(platform), "--json", "netlist.json", "--freq",
            f"{ASKED * board.clock_hz / 1e6:g}", "--seed", str(seed), "--report", "report.json",
            "--timing-allow-fail", "-q", "-l", "nextpnr.log"], work,
            lambda: _in_vain(work / "nextpnr.log", board))
    report = json.loads((work / "report.json").read_text())
    found = _figures(report, family)
    found["luts"] -= left_out
    if found["fmax_mhz"] * 1e6 < board.clock_hz:
        raise ToolError(f"{board.name} reaches {found['fmax_mhz']} MHz of the "
                        f"{board.clock_hz / 1e6:g} MHz it is to run at: try another --seed, or a "
                        f"smaller configuration (--set)")
    note("packing the bitstream")
    tools.run(family.packer, family.pack(platform), work)
    return found


def _in_vain(log: Path, board: Board) -> str | None:
    """Why a router that writes this log need not go on, if that is so."""
    rounds = ROUND.findall(log.read_text(errors="replace")) if log.exists() else []
    late = sum(overused == "0" and missed not in ("", "0") for overused, missed in rounds)
    if late < LATE_ROUNDS and len(rounds) < ROUNDS:
        return None
    return (f"{board.name} cannot be routed for {ASKED * board.clock_hz / 1e6:g} MHz, {ASKED:g} "
            f"times the {board.clock_hz / 1e6:g} MHz it is to run at: try another --seed, a lower "
            f"--mhz, or a smaller configuration (--set)")


@contextmanager
def _followed(log: Path, progress: Callable):
    """While open, tells the last line that a tool wrote, now and then."""
    over = threading.Event()

    def follow():
        while not over.wait(2):
            lines = log.read_text(errors="replace")[-2000:].split("\n") if log.exists() else []
            if len(lines) > 1:
                progress(lines[-2].removeprefix("Info:").strip()[:100])

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _write(board: Board, config: Config, platform, family: Family, work: Path) -> list[str]:
    """RTLIL of the design and the pins; returns the names of the shared modules."""
    # Not through the platform: Amaranth alone would elaborate and emit every instance.
    with sharing() as registry:
        whole = to_rtlil(Prototype(config, clock_hz=board.clock_hz, baud=BAUD), CORE)
    plan = platform.prepare(BoardTop(board, CORE), TOP)
    texts = {**registry.modules, CORE: whole, TOP: _text(plan.files[f"{TOP}.il"])}
    for name, text in texts.items():
        (work / f"{name}.il").write_text(text)
    pins = f"{TOP}.{family.constraints}"
    asked = family.clock.format(hz=round(ASKED * board.clock_hz))
    (work / pins).write_text(f"{_text(plan.files[pins])}\n{asked}")
    return list(registry.modules)


def _prepare(netlist: Path, family: Family, config: Config) -> int:
    """Settings, places and fixed LUTs into a netlist of Yosys (JSON); returns how many LUTs."""
    design = json.loads(netlist.read_text())
    top = design["modules"][TOP]
    top["settings"] = {**top.get("settings", {}), **family.settings}
    if family.place:
        family.place(design["modules"], TOP, config)
    left_out = family.spread(design["modules"], TOP) if family.spread else 0
    netlist.write_text(json.dumps(design))
    return left_out


def _text(content) -> str:
    return content.decode() if isinstance(content, bytes) else content


def _script(shared: list[str], family: Family, clock_hz: int) -> str:
    """Equal modules stay modules to the end, so that each is synthesised once."""
    read = "".join(f"read_rtlil {name}.il\n" for name in (*shared, CORE, TOP))
    keep = "".join(f"setattr -mod -set keep_hierarchy 1 {name}\n" for name in shared)
    # What is faster than it need be is larger: LUTs have half of a clock, wires the other half.
    mapping = f"scratchpad -set abc9.D {round(0.5e12 / clock_hz)}\n"
    return f"{read}{keep}{MEMORIES}{mapping}{family.synthesis} -top {TOP} -json netlist.json\n"


def _figures(report: dict, family: Family) -> dict:
    """What a report of nextpnr says, in the names of all families."""
    found = {"fmax_mhz": round(min(v["achieved"] for v in report["fmax"].values()), 1)}
    for name, cells in family.resources.items():
        used = report["utilization"]
        for key, kind in ((name, "used"), (f"{name}_of", "available")):
            found[key] = sum(used[cell][kind] * weight for cell, weight in cells.items()
                             if cell in used)
    return found
