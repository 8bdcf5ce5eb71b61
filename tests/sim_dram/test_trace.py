# SPDX-License-Identifier: BSD-2-Clause
"""The command trace: its layout in memory, and as CSV there and back."""

import os

import numpy as np
import pytest

from logicpim.sim.dram.trace import FIELDS, TRACE_DTYPE, Record, TraceError, read_csv, trace_of
from logicpim.sim.dram.trace import write_csv as write
from logicpim.spec.dram import DramCommand as D

HEADER = "clock,channel,command,rank,bank_group,bank,row,column"


def test_layout():
    """What the C++ harness writes is read without conversion."""
    raw = bytes(range(1, 9)) + bytes([10, 1, 2, 3]) + (70000).to_bytes(4, "little")
    raw += (300).to_bytes(2, "little") + bytes(6)
    assert TRACE_DTYPE.itemsize == len(raw) == 24
    record = Record.of(np.frombuffer(raw, TRACE_DTYPE)[0])
    assert record == Record(0x0807060504030201, D.ALL_RD, 1, 2, 3, 70000, 300)


def noise(rng, length):
    trace = np.zeros(length, TRACE_DTYPE)
    trace["clock"] = np.cumsum(rng.integers(0, 3, length)) + (1 << 40)
    trace["command"] = rng.choice([int(c) for c in FIELDS], length)
    for name in ("rank", "bank_group", "bank", "row", "column"):
        applies = np.isin(trace["command"], [c for c in FIELDS if name in FIELDS[c]])
        trace[name] = rng.integers(0, np.iinfo(TRACE_DTYPE[name]).max, length) * applies
    return trace


def test_there_and_back(tmp_path, seed):
    rng = np.random.default_rng(seed)
    traces = {channel: noise(rng, 500) for channel in (0, 3)}
    path = tmp_path / "trace.csv"
    assert write(path, traces) == 1000
    assert os.listdir(tmp_path) == ["trace.csv"]
    clocks = [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]]
    assert clocks == sorted(clocks)
    back = read_csv(path)
    assert back.keys() == traces.keys()
    for channel, trace in traces.items():
        assert np.array_equal(np.sort(back[channel], order=["clock", "command"]),
                              np.sort(trace, order=["clock", "command"]))


def test_lines(tmp_path):
    """One line a command; a bundle is in the bank column, what does not apply is empty."""
    trace = trace_of([Record(2, D.ACT, 1, 2, 3, 40), Record(5, D.RD, 1, 2, 3, 0, 7),
                      Record(6, D.WR, 1, 2, 3, 0, 0), Record(7, D.PRE, 1, 2, 3),
                      Record(8, D.REFAB, 1), Record(9, D.ALL_ACT, 1, 0, 3, 41),
                      Record(10, D.ALL_RD, 1, 0, 3, 0, 8), Record(12, D.ALL_WR, 1, 0, 3, 0, 9),
                      Record(14, D.ALL_PRE, 1, 0, 3)])
    write(tmp_path / "t.csv", {5: trace})
    assert (tmp_path / "t.csv").read_text().splitlines() == [
        HEADER, "2,5,ACT,1,2,3,40,", "5,5,RD,1,2,3,,7", "6,5,WR,1,2,3,,0", "7,5,PRE,1,2,3,,",
        "8,5,REFAB,1,,,,", "9,5,ALL_ACT,1,,3,41,", "10,5,ALL_RD,1,,3,,8", "12,5,ALL_WR,1,,3,,9",
        "14,5,ALL_PRE,1,,3,,"]


def test_empty(tmp_path):
    assert write(tmp_path / "t.csv", {}) == 0
    assert read_csv(tmp_path / "t.csv") == {}


@pytest.mark.parametrize("line, cause", [
    ("1,0,ACT,0,0,0,0", "7 cells, not 8"),
    ("1,0,ACT,0,0,0,0,,", "9 cells, not 8"),
    ("1,0,JUMP,0,0,0,0,", "unknown command 'JUMP'"),
    ("1,0,NOP,0,0,0,0,", "unknown command 'NOP'"),
    ("-1,0,PRE,0,0,0,,", "clock is '-1'"),
    ("1,x,PRE,0,0,0,,", "channel is 'x'"),
    ("1,0,PRE,256,0,0,,", "rank is '256', not a number from 0 to 255"),
    ("1,0,ACT,0,0,0,,", "row is ''"),
    ("1,0,PRE,0,0,0,0,", "row does not apply to PRE"),
    ("1,0,ALL_PRE,0,0,0,,", "bank_group does not apply to ALL_PRE"),
])
def test_bad_line(tmp_path, line, cause):
    path = tmp_path / "t.csv"
    path.write_text(f"{HEADER}\n1,0,REFAB,0,,,,\n{line}\n")
    with pytest.raises(TraceError) as error:
        read_csv(path)
    assert f"{path} line 3: " in str(error.value) and cause in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content, cause", [
    (b"clock\n", "line 1: the header is not"), (b"", "line 1"), ("é\n".encode(), "not ASCII"),
])
def test_bad_file(tmp_path, content, cause):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=cause):
        read_csv(path)
    with pytest.raises(TraceError, match="cannot read the trace"):
        read_csv(tmp_path / "none.csv")


def test_nothing_half_written(tmp_path):
    bad = np.zeros(1, TRACE_DTYPE)
    with pytest.raises(ValueError, match="no DRAM commands"):
        write(tmp_path / "t.csv", {0: bad})
    with pytest.raises(TraceError, match="cannot write the trace"):
        write(tmp_path / "none" / "t.csv", {})
    assert os.listdir(tmp_path) == []


def test_device_file_stays():
    write("/dev/null", {0: trace_of([Record(0, D.REFAB)])})
    assert not os.path.isfile("/dev/null")
