# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim energy``: what a multiply-accumulate takes in standard cells."""

import time
from pathlib import Path

from .io import (
    Progress,
    add_config_options,
    add_json_option,
    config_of,
    count,
    listing,
    table,
    whole,
)

EPILOG = """\
A GEMM of normal values in FP16 runs on a channel in Verilator. Of each kind of module that the tile
and the drain are made of, some instances are gates, whose nets are watched; OpenSTA turns the
changes into energy. Counted are these modules, all instances of them, from the instruction to its
completion; not the accumulators' memories and their multiplexers, the sequencer, wires, the clock
tree and glitches (gates change at most once a clock here).

examples
  logicpim energy --liberty asap7/*.gz
  logicpim energy --config small --m 2 --n 16 --k 64 --liberty asap7/*.gz --json
"""
PARTS = ("internal", "switching", "leakage")


def add_parser(subparsers) -> None:
    """Declare the command to argparse."""
    parser = subparsers.add_parser(
        "energy", epilog=EPILOG, help="energy of a multiply-accumulate in standard cells",
        description="Energy of a GEMM's multiply-accumulates from how often gates change in it.")
    add_config_options(parser)
    parser.add_argument("--liberty", required=True, type=Path, nargs="+", metavar="FILE",
                        help="liberty files of gates and of flip-flops, plain or .gz")
    parser.add_argument("--m", type=whole(1), metavar="M", help="tokens (default: the tile's)")
    parser.add_argument("--n", type=whole(1), default=64, metavar="N",
                        help="output rows of the weight (default: %(default)s)")
    parser.add_argument("--k", type=whole(1), default=1024, metavar="K",
                        help="reduction length (default: %(default)s)")
    parser.add_argument("--sample", type=whole(1), default=2, metavar="INSTANCES",
                        help="of each kind of module that are gates (default: %(default)s)")
    parser.add_argument("--seed", type=whole(0), default=1, help="of the values")
    add_json_option(parser)
    parser.set_defaults(run=run, show=show,
                        status=lambda result: not result["matches_reference"])


def run(args) -> dict:
    """Synthesise, simulate, reckon; the result is what ``--json`` prints."""
    start = time.perf_counter()
    config = config_of(args).replace(channels=1, stack=False, host="native")
    progress = Progress()
    from ..synth import energy, tools
    from ..synth.liberty import Library
    m = args.m or config.tile.tokens
    library = Library(args.liberty)
    found = energy.measure(config, library, (m, args.n, args.k), each=args.sample, seed=args.seed,
                           note=progress.note)
    progress.clear()
    macs = m * args.n * args.k
    joules = {part: sum(each[f"{part}_pj"] for each in found["modules"].values())
              for part in PARTS}
    return {"config": config.name, "digest": config.digest, "m": m, "n": args.n, "k": args.k,
            "macs": macs, **found,
            "mac_utilisation": macs / (found["clocks"] * config.tile.macs),
            "pj_per_mac": {**{part: pj / macs for part, pj in joules.items()},
                           "total": sum(joules.values()) / macs},
            "yosys": tools.version("yosys"), "liberty": library.hashes,
            "wall_s": round(time.perf_counter() - start, 3)}


def show(result: dict, args) -> None:
    """Modules, then the sum."""
    macs, rows = result["macs"], []
    for kind, each in result["modules"].items():
        parts = [each[f"{part}_pj"] / macs for part in PARTS]
        rows.append([kind, count(each["count"]), count(each["sampled"]),
                     *(f"{pj:.4f}" for pj in parts), f"{sum(parts):.4f}"])
    print(table(["module", "count", "sampled", *PARTS, "pJ a MAC"], rows))
    equal = "every bit equal to the golden model" if result["matches_reference"] else \
        "DIFFERS from the golden model"
    print(listing([
        ("a MAC", f"{result['pj_per_mac']['total']:.3f} pJ"),
        ("GEMM", f"M={result['m']} N={result['n']} K={result['k']} on {result['config']}: {equal}"),
        ("clocks", f"{count(result['clocks'])}, the multipliers in use for "
                   f"{result['mac_utilisation']:.1%} of them"),
        ("not counted", "memories, sequencer, accumulators' multiplexers, wires, clock tree, "
                        "glitches"),
        ("made with", f"{result['yosys']}, OpenSTA, in {result['wall_s']:.1f} s")]), end="")
