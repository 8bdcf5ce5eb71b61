# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim timing``: the critical path of modules, stage by stage."""

import time
from pathlib import Path

from .io import Progress, add_config_options, add_json_option, config_of, count, table, whole


def add_parser(subparsers) -> None:
    """Declare the command to argparse."""
    parser = subparsers.add_parser(
        "timing", help="critical path of modules, stage by stage",
        description="Places and routes each module between registers on a Lattice ECP5 "
                    "(LFE5U-85F, speed grade 6) with Yosys and nextpnr, and lists the slowest path "
                    "into each of its registers.")
    add_config_options(parser)
    parser.add_argument("--module", nargs="+", default=["processing_unit"], metavar="NAME",
                        help="a wrong name lists them (default: processing_unit)")
    parser.add_argument("--mhz", type=whole(1), default=100, help="clock to strive for, and to "
                        "hold stages against (default: %(default)s)")
    parser.add_argument("--seed", type=whole(1), default=1,
                        help="of the placement (default: %(default)s)")
    parser.add_argument("--liberty", type=Path, nargs="+", metavar="FILE",
                        help="standard cells instead of the FPGA, timed by OpenSTA without wires "
                             "against the configuration's clock")
    add_json_option(parser)
    parser.set_defaults(run=run, show=show)


def run(args) -> dict:
    """Place and route; the result is what ``--json`` prints."""
    start = time.perf_counter()
    config, progress = config_of(args), Progress()
    from ..synth import ecp5, tools
    from ..synth.modules import choose
    choices = [choose(config, name) for name in args.module]
    if args.liberty:
        return _standard_cells(args, config, choices, start, progress)
    made_with = [tools.version("yosys"), tools.version("nextpnr-ecp5")]
    found = {}
    for choice in choices:
        progress.note(f"placing and routing {choice.name}")
        found[choice.name] = ecp5.measure(choice, args.mhz, args.seed)
    return {"config": config.name, "digest": config.digest, "device": " ".join(ecp5.DEVICE),
            "mhz": args.mhz, "seed": args.seed, "modules": found, "made_with": made_with,
            "wall_s": round(time.perf_counter() - start, 3)}


def _standard_cells(args, config, choices, start, progress) -> dict:
    from ..synth import sta, tools
    from ..synth.liberty import Library
    library, found = Library(args.liberty), {}
    for choice in choices:
        progress.note(f"synthesising and timing {choice.name}")
        for name, stages in sta.measure(choice, library).items():
            found.setdefault(name, {"fmax_mhz": round(1000 / max(stages.values(), default=1e9), 1),
                                    "stages": stages})
    return {"config": config.name, "digest": config.digest, "device": "standard cells, no wires",
            "mhz": round(config.clock_hz / 1e6), "modules": found,
            "made_with": [tools.version("yosys"), "OpenSTA"], "liberty": library.hashes,
            "wall_s": round(time.perf_counter() - start, 3)}


def show(result: dict, args) -> None:
    """A line for each module, then the stages: all that miss the clock, and the slowest."""
    modules = result["modules"]
    if args.liberty:
        print(table(["module", "MHz"],
                    [[name, f"{m['fmax_mhz']:.1f}"] for name, m in modules.items()]))
    else:
        print(table(["module", "MHz", "LUTs", "flip-flops", "multipliers", "memories"],
                    [[name, f"{m['fmax_mhz']:.1f}", count(m["luts"]), count(m["flip_flops"]),
                      count(m["multipliers"]), count(m["memories"])]
                     for name, m in modules.items()]))
    rows = []
    for name, module in modules.items():
        for place, (stage, ns) in enumerate(module["stages"].items()):
            missed = ns > 1000 / result["mhz"]
            if missed or place < 8:
                rows.append([name, stage, f"{ns:.2f}", "missed" if missed else "met"])
    print(table(["module", "into", "ns", f"{result['mhz']} MHz"], rows), end="")
