# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim area``: what a module takes in standard cells."""

import argparse
import time
from pathlib import Path

from .io import Progress, add_config_options, add_json_option, config_of, count, listing, table


def _density(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be an area above 0, not {text!r}")
    return value


def add_parser(subparsers) -> None:
    """Declare the command to argparse."""
    parser = subparsers.add_parser(
        "area", help="standard-cell area of a module",
        description="Synthesises each distinct module once with Yosys and ABC, and adds up. "
                    "Placed without gaps, no wires, no clock tree; memories of 1,024 bits and "
                    "more are counted at an estimate for each bit. What was synthesised is kept.")
    add_config_options(parser)
    parser.add_argument("--liberty", required=True, type=Path, nargs="+", metavar="FILE",
                        help="liberty files of gates and of flip-flops, plain or .gz")
    parser.add_argument("--module", default="gemm", metavar="NAME",
                        help="gemm, channel or one of their parts; a wrong name lists them "
                             "(default: %(default)s)")
    parser.add_argument("--memory-um2-per-bit", type=_density, metavar="UM2", dest="um2_per_bit",
                        help="instead of the estimate")
    add_json_option(parser)
    parser.set_defaults(run=run, show=show)


def run(args) -> dict:
    """Synthesise and add up; the result is what ``--json`` prints."""
    start = time.perf_counter()
    config, progress = config_of(args), Progress()
    from ..synth import area, tools
    from ..synth.liberty import Library
    from ..synth.modules import choose
    choice = choose(config, args.module)
    library = Library(args.liberty)
    given = args.um2_per_bit is not None
    per_bit = args.um2_per_bit if given else area.UM2_PER_BIT
    found = area.measure(choice, library, per_bit, progress.note)
    macs, total = choice.macs, found["um2"]["total"]
    by_module = {b["module"]: b["um2"] / 1e6 for b in found["blocks"] if b["um2"]}
    return {
        "config": config.name, "digest": config.digest, "module": choice.name,
        "mm2": by_module | {"memory": found["um2"]["memory"] / 1e6, "total": total / 1e6},
        "macs": macs, "um2_per_mac": total / macs if macs else None, **found,
        "memory_um2_per_bit": per_bit,
        "memory_source": "as given" if given else area.SOURCE,
        "yosys": tools.version("yosys"), "liberty": library.hashes,
        "wall_s": round(time.perf_counter() - start, 3),
    }


def show(result: dict, args) -> None:
    """Modules by area, then the sums."""
    blocks = sorted(result["blocks"], key=lambda b: -b["um2"])
    print(table(["module", "count", "um2 each", "um2", "flip-flops", "memory bits"],
                [[b["module"], count(b["count"]), f"{b['um2_each']:,.1f}", f"{b['um2']:,.1f}",
                  count(b["flip_flops"]), count(b["memory_bits"])] for b in blocks]))
    area = result["um2"]
    pairs = [("standard cells", f"{area['cells']:,.0f} um2, {result['cells']:,} cells, "
                                f"{result['flip_flops']:,} flip-flops"),
             ("memories", f"{area['memory']:,.0f} um2, {result['memory_bits']:,} bits at "
                          f"{result['memory_um2_per_bit']:g} um2 ({result['memory_source']})"),
             ("together", f"{area['total'] / 1e6:.4f} mm2")]
    if result["macs"]:
        pairs.append(("a MAC", f"{result['um2_per_mac']:.1f} um2 ({result['macs']} of them)"))
    pairs += [("not counted", "gaps between cells, wires, clock tree"),
              ("made with", f"{result['yosys']}, in {result['wall_s']:.1f} s")]
    print(listing(pairs), end="")
