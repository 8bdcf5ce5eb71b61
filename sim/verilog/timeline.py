# SPDX-License-Identifier: BSD-2-Clause
"""What happened on each channel, when: a file in the trace-event format, for ui.perfetto.dev.

A process is a channel, its tracks are the units: instructions, the two paths to each bundle,
refresh of each bank. Times are microseconds since the channel's reset, to a thousandth.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path

import numpy as np

from logicpim.sim.dram.trace import Record, whole_file
from logicpim.spec.config import Config
from logicpim.spec.device import STALLS, Counter
from logicpim.spec.dram import DramCommand
from logicpim.spec.isa import FIELDS, Instruction, Opcode, Status

BUCKETS, LEAST_BUCKET = 2000, 64
_INSTRUCTIONS, _BUNDLES, _REFRESH = 1, 100, 10_000
_REFRESHES = (DramCommand.REFAB, DramCommand.REFPB)
_PATHS = {"Logic-PIM read": DramCommand.ALL_RD, "Logic-PIM written": DramCommand.ALL_WR,
          "xPU read": DramCommand.RD, "xPU written": DramCommand.WR}


@dataclass
class Recording:
    """What a device has to say of a channel beside its DRAM commands.

    Attributes
    ----------
    instructions : list of (descriptor, status, clock accepted, clock completed)
    samples : list of (clock, counters by lower-case name)
    """

    instructions: list[tuple[int, int, int, int]] = field(default_factory=list)
    samples: list[tuple[int, dict[str, int]]] = field(default_factory=list)


def write_timeline(path: str | Path, config: Config,
                   channels: Mapping[int, tuple[Recording, np.ndarray]]) -> int:
    """Write the recordings and command traces of some channels, whole or not at all.

    Returns the number of events.
    """
    count = 0
    with whole_file(path, "timeline") as file:
        file.write('{"displayTimeUnit": "ns", "traceEvents": [')
        for channel, (recording, trace) in channels.items():
            for event in events(config, channel, recording, trace):
                file.write(",\n" if count else "\n")
                file.write(json.dumps(event, separators=(",", ":")))
                count += 1
        file.write("\n]}\n")
    return count


def events(config: Config, channel: int, recording: Recording, trace: np.ndarray
           ) -> Iterator[dict]:
    """The events of one channel: names of its tracks, then what happened, in order of time."""
    tracks = {0: f"channel {channel}", _INSTRUCTIONS: "instructions"}
    timed = [_instructions(config, recording), _commands(config, trace, tracks),
             _bytes(config, trace), _stalls(config, recording)]
    happened = [{**event, "pid": channel} for event in merge(*timed, key=lambda e: e["ts"])]
    for tid, name in sorted(tracks.items()):
        kind = "thread_name" if tid else "process_name"
        yield {"ph": "M", "name": kind, "pid": channel, "tid": tid, "args": {"name": name}}
        yield {"ph": "M", "name": kind.replace("name", "sort_index"), "pid": channel, "tid": tid,
               "args": {"sort_index": tid or channel}}
    yield from happened


def _us(config: Config, nck: int) -> float:
    """Microseconds of a number of command clocks."""
    return round(int(nck) * config.dram_timing.tck_ps / 1e6, 6)


def _instructions(config, recording):
    """Each twice: from acceptance to completion (they overlap), and alone at the head."""
    per_clock, free, found = config.dram_timing.CK_PER_CLOCK, 0, []
    for number, (word, status, accepted, completed) in enumerate(recording.instructions):
        values = {name: word >> f.lsb & (1 << f.width) - 1 for name, f in FIELDS.items()}
        code = values["opcode"]
        known = code in set(Opcode)
        name = Opcode(code).name if known else f"opcode {code:#04x}"
        insn = Instruction.decode(word)
        args = {key: value for key, value in values.items()
                if known and insn.opcode in FIELDS[key].opcodes and key != "opcode"}
        args |= {"status": Status(status).name, "accepted": int(accepted),
                 "completed": int(completed)}
        begin, start, end = (_us(config, per_clock * clock) for clock in (
            accepted, max(accepted, free), completed))
        free = completed
        common = {"name": name, "cat": "instruction", "tid": _INSTRUCTIONS}
        found += [{"ph": "b", "id": number, "ts": begin, **common},
                  {"ph": "X", "ts": start, "dur": round(end - start, 6), **common, "args": args},
                  {"ph": "e", "id": number, "ts": end, **common}]
    return sorted(found, key=lambda event: event["ts"])


def _commands(config, trace, tracks):
    """DRAM commands, one clock of the command bus long, refreshes as long as they take."""
    org, timing, found = config.dram, config.dram_timing, []
    for element in trace:
        r = Record.of(element)
        width = 1
        if r.command is DramCommand.REFAB:
            tid, name, width = _REFRESH + r.rank, f"refresh: rank {r.rank}", timing.nRFC
        elif r.command is DramCommand.REFPB:
            index = (r.rank * org.bank_groups + r.bank_group) * org.banks_per_group + r.bank
            tid, width = _REFRESH + org.ranks + index, timing.nRFCSB
            name = f"refresh: rank {r.rank} group {r.bank_group} bank {r.bank}"
        elif r.command.is_bundle:
            tid, name = _BUNDLES + 2 * r.bank, f"bundle {r.bank}: Logic-PIM path"
        else:
            bundle, _ = org.lane_of(r.rank, r.bank_group, r.bank)
            tid, name = _BUNDLES + 2 * bundle + 1, f"bundle {bundle}: xPU path"
        tracks[tid] = name
        found.append({"ph": "X", "name": r.command.name,
                      "cat": "refresh" if r.command in _REFRESHES else "dram", "tid": tid,
                      "ts": _us(config, r.clock), "dur": _us(config, width),
                      "args": {"command": str(r), "clock": r.clock}})
    return sorted(found, key=lambda event: event["ts"])


def _bytes(config, trace):
    """Bytes a logic clock over each path, in intervals of time."""
    if not len(trace):
        return []
    clocks = trace["clock"].astype(np.int64)
    bucket = max(LEAST_BUCKET, -(-int(clocks[-1] - clocks[0] + 1) // BUCKETS))
    edges = np.arange(clocks[0], clocks[-1] + 2 * bucket, bucket)
    series = {}
    for name, command in _PATHS.items():
        size = config.word_bytes if command.is_bundle else config.granule_bytes
        moved, _ = np.histogram(clocks[trace["command"] == command], edges)
        series[name] = moved * size * config.dram_timing.CK_PER_CLOCK / bucket
    return [{"ph": "C", "name": "bytes a clock", "tid": 0, "ts": _us(config, edge),
             "args": {name: round(float(values[i]), 3) for name, values in series.items()}}
            for i, edge in enumerate(edges[:-1])]


def _stalls(config, recording):
    """Clocks lost to each cause, and those in use, between two readings of the counters."""
    last, found = {}, []
    for clock, values in recording.samples:
        gained = {c.name.lower().removeprefix("stall_"): max(
            0, values[c.name.lower()] - last.get(c.name.lower(), 0))
            for c in (Counter.ACTIVE, *STALLS)}
        last = values
        found.append({"ph": "C", "name": "clocks by cause", "tid": 0,
                      "ts": _us(config, config.dram_timing.CK_PER_CLOCK * clock), "args": gained})
    return found
