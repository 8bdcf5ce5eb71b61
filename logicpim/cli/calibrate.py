# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim calibrate``: a table of what kernels cost, measured on the RTL."""

import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from ..driver.backends import BACKENDS
from ..driver.calibrate import calibrate
from ..driver.grid import GRIDS
from ..placement.cost_table import KERNELS
from ..spec.errors import LogicPimError
from ..spec.isa import BYTE_FORMATS, Format
from .io import (
    Progress,
    add_config_options,
    add_json_option,
    config_of,
    percent,
    table,
    whole,
    with_formats,
)

FORMATS = [f.name.lower() for f in (Format.FP16, Format.BF16, *BYTE_FORMATS)]

EPILOG = """\
Each kernel runs alone on one channel of the generated Verilog, in Verilator, after a pause: matrix
products over a grid of M, N, K, bundles and formats, gated networks (the experts), the attention
of a decode step, ACTIVATE and SOFTMAX. Clocks, active clocks and stalls of each go into FILE, with
what they were measured on: digest and values of the configuration, hash of the Verilog, versions,
date. `logicpim run --costs FILE` and the policies of docs/placement.md reckon with it; between the
points they draw straight lines. Some points that are not in the table are measured as well, and
the largest error of the straight lines there is told.

What FILE has of the same Verilog is kept, so that a larger grid measures only what is new; work
that was interrupted goes on where it was (FILE.part). The number of channels does not matter: each
works for itself.

what the keys mean
  points, measured, reused   rows of the table; of these and the held-out ones, new and kept ones
  errors        by kernel: held-out points, mean and largest |estimate / clocks - 1|
  digest, verilog_sha256     what was measured; a table is refused for any other configuration

examples
  logicpim calibrate -o channel.json
  logicpim calibrate --grid full --weights fp16 int8 -o channel-int8.json
  logicpim calibrate --config small -o small.json --json
"""


def add_parser(subparsers) -> None:
    """Add ``calibrate``."""
    p = subparsers.add_parser(
        "calibrate", help="measure what kernels cost on the RTL, for placement", epilog=EPILOG,
        description="Measure a table of costs on the generated Verilog.")
    add_config_options(p)
    p.add_argument("-o", "--output", type=Path, required=True, metavar="FILE",
                   help="where the table is to lie, as JSON")
    p.add_argument("--grid", choices=GRIDS, default="small",
                   help="how many sizes: small takes a minute, full many, and holds for larger "
                        "kernels (default: %(default)s)")
    p.add_argument("--weights", choices=FORMATS, nargs="+", default=["fp16"], metavar="FORMAT",
                   help=f"formats of the weights, added to the configuration's if need be: "
                        f"{', '.join(FORMATS)} (default: fp16)")
    p.add_argument("--scale-group", type=whole(0), default=0, metavar="G",
                   help="elements along K that share a scale of 8-bit weights (default: a row)")
    p.add_argument("--bundles", type=int, choices=(1, 2, 4), nargs="+", metavar="B",
                   help="bank bundles that matrices are dealt over (default: 1, 2 and 4, those "
                        "that the configuration has)")
    p.add_argument("--held-out", type=whole(0), default=4, metavar="N",
                   help="points besides for each grid, to judge the table by (default: "
                        "%(default)s)")
    p.add_argument("--backend", choices=BACKENDS, default="verilator",
                   help="only verilator has clocks (default: %(default)s)")
    add_json_option(p)
    p.set_defaults(run=run, show=show)


def run(args) -> dict:
    """Measure; the keys of the JSON object."""
    begun = time.perf_counter()
    if args.backend != "verilator":
        raise LogicPimError(f"--backend {args.backend} has no clocks of the RTL: leave it out, "
                            f"calibrate measures the Verilated RTL")
    config = with_formats(config_of(args), *(Format[name.upper()] for name in args.weights))
    bundles = tuple(args.bundles or (b for b in (1, 2, 4) if b <= config.dram.bundles))
    if max(bundles) > config.dram.bundles:
        raise LogicPimError(f"--bundles {max(bundles)}: {config.name} has {config.dram.bundles}")
    progress = Progress()
    made = calibrate(
        config, args.output, grid=args.grid, weights=tuple(dict.fromkeys(args.weights)),
        bundles=bundles, scale_group=args.scale_group, checks=args.held_out,
        command=shlex.join(["logicpim", *sys.argv[1:]]),
        date=datetime.now(UTC).isoformat(timespec="seconds"), progress=progress)
    progress.clear()
    everything = len(made["rows"]) + len(made["held_out"])
    return {"file": str(args.output), "config": config.name, "digest": made["digest"],
            "timing": made["configuration"]["timing"], "grid": args.grid,
            "verilog_sha256": made["made"]["verilog_sha256"],
            "points": len(made["rows"]), "measured": everything - made["reused"],
            "reused": made["reused"], "errors": made["errors"],
            "cycles": sum(row["cycles"] for row in (*made["rows"], *made["held_out"])),
            "by_kernel": {kernel: sum(row["kernel"] == kernel for row in made["rows"])
                          for kernel in KERNELS},
            "wall_s": time.perf_counter() - begun}


def show(result: dict, args) -> None:
    """What is in the table and how far straight lines are off."""
    r = result
    print(f"{r['file']}: {r['points']:,} points of one channel of {r['config']}, {r['measured']:,} "
          f"measured now, {r['reused']:,} kept")
    print(f"digest {r['digest']}, {r['timing']}, Verilog {r['verilog_sha256'][:16]}; "
          f"{r['wall_s']:.0f} s\n")
    nothing = {"points": 0, "mean": None, "largest": None}
    print(table(["kernel", "points", "held out", "mean error", "largest error"], [
        [kernel, f"{points:,}", str(e["points"]), percent(e["mean"]), percent(e["largest"])]
        for kernel, points in r["by_kernel"].items() if points
        for e in (r["errors"].get(kernel, nothing),)]), end="")
