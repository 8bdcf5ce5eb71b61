# SPDX-License-Identifier: BSD-2-Clause
"""The command ``logicpim``."""

import gc
import importlib
import json
import os
import sys

from .. import __version__
from ..spec.errors import LogicPimError
from .io import Parser, listing

COMMANDS = ("generate", "run", "inspect", "bench", "calibrate", "check-trace", "area", "timing",
            "energy", "netlist", "lint", "build")

EPILOG = """\
examples
  logicpim generate --config channel -o out       write the Verilog of one channel
  logicpim run models/tiny-mixtral --prompt "In the beginning" --backend verilator
                                                  decode text, the experts on the RTL
  logicpim inspect mixtral-8x7b --batch 32        its operations, sizes and Op/B
  logicpim bench gemm --m 8 --n 1024 --k 4096     measure one kernel on the RTL (or ffn, attention)
  logicpim build ulx3s-85f -o out                 bitstream of an FPGA board

Every command takes --json (one object on stdout), shows progress on stderr, and ends with a
status other than 0 and one line on stderr if something is wrong.
"""


def parser() -> Parser:
    """The parser of all commands."""
    top = Parser(prog="logicpim", epilog=EPILOG,
                 description="Generate, measure and drive Logic-PIM, an open "
                             "processing-in-memory device.")
    top.add_argument("--version", action="version", version=f"logicpim {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f".{name.replace('-', '_')}", __package__).add_parser(commands)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    Without ``argv`` the process ends with the command. One of short life then leaves its cycles to
    the end of the process (``collect=False``): looking for them takes a fifth of its time.
    """
    try:
        args = parser().parse_args(argv)
        if argv is None and not getattr(args, "collect", True):
            gc.disable()
        result = args.run(args)
        if args.json:
            print(json.dumps(result, allow_nan=False))
        elif hasattr(args, "show"):
            args.show(result, args)
        else:
            print(listing(result.items()), end="")
        sys.stdout.flush()
        return args.status(result) if hasattr(args, "status") else 0
    except LogicPimError as error:
        print(f"logicpim: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("logicpim: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has left; keep Python from flushing into the pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    finally:
        if argv is None and not gc.isenabled():
            gc.freeze()
