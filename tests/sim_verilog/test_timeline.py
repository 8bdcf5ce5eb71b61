# SPDX-License-Identifier: BSD-2-Clause
"""The timeline: form, order, and everything that happened once."""

import json
from collections import Counter as Count

import pytest

from logicpim.cli import main
from logicpim.sim.dram.trace import Record, TraceError, trace_of
from logicpim.sim.verilog.timeline import Recording, write_timeline
from logicpim.spec.device import Counter
from logicpim.spec.dram import DramCommand
from logicpim.spec.isa import Instruction, Opcode, Status
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]
KEYS = {"M": {"args"}, "X": {"ts", "dur", "cat", "args"}, "b": {"ts", "cat", "id"},
        "e": {"ts", "cat", "id"}, "C": {"ts", "args"}}


def read(path):
    """The events of a file, each of the form that the trace-event format asks for."""
    with open(path) as file:
        whole = json.load(file)
    assert whole.keys() == {"displayTimeUnit", "traceEvents"}
    last, names = {}, set()
    for event in whole["traceEvents"]:
        assert event.keys() == {"ph", "name", "pid", "tid"} | KEYS[event["ph"]], event
        assert isinstance(event["name"], str) and type(event["pid"]) is type(event["tid"]) is int
        if event["ph"] == "M":
            names.add((event["pid"], event["tid"]))
            continue
        assert (event["pid"], event["tid"]) in names, "a track without a name"
        assert 0 <= last.get(event["pid"], 0) <= event["ts"]
        last[event["pid"]] = event["ts"]
        assert event["ph"] != "X" or event["dur"] >= 0
        assert event["ph"] != "C" or all(v >= 0 for v in event["args"].values())
    slices = [e for e in whole["traceEvents"] if e["ph"] == "X"]
    ends = {}
    for event in sorted(slices, key=lambda e: (e["ts"], -e["dur"])):
        track = event["pid"], event["tid"]
        assert event["ts"] >= ends.get(track, 0) - 1e-6, f"slices overlap: {event}"
        ends[track] = round(event["ts"] + event["dur"], 6)
    return whole["traceEvents"]


def test_recording(tmp_path):
    gemm = Instruction(Opcode.GEMM, tag=7, m=3, n=4, k=5, address=9).encode()
    recording = Recording(
        [(gemm, Status.OK, 10, 50), (0xEE, Status.BAD_OPCODE, 12, 51)],
        [(60, {c.name.lower(): 3 * c for c in Counter}),
         (90, {c.name.lower(): 10 * c for c in Counter})])
    trace = trace_of([Record(4, DramCommand.PART_ACT, bank=1),
                      Record(30, DramCommand.ALL_RD, bank=1),
                      Record(30, DramCommand.ACT, bank=2), Record(34, DramCommand.RD, bank=2),
                      Record(40, DramCommand.REFPB, bank_group=1, bank=3)])
    count = write_timeline(tmp_path / "t.json", SMALL, {0: (recording, trace), 3: (Recording(),
                                                                                  trace[:0])})
    events = read(tmp_path / "t.json")
    assert count == len(events)
    us = SMALL.dram_timing.tck_ps / 1e6
    done = [e for e in events if e["ph"] == "X" and e["cat"] == "instruction"]
    assert [e["name"] for e in done] == ["GEMM", "opcode 0xee"]
    assert done[0]["ts"] == pytest.approx(20 * us, abs=1e-6)
    assert done[0]["dur"] == pytest.approx(80 * us, abs=1e-6)
    assert done[1]["dur"] == pytest.approx(2 * us, abs=1e-6)
    assert done[0]["args"] == {
        "tag": 7, "m": 3, "n": 4, "k": 5, "address": 9, "accepted": 10, "completed": 50,
        "status": "OK"} | {name: 0 for name in done[0]["args"].keys() - {
            "tag", "m", "n", "k", "address", "accepted", "completed", "status"}}
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    seen = {e["name"]: tracks[e["tid"]] for e in events if e["ph"] == "X"}
    assert seen["ALL_RD"] == seen["PART_ACT"] == "bundle 1: Logic-PIM path"
    assert seen["RD"] == "bundle 1: xPU path"
    assert seen["REFPB"] == "refresh: rank 0 group 1 bank 3"
    moved = Count()
    for event in events:
        if event["name"] == "bytes a clock":
            moved.update(event["args"])
    assert moved["Logic-PIM read"] == SMALL.word_bytes / 32  # in a bucket of 64 nCK
    assert moved["xPU read"] == SMALL.granule_bytes / 32
    causes = [e["args"] for e in events if e["name"] == "clocks by cause"]
    assert causes[1]["operand"] == 7 * Counter.STALL_OPERAND


def test_nothing_is_left_of_a_failure(tmp_path):
    with pytest.raises(TraceError, match="cannot write the timeline"):
        write_timeline(tmp_path / "no" / "t.json", SMALL, {})
    with pytest.raises(KeyError):
        write_timeline(tmp_path / "t.json", SMALL, {0: (Recording(samples=[(1, {})]),
                                                        trace_of([]))})
    assert list(tmp_path.iterdir()) == []


def test_of_a_run(tmp_path, capsys):
    """As many commands and instructions as there were, on each channel."""
    shape = ["--m", "9", "--n", "600", "--k", "3", "--config", "small", "--channels", "2"]
    assert main(["bench", "gemm", *shape, "--json", "--trace", str(tmp_path / "t.csv"),
                 "--perfetto", str(tmp_path / "t.json")]) == 0
    result = json.loads(capsys.readouterr().out)
    events = read(tmp_path / "t.json")
    slices = Count((e["cat"], e["pid"]) for e in events if e["ph"] == "X")
    lines = (tmp_path / "t.csv").read_text().splitlines()[1:]
    commands = Count((("refresh" if line.split(",")[2].startswith("REF") else "dram"),
                      int(line.split(",")[1])) for line in lines)
    assert {k: v for k, v in slices.items() if k[0] != "instruction"} == commands
    for channel in range(2):
        phases = Count(e["ph"] for e in events
                       if e["pid"] == channel and e.get("cat") == "instruction")
        assert phases["X"] == phases["b"] == phases["e"] > 1
    active = [sum(e["args"]["active"] for e in events
                  if e["name"] == "clocks by cause" and e["pid"] == c) for c in range(2)]
    assert max(active) >= result["active"] > 0


def test_refused(tmp_path, capsys):
    shape = ["bench", "gemm", "--m", "1", "--n", "1", "--k", "1", "--config", "small"]
    for more, words in ((["--backend", "reference", "--perfetto", "t.json"], "--perfetto needs"),
                        (["--perfetto", str(tmp_path)], "cannot write the timeline")):
        assert main([*shape, *more]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1 and words in captured.err
