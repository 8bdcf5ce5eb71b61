# SPDX-License-Identifier: BSD-2-Clause
"""The command trace: what every simulator records of the DRAM bus, in memory and as CSV."""

import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from logicpim.spec.dram import DramCommand
from logicpim.spec.errors import LogicPimError

TRACE_DTYPE = np.dtype([
    ("clock", "<u8"), ("command", "u1"), ("rank", "u1"), ("bank_group", "u1"), ("bank", "u1"),
    ("row", "<u4"), ("column", "<u2")], align=True)
"""One DRAM command; 24 bytes, as C lays out ``struct {uint64_t clock; uint8_t command, rank,
bank_group, bank; uint32_t row; uint16_t column;}``. ``clock`` counts command clocks (nCK):
slot ``p`` of logic clock ``c`` is ``2 * c + p``. Fields that do not apply are 0."""

COLUMNS = ("clock", "channel", "command", "rank", "bank_group", "bank", "row", "column")

FIELDS = {
    DramCommand.ACT: ("rank", "bank_group", "bank", "row"),
    DramCommand.PRE: ("rank", "bank_group", "bank"),
    DramCommand.REFAB: ("rank",),
    DramCommand.ALL_ACT: ("rank", "bank", "row"),
    DramCommand.ALL_PRE: ("rank", "bank"),
    DramCommand.PART_ACT: ("rank", "bank_group", "bank", "row"),
    DramCommand.REFPB: ("rank", "bank_group", "bank"),
    DramCommand.RD: ("rank", "bank_group", "bank", "column"),
    DramCommand.WR: ("rank", "bank_group", "bank", "column"),
    DramCommand.ALL_RD: ("rank", "bank", "column"),
    DramCommand.ALL_WR: ("rank", "bank", "column"),
}
"""The address fields that apply to a command; ``bank`` of a bundle command is the bundle,
``bank_group`` of a PART_ACT the part."""

_CHUNK = 1 << 16
_CODES = np.array(sorted(FIELDS), np.uint8)
_NAMES = {command.name: command for command in FIELDS}


class TraceError(LogicPimError):
    """A trace file that cannot be read."""


class Record(NamedTuple):
    """One command of a trace."""

    clock: int
    command: DramCommand
    rank: int = 0
    bank_group: int = 0
    bank: int = 0
    row: int = 0
    column: int = 0

    def __str__(self) -> str:
        try:
            command = DramCommand(self.command)
        except ValueError:
            return f"command {self.command}"
        words = [command.name]
        for name in FIELDS.get(command, ()):
            whole = {"bank": "bundle", "bank_group": "part"} if command.is_bundle else {}
            label = whole.get(name, name.replace("_", " "))
            words += [label, str(getattr(self, name))]
        return " ".join(words)

    @classmethod
    def of(cls, element: np.void) -> "Record":
        """The record of one array element; a code that is no command stays a number."""
        values = [int(element[name]) for name in TRACE_DTYPE.names]
        if values[1] in DramCommand.__members__.values():
            values[1] = DramCommand(values[1])
        return cls(*values)


def trace_of(records: Iterable[Record]) -> np.ndarray:
    """An array of :data:`TRACE_DTYPE` of some records."""
    records = list(records)
    array = np.zeros(len(records), TRACE_DTYPE)
    for name, values in zip(TRACE_DTYPE.names, zip(*records, strict=True), strict=False):
        array[name] = values
    return array


def _lines(trace: np.ndarray, channels: np.ndarray):
    """CSV text of a part of a trace: columns as lists of text, blank where they do not apply."""
    names = {int(c): c.name for c in FIELDS}
    columns = [trace["clock"].tolist(), channels.tolist(),
               [names[c] for c in trace["command"].tolist()]]
    for name in COLUMNS[3:]:
        applies = [c for c in FIELDS if name in FIELDS[c]]
        values = np.where(np.isin(trace["command"], applies), trace[name].astype(np.int64), -1)
        columns.append(["" if v < 0 else v for v in values.tolist()])
    return "".join(map("{},{},{},{},{},{},{},{}\n".format, *columns))


@contextmanager
def whole_file(path: str | Path, what: str):
    """A text file to write, which takes its name when it is whole; else nothing is left of it.

    ``what`` it is says the :class:`TraceError` raised where it cannot be written.
    """
    path = Path(path)
    special = path.exists() and not stat.S_ISREG(path.stat().st_mode)
    part = path if special else path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "w", encoding="ascii", newline="") as file:
            yield file
        if not special:
            part.replace(path)
    except OSError as error:
        raise TraceError(f"cannot write the {what} {path}: {error.strerror}") from None
    finally:
        if not special:
            part.unlink(missing_ok=True)


def write_csv(path: str | Path, traces: Mapping[int, np.ndarray]) -> int:
    """Write the traces of some channels as one CSV file, whole or not at all.

    Lines are in the order of (clock, channel); returns their number.
    """
    trace = np.concatenate([np.zeros(0, TRACE_DTYPE), *traces.values()])
    channels = np.repeat(np.array(list(traces), np.int64), [len(t) for t in traces.values()])
    if not np.isin(trace["command"], _CODES).all():
        raise ValueError("the trace holds codes that are no DRAM commands")
    order = np.lexsort((trace["command"] >= DramCommand.RD, channels, trace["clock"]))
    with whole_file(path, "trace") as file:
        file.write(",".join(COLUMNS) + "\n")
        for at in range(0, len(order), _CHUNK):
            rows = order[at:at + _CHUNK]
            file.write(_lines(trace[rows], channels[rows]))
    return len(order)


def _parse(line: str) -> tuple[int, tuple]:
    cells = line.split(",")
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{len(cells)} cells, not {len(COLUMNS)}")
    values = dict(zip(COLUMNS, cells, strict=True))
    command = _NAMES.get(values["command"])
    if command is None:
        raise ValueError(f"unknown command {values['command']!r}")
    record = []
    for name in TRACE_DTYPE.names:
        if name == "command":
            record.append(command)
        elif name != "clock" and name not in FIELDS[command]:
            if values[name]:
                raise ValueError(f"{name} does not apply to {command.name}, leave it empty")
            record.append(0)
        else:
            most = np.iinfo(TRACE_DTYPE[name]).max
            if not values[name].isdecimal() or int(values[name]) > most:
                raise ValueError(f"{name} is {values[name]!r}, not a number from 0 to {most}")
            record.append(int(values[name]))
    if not values["channel"].isdecimal():
        raise ValueError(f"channel is {values['channel']!r}, not a number")
    return int(values["channel"]), tuple(record)


def read_csv(path: str | Path) -> dict[int, np.ndarray]:
    """The traces of a CSV file by channel, each in the order of the file."""
    channels: dict[int, list] = {}
    try:
        with open(path, encoding="ascii") as file:
            if file.readline().rstrip("\r\n") != ",".join(COLUMNS):
                raise TraceError(f"{path} line 1: the header is not {','.join(COLUMNS)}")
            for number, line in enumerate(file, 2):
                try:
                    channel, record = _parse(line.rstrip("\r\n"))
                except ValueError as error:
                    raise TraceError(f"{path} line {number}: {error}") from None
                channels.setdefault(channel, []).append(record)
    except OSError as error:
        raise TraceError(f"cannot read the trace {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TraceError(f"{path} is not a trace: it is not ASCII text") from None
    return {channel: np.array(records, TRACE_DTYPE) for channel, records in channels.items()}
