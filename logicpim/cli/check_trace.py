# SPDX-License-Identifier: BSD-2-Clause
"""``logicpim check-trace``: judge a recorded DRAM command trace, whatever recorded it."""

from pathlib import Path

from ..sim.dram.checker import TraceChecker
from ..sim.dram.trace import COLUMNS, read_csv
from ..spec.dram import TIMINGS
from .io import add_config_options, add_json_option, config_of, whole

EPILOG = f"""\
The trace is CSV with the header {",".join(COLUMNS)}. Clocks are those of the command bus (nCK);
a bundle command names its bundle in the column bank, a PART_ACT its part in bank_group; fields
that do not apply to a command are empty. `logicpim bench gemm --trace FILE` writes such a file.

Each violation names the constraint, both commands, their distance and the one required. The exit
status is 1 if there is one.

examples
  logicpim check-trace commands.csv --dram hbm3-5.2
  logicpim check-trace commands.csv --dram hbm3-6.4 --set stagger=false --json
"""


def add_parser(subparsers):
    """Add ``check-trace``."""
    p = subparsers.add_parser("check-trace", help="judge a DRAM command trace", epilog=EPILOG,
                              description="Judge a DRAM command trace by the protocol.")
    p.add_argument("file", type=Path, metavar="FILE", help="the trace, CSV")
    p.add_argument("--dram", choices=TIMINGS, metavar="NAME",
                   help=f"speed grade: {', '.join(TIMINGS)} (default: the configuration's)")
    add_config_options(p)
    p.add_argument("--no-refresh", action="store_true", help="ask for no refresh")
    p.add_argument("--end", type=whole(0), metavar="NCK",
                   help="command clock up to which refresh is owed (default: the last command)")
    add_json_option(p)
    p.set_defaults(run=run, show=show, status=lambda result: 0 if result["legal"] else 1)
    return p


def run(args) -> dict:
    """Judge each channel of the file; the keys of the JSON object."""
    config = config_of(args)
    if args.dram is not None:
        config = config.replace(timing=args.dram)
    if args.no_refresh:
        config = config.replace(refresh=False)
    traces, found, count = read_csv(args.file), [], 0
    for channel, trace in sorted(traces.items()):
        checker = TraceChecker(config, channel)
        checker.feed(trace)
        found += map(str, checker.finish(args.end))
        count += checker.count
    return {"dram": config.timing, "channels": len(traces),
            "commands": sum(map(len, traces.values())), "legal": count == 0,
            "violations": count, "messages": found}


def show(result: dict, args) -> None:
    """Print the result for people."""
    for message in result["messages"]:
        print(message)
    verdict = "legal" if result["legal"] else f"{result['violations']} violations"
    print(f"{result['commands']:,} commands of {result['channels']} channels on {result['dram']}: "
          f"{verdict}")
