# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim lint``: whether other tools accept what ``generate`` has written."""

import time
from pathlib import Path

from .io import Progress, add_json_option, count

EPILOG = """\
Verilator with -Wall and the folder's waivers, Icarus with -Wall where it is installed, and Yosys'
check. A stack is judged in parts, each of its modules in one of them: what it has once for each
channel alone, and the stack around that.

The exit status is 1 if a tool complains.

examples
  logicpim generate --config paper -o stack && logicpim lint stack
  logicpim lint out --whole        # a stack of few channels, every instance by itself
"""


def add_parser(subparsers) -> None:
    """Declare the command to argparse."""
    parser = subparsers.add_parser(
        "lint", epilog=EPILOG, help="do Verilator, Icarus and Yosys accept a generated folder?",
        description="Lets Verilator, Icarus and Yosys judge a folder of `logicpim generate`.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="written by `logicpim generate`")
    parser.add_argument("--whole", action="store_true", help="judge a stack in one")
    add_json_option(parser)
    parser.set_defaults(run=run, show=show, status=lambda result: 0 if result["clean"] else 1)


def run(args) -> dict:
    """Ask each tool; the result is what ``--json`` prints."""
    start, progress = time.perf_counter(), Progress()
    from ..synth import accept
    about = accept.manifest(args.folder)
    messages, wall = {}, {}
    for tool in accept.accept_tools():
        progress(f"{tool} on {args.folder}")
        begun = time.perf_counter()
        messages[tool] = accept.TOOLS[tool](args.folder, about["top"], not args.whole)
        wall[tool] = round(time.perf_counter() - begun, 3)
    progress.clear()
    return {"folder": str(args.folder), "top": about["top"], "modules": len(about["modules"]),
            "parts": 1 if args.whole else 1 + len(accept.blocks(args.folder, about["top"])),
            "clean": not any(messages.values()), "messages": messages, "wall_s_by_tool": wall,
            "wall_s": round(time.perf_counter() - start, 3)}


def show(result: dict, args) -> None:
    """What the tools say, and a line for each."""
    for lines in result["messages"].values():
        print("".join(f"{line}\n" for line in lines), end="")
    for tool, lines in result["messages"].items():
        verdict = f"{count(len(lines))} lines of complaints" if lines else "clean"
        print(f"{tool}: {verdict}, {result['wall_s_by_tool'][tool]:.1f} s")
    print(f"{result['modules']} modules of {result['top']}, in parts: {result['parts']}")
