# SPDX-License-Identifier: BSD-2-Clause
"""The protocol checker against a slow, plain judge: every pair of commands, of their banks."""

import random

import numpy as np
import pytest

from logicpim.sim.dram.checker import TraceChecker, check_trace
from logicpim.sim.dram.constraints import CONSTRAINTS, FAW, Scope
from logicpim.sim.dram.trace import Record, trace_of
from logicpim.spec.config import Config, Tile
from logicpim.spec.dram import DramCommand as D
from logicpim.spec.dram import Organisation
from logicpim.spec.presets import PRESETS

SMALL, CHANNEL = PRESETS["small"], PRESETS["channel"]
# Another shape, and short distances that order the constraints in other ways.
ODD = Config(tile=Tile(rows=8, depth=8), dram=Organisation(ranks=4, bank_groups=2, bundle_banks=8),
             timing_overrides=dict(nRRDS=6, nRRDL=3, nFAW=25, nCCDS=5, nCCDL=3, nBL=4, nRFC=90,
                                   nCL=5, nCWL=9, nWTRS=12, nRAS=20, nRC=30, nRP=5))


def banks(record, org):
    """All (rank, bank group, bank) that a command touches."""
    if record.command == D.REFAB:
        return {(record.rank, g, b) for g in range(org.bank_groups)
                for b in range(org.banks_per_group)}
    if record.command.is_bundle:
        return {org.bank_of(record.bank, lane) for lane in range(org.bundle_banks)}
    return {(record.rank, record.bank_group, record.bank)}


def meet(scope, first, second):
    """Whether two banks meet in a scope."""
    return {Scope.BANK: first == second, Scope.GROUP: first[:2] == second[:2],
            Scope.OTHER_GROUP: first[0] == second[0] and first[1] != second[1],
            Scope.RANK: first[0] == second[0], Scope.CHANNEL: True}[scope]


def spread(records, config):
    """(record, index) with the activates of each PART_ACT in its place."""
    org = config.dram
    for i, r in enumerate(records):
        if r.command != D.PART_ACT:
            yield r, i
            continue
        for group in range(org.bank_groups):
            _, _, bank = org.bank_of(r.bank, r.bank_group * org.bank_groups + group)
            yield Record(r.clock + group * config.dram_timing.nRRDS, D.ACT, r.rank, group, bank), i


def judge(records, config):
    """Set of (constraint, clock of the first command, of the second), nearest first."""
    singles = sorted(spread(records, config), key=lambda pair: (
        pair[0].clock, pair[0].command.is_column, pair[1]))
    return distances([r for r, _ in singles], config) | states(records, config)


def distances(records, config):
    org, timing = config.dram, config.dram_timing
    found = {}
    touched = [banks(r, org) for r in records]
    for j, second in enumerate(records):
        for i, first in enumerate(records):
            if i == j or first.clock > second.clock:
                continue
            for c in CONSTRAINTS:
                if first.clock == second.clock and i > j and second.command in c.first:
                    continue
                if first.command in c.first and second.command in c.next \
                        and second.clock - first.clock < c.required(timing) \
                        and any(meet(c.scope, a, b) for a in touched[i] for b in touched[j]):
                    if (c.name, j) not in found or found[c.name, j] < i:
                        found[c.name, j] = i
    result = {(name, records[i].clock, records[j].clock) for (name, j), i in found.items()}
    for rank in range(org.ranks):
        acts, seen = [], set()
        for i, r in enumerate(records):
            if r.command in FAW.first and r.rank == rank:
                weight = 1
                if r.command.is_bundle:
                    weight = org.bundle_banks if config.stagger else 0
                for _ in range(weight):
                    if len(acts) >= 4 and r.clock - acts[-4] < timing.nFAW and i not in seen:
                        seen.add(i)
                        result.add(("nFAW", acts[-4], r.clock))
                    acts.append(r.clock)
    return result


def states(records, config):
    """Rules that know no distance."""
    org, rows, result = config.dram, {}, set()
    for r in records:
        touched = banks(r, org)
        if r.command == D.PART_ACT:
            touched = {org.bank_of(r.bank, r.bank_group * org.bank_groups + g)
                       for g in range(org.bank_groups)}
        for bank in touched:
            if r.command in (D.ACT, D.ALL_ACT, D.PART_ACT):
                if rows.get(bank):
                    result.add(("ACT on open bank", None, r.clock))
                rows[bank] = True
            elif r.command in (D.PRE, D.ALL_PRE):
                rows[bank] = False
            elif r.command in (D.REFAB, D.REFPB):
                if rows.get(bank):
                    result.add((f"{r.command.name} on open bank", None, r.clock))
            elif not rows.get(bank):
                result.add(("column on closed bank", None, r.clock))
    return result


def noise(config, rng, length, gap):
    """Commands at random places and distances, at most one a clock on each bus."""
    org, records, busy = config.dram, [], set()
    clock = 0
    while len(records) < length:
        clock += rng.choices((0, 1, 2, 3, rng.randrange(gap)), (1, 4, 4, 4, 4))[0]
        command = rng.choices([c for c in D if c], [8, 6, 1, 4, 4, 4, 3, 10, 6, 8, 4])[0]
        if (clock, command.is_column) in busy:
            continue
        busy.add((clock, command.is_column))
        rank = rng.randrange(org.ranks)
        if command.is_bundle:
            high = rng.randrange(org.bundles_per_rank)
            part = rng.randrange(org.parts) if command is D.PART_ACT else 0
            record = Record(clock, command, rank, part, rank * org.bundles_per_rank + high)
        elif command is D.REFAB:
            record = Record(clock, command, rank)
        else:
            record = Record(clock, command, rank, rng.randrange(org.bank_groups),
                            rng.randrange(min(2, org.banks_per_group)))
        records.append(record)
    return sorted(records, key=lambda r: (r.clock, r.command.is_column))


@pytest.mark.parametrize("config", [SMALL, CHANNEL, ODD], ids=["small", "channel", "odd"])
@pytest.mark.parametrize("gap", [10, 60])
@pytest.mark.parametrize("stagger", [False, True])
def test_naive_judge_agrees(config, gap, stagger, seed):
    rng = random.Random(seed)
    config = config.replace(refresh=False, stagger=stagger)
    for _ in range(4):
        records = noise(config, rng, 120, gap)
        trace = trace_of(records)
        found = check_trace(trace, config, keep=10 ** 6)
        state = ("ACT on open bank", "REFAB on open bank", "REFPB on open bank",
                 "column on closed bank")
        # A bundle and a bank may both be nearest in a scope: the naive judge keeps one of them.
        best = {}
        for v in found:
            key = v.constraint, v.second.clock
            first = None if v.constraint in state else v.first.clock
            best[key] = first if first is None else max(first, best.get(key, -1))
        want = {}
        for name, first, second in judge(records, config):
            key = name, second
            want[key] = first if first is None else max(first, want.get(key, -1))
        assert best == want

        # Fed in pieces of any size, the verdict is the same.
        checker = TraceChecker(config, keep=10 ** 6)
        cuts = sorted(rng.randrange(len(trace)) for _ in range(rng.randrange(8)))
        cuts = [c for c in cuts if 0 < c and trace["clock"][c - 1] < trace["clock"][c]]
        for piece in np.split(trace, cuts):
            piece = piece.copy()
            rng.shuffle(order := list(range(len(piece))))
            checker.feed(piece[order])
        verdicts = [{(v.constraint, v.second.clock) for v in vs} for vs in (
            checker.finish(), found)]
        assert verdicts[0] == verdicts[1]
