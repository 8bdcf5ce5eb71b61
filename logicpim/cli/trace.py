# SPDX-License-Identifier: BSD-2-Clause
"""The option ``--trace``: the DRAM commands of a run as one CSV file."""

from pathlib import Path

from ..sim.dram.trace import COLUMNS, write_csv
from ..spec.errors import LogicPimError


def add_trace_option(parser) -> None:
    """``--trace``."""
    parser.add_argument("--trace", type=Path, metavar="FILE",
                        help=f"write the DRAM commands as CSV: {', '.join(COLUMNS)}; clocks are "
                             f"those of the command bus, a bundle command names its bundle in "
                             f"the column bank")


def check_trace(args) -> None:
    """Refuse what cannot be written, before the work."""
    if args.trace is None:
        return
    if args.backend != "verilator":
        raise LogicPimError(f"--trace needs --backend verilator: the {args.backend} backend has "
                            f"no DRAM commands")
    if args.trace.is_dir() or not args.trace.resolve().parent.is_dir():
        raise LogicPimError(f"cannot write the trace {args.trace}: it is a folder, or its folder "
                            f"is not there")


def write_trace(args, device) -> None:
    """Write the commands recorded by the device, whole or not at all."""
    if args.trace is not None:
        write_csv(args.trace, {c: device.trace(c) for c in range(device.config.channels)})
