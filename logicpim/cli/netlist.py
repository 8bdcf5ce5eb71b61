# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim netlist``: a channel after synthesis, held against the golden model."""

import time
from pathlib import Path

from ..spec.errors import ConfigError
from .io import Progress, add_config_options, add_json_option, config_of, count, listing, whole

EPILOG = """\
The netlist, with models of its cells, is compiled by Verilator in place of the generated Verilog,
with the same DRAM, protocol checker and host. It runs random GEMMs of any size, format and place;
the whole temp buffer is compared with the golden model's after each sixteen.

examples
  logicpim netlist ecp5                                # multipliers and block memories included
  logicpim netlist cells --liberty asap7/*.gz          # gates, flip-flops, clock gates
  logicpim netlist ecp5 --gemms 100 --seed 7 --json
"""


def add_parser(subparsers) -> None:
    """Declare the command to argparse."""
    parser = subparsers.add_parser(
        "netlist", epilog=EPILOG, help="simulate a channel after synthesis: still the same bits?",
        description="Synthesises a channel and runs random GEMMs on the netlist, bit for bit.")
    parser.add_argument("target", choices=("ecp5", "cells"),
                        help="an ECP5's cells, or standard cells")
    add_config_options(parser)
    parser.set_defaults(config="small")
    parser.add_argument("--liberty", type=Path, nargs="+", metavar="FILE",
                        help="liberty files of gates and of flip-flops, plain or .gz, for `cells`")
    parser.add_argument("--gemms", type=whole(1), default=1000, metavar="N",
                        help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=whole(0), default=1, help="of all that is random")
    add_json_option(parser)
    parser.set_defaults(run=run, show=show,
                        status=lambda result: not result["matches_reference"])


def run(args) -> dict:
    """Synthesise, simulate, compare; the result is what ``--json`` prints."""
    start = time.perf_counter()
    config, progress = config_of(args).replace(channels=1), Progress()
    if (args.target == "cells") != bool(args.liberty):
        raise ConfigError("--liberty goes with `cells`: netlist cells --liberty FILE..., or "
                          "netlist ecp5")
    from ..sim.verilog import VerilatorDevice
    from ..synth import netlist, netlist_check, tools
    from ..synth.liberty import Library
    if args.target == "cells":
        library = Library(args.liberty)
        files = netlist.standard_cells(config, library, progress.note)
    else:
        files = netlist.ecp5(config, progress.note)
    simulator = netlist.simulator(config, files, f"{config.name}, {args.target}")
    simulating = time.perf_counter()
    with VerilatorDevice(config, library=simulator, seed=args.seed) as device:
        wrong = netlist_check.compare(config, device, args.gemms, args.seed,
                                      lambda done, all: progress(f"GEMM {done} of {all}"))
        clocks = device.clocks(0)
    progress.clear()
    seconds = time.perf_counter() - simulating
    return {"config": config.name, "digest": config.digest, "target": args.target,
            "gemms": args.gemms, "seed": args.seed, "wrong": wrong,
            "matches_reference": not wrong, "clocks": clocks,
            "clocks_per_s": round(clocks / seconds), "yosys": tools.version("yosys"),
            **({"liberty": library.hashes} if args.target == "cells" else {}),
            "wall_s": round(time.perf_counter() - start, 3)}


def show(result: dict, args) -> None:
    """What ran on what, and whether it was right."""
    equal = "every bit equal to the golden model" if result["matches_reference"] else \
        f"{result['wrong']} DIFFER from the golden model (by the program of sixteen)"
    print(listing([
        ("netlist", f"{result['config']}, {result['target']}, {result['yosys']}"),
        ("GEMMs", f"{count(result['gemms'])} of seed {result['seed']}: {equal}"),
        ("simulated", f"{count(result['clocks'])} clocks, {count(result['clocks_per_s'])} a "
                      f"second"),
        ("in all", f"{result['wall_s']:.1f} s")]), end="")
