# SPDX-License-Identifier: BSD-2-Clause
"""The options ``--trace`` and ``--perfetto``: what happened in a run, as one file."""

from pathlib import Path

from ..sim.dram.trace import COLUMNS, write_csv
from ..spec.errors import LogicPimError


def add_trace_option(parser) -> None:
    """``--trace`` and ``--perfetto``."""
    parser.add_argument("--trace", type=Path, metavar="FILE",
                        help=f"write the DRAM commands as CSV: {', '.join(COLUMNS)}; clocks are "
                             f"those of the command bus, a bundle command names its bundle in "
                             f"the column bank")
    parser.add_argument("--perfetto", type=Path, metavar="FILE",
                        help="write a timeline for ui.perfetto.dev: instructions, DRAM commands "
                             "by bundle and path, refresh, bytes over each path, stalls by cause; "
                             "some 150 bytes for each DRAM command")


def wants_trace(args) -> bool:
    """Whether the device shall record what happens."""
    return args.trace is not None or args.perfetto is not None


def check_trace(args) -> None:
    """Refuse what cannot be written, before the work."""
    for option, path, what in (("--trace", args.trace, "trace"),
                               ("--perfetto", args.perfetto, "timeline")):
        if path is None:
            continue
        if args.backend != "verilator":
            raise LogicPimError(f"{option} needs --backend verilator: the {args.backend} backend "
                                f"has no DRAM commands")
        if path.is_dir() or not path.resolve().parent.is_dir():
            raise LogicPimError(f"cannot write the {what} {path}: it is a folder, or its folder "
                                f"is not there")


def write_trace(args, device) -> None:
    """Write what the device has recorded, whole or not at all."""
    channels = range(device.config.channels)
    if args.trace is not None:
        write_csv(args.trace, {c: device.trace(c) for c in channels})
    if args.perfetto is not None:
        from ..sim.verilog.timeline import write_timeline  # brings Amaranth along: not before
        write_timeline(args.perfetto, device.config,
                       {c: (device.recording(c), device.trace(c)) for c in channels})
