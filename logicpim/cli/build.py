# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim build``: the bitstream of an FPGA board."""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from ..spec.errors import LogicPimError
from ..spec.link import BAUD
from ..spec.presets import load_config
from .io import Progress, add_json_option, count, listing, table, whole

EPILOG = """\
The gateware is a whole channel, its DRAM in block RAM and the serial link, of the configuration
that is called as the board. Yosys, nextpnr and the packer come from PyPI: pip install
'logicpim[fpga]'. A channel takes some 20 minutes. What misses its clock is no
bitstream but an error. docs/fpga.md says how to load it and what to do then.

what the keys mean
  bitstream             the file, beside it report.json with what is printed here
  fmax_mhz              fastest clock by nextpnr's static timing analysis, at least target_mhz,
                        which the board's PLL makes
  luts, dsps, brams     resources used; luts_of and so on: what the FPGA has
  wall_s, seed          seconds that it took; seed of the placement

examples
  logicpim build --list
  logicpim build ulx3s-85f -o out
  logicpim build ulx3s-85f -o out --mhz 60 --seed 3
  logicpim bench gemm --config ulx3s-85f --backend fpga --port /dev/ttyUSB0 --m 2 --n 64 --k 256
"""


def add_parser(subparsers) -> None:
    """Declare the command to argparse."""
    p = subparsers.add_parser(
        "build", help="FPGA bitstream of a board", epilog=EPILOG,
        description="Synthesise, place, route and pack the gateware of an FPGA board.")
    p.add_argument("board", nargs="?", metavar="BOARD", help="one of those that --list shows")
    p.add_argument("-o", "--output", type=Path, metavar="DIR",
                   help="folder for the bitstream and report.json")
    p.add_argument("--list", action="store_true", help="show the boards")
    p.add_argument("--mhz", type=whole(1, 400), help="clock instead of the board's own")
    p.add_argument("--seed", type=whole(1), default=1,
                   help="of the placement (default: %(default)s)")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
                   help="change one value of the board's configuration; may be repeated")
    add_json_option(p)
    p.set_defaults(run=run, show=show)


def run(args) -> dict:
    """Build; the result is what ``--json`` prints."""
    start = time.perf_counter()
    from ..synth import boards, flow, tools
    if args.list:
        return {"boards": [_describe(boards.board(name)) for name in boards.NAMES]}
    if args.board is None or args.output is None:
        raise LogicPimError("which board, and into which folder? logicpim build BOARD -o DIR; "
                            "logicpim build --list shows the boards")
    board = boards.board(args.board)
    if args.mhz is not None:
        board = board.at(args.mhz * 1_000_000)
    config, progress = load_config(board.name, args.overrides), Progress()
    family, out = flow.FAMILIES[board.family], args.output.resolve()
    name = f"{board.name}.{family.bitstream}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists() and not out.is_dir():
            raise LogicPimError(f"{args.output} is a file: name a folder")
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise LogicPimError(f"cannot write to {out.parent}: {error.strerror}") from None
    try:
        found = flow.build(board, config, work, args.seed, progress.note, progress)
        result = {
            "board": board.name, "config": config.name, "digest": config.digest,
            "bitstream": str(out / name), "target_mhz": board.clock_hz / 1e6, **found,
            "macs": config.tile.macs, "dram_bytes": config.capacity_bytes, "baud": BAUD,
            "seed": args.seed,
            "made_with": [tools.version(t) for t in ("yosys", family.nextpnr, family.packer)],
            "wall_s": round(time.perf_counter() - start, 1),
        }
        (work / "report.json").write_text(json.dumps(result, indent=1) + "\n")
        out.mkdir(exist_ok=True)
        os.replace(work / f"top.{family.bitstream}", out / name)
        os.replace(work / "report.json", out / "report.json")
        return result
    finally:
        progress.clear()
        shutil.rmtree(work, ignore_errors=True)


def _describe(board) -> dict:
    config = load_config(board.name)
    return {"board": board.name, "title": board.title, "mhz": board.clock_hz / 1e6,
            "macs": config.tile.macs, "dram_bytes": config.capacity_bytes,
            "connect": board.connect}


def show(result: dict, args) -> None:
    """The boards, or what was built."""
    if args.list:
        print(table(["board", "MHz", "MACs", "DRAM bytes", "what"],
                    [[b["board"], f"{b['mhz']:g}", count(b["macs"]), count(b["dram_bytes"]),
                      b["title"]] for b in result["boards"]]), end="")
        return
    used = {name: f"{result[name]:,} of {result[name + '_of']:,}"
            for name in ("luts", "flip_flops", "dsps", "brams")}
    print(listing([("bitstream", result["bitstream"]),
                   ("clock", f"{result['target_mhz']:g} MHz; up to {result['fmax_mhz']:g} MHz"),
                   *used.items(), ("seconds", f"{result['wall_s']:.0f}")]), end="")
