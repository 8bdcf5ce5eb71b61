# SPDX-License-Identifier: BSD-2-Clause
"""The protocol checker: each constraint blocked at t-1 and passed at t, each rule broken once."""

import numpy as np
import pytest

from logicpim.sim.dram.checker import TraceChecker, check_trace
from logicpim.sim.dram.constraints import CONSTRAINTS, FAW, RULES, Scope
from logicpim.sim.dram.trace import TRACE_DTYPE, Record, trace_of
from logicpim.spec.dram import TIMINGS, Organisation
from logicpim.spec.dram import DramCommand as D
from logicpim.spec.presets import PRESETS

# The activates of a bundle at once, as in the paper; the checker is told so.
CHANNEL = PRESETS["channel"].replace(stagger=False)
STAGGERED = PRESETS["channel"]
TIMING = CHANNEL.dram_timing
# So far apart that no constraint binds, so near that no refresh is due.
FAR = 600


def names(trace, config=CHANNEL, **options):
    return sorted({v.constraint for v in check_trace(trace_of(trace), config, **options)})


def place(command, scope, which):
    """Address of the first or second of a pair that meets in a scope, as narrowly as it can."""
    if command is D.REFAB:
        return dict(rank=0)
    if command.is_bundle:
        rank = which if scope is Scope.CHANNEL else 0
        other = which if scope in (Scope.GROUP, Scope.OTHER_GROUP, Scope.RANK) else 0
        return dict(rank=rank, bank=rank * CHANNEL.dram.bundles_per_rank + other)
    group, bank, rank = 0, 0, 0
    if which:
        group = {Scope.OTHER_GROUP: 1, Scope.RANK: 1, Scope.CHANNEL: 1}.get(scope, 0)
        bank = {Scope.GROUP: 3, Scope.OTHER_GROUP: 2}.get(scope, 0)
        rank = int(scope is Scope.CHANNEL)
    return dict(rank=rank, bank_group=group, bank=bank)


def banks(command, at):
    """All (rank, bank group, bank) that a command touches."""
    if command.is_bundle:
        return {CHANNEL.dram.bank_of(at["bank"], lane) for lane in range(8)}
    return {(at["rank"], at["bank_group"], at["bank"])}


# No speed grade has a read so early that a write's data could meet that of the read after it.
EARLY = CHANNEL.replace(timing_overrides={"nCL": 2, "nCWL": 30})


def memory(constraint):
    """A memory in which the constraint requires something."""
    return CHANNEL if constraint.required(TIMING) > 0 else EARLY


PAIRS = [(c, f, n) for c in CONSTRAINTS for f in c.first for n in c.next
         if c.required(memory(c).dram_timing) > 0]


def pair(constraint, first, second, distance):
    """A trace with the pair at a distance, and all else that it needs far before."""
    here, there = place(first, constraint.scope, 0), place(second, constraint.scope, 1)
    needed = banks(first, here) if first.is_column else set()
    if second.is_column:
        opened = banks(first, here) if first in (D.ACT, D.ALL_ACT) else set()
        needed |= banks(second, there) - opened
    records = [Record(i * FAR, D.ACT, *bank) for i, bank in enumerate(sorted(needed))]
    clock = len(records) * FAR
    return [*records, Record(clock, first, **here), Record(clock + distance, second, **there)]


def impossible(constraint, first, second):
    """Pairs of one bank whose order the state rules forbid, whatever the distance."""
    opens, columns = (D.ACT, D.ALL_ACT), [c for c in D if c.is_column]
    same = constraint.scope is Scope.BANK
    return (constraint.name == "nRC" or second is D.REFAB and first in opens
            or first is D.REFAB and second in columns
            or same and (second is D.REFPB and first in opens
                         or first is D.REFPB and second in columns))


@pytest.mark.parametrize("constraint, first, second", PAIRS,
                         ids=[f"{c.name}-{f.name}-{n.name}" for c, f, n in PAIRS])
def test_tight(constraint, first, second):
    """Too soon at t-1; at t this constraint is content."""
    config = memory(constraint)
    timing = config.dram_timing
    required = constraint.required(timing)
    early = names(pair(constraint, first, second, required - 1), config, end_clock=0)
    legal = names(pair(constraint, first, second, required), config, end_clock=0)
    assert constraint.name in early
    assert constraint.name not in legal
    if not impossible(constraint, first, second):
        # What else stands in the way at t is a longer constraint on the same pair.
        longer = {c.name for c in CONSTRAINTS if first in c.first and second in c.next
                  and c.required(timing) > required}
        assert set(legal) <= longer


# What is judged by other tests of this file: a window, the distances of refreshes.
APART = {FAW: "test_faw", "nREFMAX": "test_refresh", "nREFI": "test_refresh"}


def test_every_row_has_its_pair():
    """Each row of the table, with each of its commands, is among the pairs; each rule is broken."""
    assert {(c, f, n) for c in CONSTRAINTS for f in c.first for n in c.next} == set(PAIRS)
    marks = {mark.args[0]: mark.args[1] for mark in test_rule.pytestmark}
    broken = {rule for rule, _ in marks["rule, trace"]}
    assert broken | {name for name in APART if name in RULES} == set(RULES)
    assert FAW in APART and all(callable(globals()[test]) for test in APART.values())


@pytest.mark.parametrize("constraint, first, second",
                         [case for case in PAIRS if case[0].scope is not Scope.CHANNEL])
def test_other_rank(constraint, first, second):
    """Outside the data buses, ranks do not bind each other."""
    away = {"rank": 1}
    if second.is_bundle:
        away["bank"] = CHANNEL.dram.bundles_per_rank
    trace = [Record(FAR, first, **place(first, constraint.scope, 0)),
             Record(FAR + constraint.required(memory(constraint).dram_timing) - 1, second, **away)]
    assert constraint.name not in names(trace, memory(constraint), end_clock=0)


def test_faw():
    def trace(last):
        clocks = [FAR, FAR + 5, FAR + 10, FAR + 15, FAR + last]
        return [Record(t, D.ACT, 0, i % 4, i // 4) for i, t in enumerate(clocks)]
    assert names(trace(TIMING.nFAW - 1), end_clock=0) == [FAW.name]
    assert names(trace(TIMING.nFAW), end_clock=0) == []


def test_all_banks_at_once():
    """Where activates are to be staggered, those of a whole bundle are too many."""
    trace = [Record(FAR, D.ALL_ACT, 0, 0, 0)]
    assert names(trace, end_clock=0) == []
    assert set(names(trace, STAGGERED, end_clock=0)) == {FAW.name}


PART = Record(FAR, D.PART_ACT, 0, 0, 0, 7)
LAST = 3 * TIMING.nRRDS  # the last activate of a part after its command
PARTS = [
    ("nFAW", TIMING.nFAW, D.PART_ACT, dict(bank_group=1, bank=0)),
    ("nFAW", TIMING.nFAW, D.PART_ACT, dict(bank_group=0, bank=1)),
    ("nFAW", TIMING.nFAW, D.ACT, dict(bank_group=1, bank=2)),
    ("nRC", TIMING.nRC, D.PART_ACT, dict(bank_group=0, bank=0)),
    ("nRCDRD", LAST + TIMING.nRCDRD, D.RD, dict(bank_group=3, bank=0)),
    ("nRCDRD", TIMING.nRCDRD, D.RD, dict(bank_group=0, bank=0)),
    ("nRAS", LAST + TIMING.nRAS, D.ALL_PRE, dict(bank=0)),
    ("nRAS", LAST + TIMING.nRAS, D.PRE, dict(bank_group=3, bank=0)),
    ("nRRDL", LAST + TIMING.nRRDL, D.REFPB, dict(bank_group=3, bank=1)),
    ("nRRDS", LAST + TIMING.nRRDS, D.REFPB, dict(bank_group=2, bank=1)),
]


@pytest.mark.parametrize("name, distance, second, place", PARTS)
def test_part(name, distance, second, place):
    """A part is judged as its activates, nRRDS apart, in whatever pieces it is fed."""
    def trace(distance):
        return trace_of([PART, Record(FAR + distance, second, 0, **place)])
    for pieces in ([slice(None)], [slice(1), slice(1, None)]):
        for distance_, found in ((distance - 1, True), (distance, False)):
            checker = TraceChecker(STAGGERED)
            for piece in pieces:
                checker.feed(trace(distance_)[piece])
            names_ = {v.constraint for v in checker.violations}
            assert (name in names_) == found
            assert found or names_ <= {"nRC", "nRAS", "ACT on open bank", "nFAW"}


def test_part_between():
    """An activate between those of a part keeps away from them too, whichever comes first."""
    bank = dict(bank_group=2, bank=3)
    for apart, legal in ((-TIMING.nRRDL, True), (1 - TIMING.nRRDL, False), (0, False),
                         (TIMING.nRRDL - 1, False)):
        at = FAR + 2 * TIMING.nRRDS + apart
        checker = TraceChecker(STAGGERED.replace(timing_overrides={"nFAW": 1}))
        for record in sorted([PART, Record(at, D.ACT, 0, **bank)]):
            checker.feed(trace_of([record]))
        assert ("nRRDL" not in {v.constraint for v in checker.violations}) == legal


@pytest.mark.parametrize("pieces", [[slice(None)], [slice(1), slice(1, None)]])
def test_part_around_a_window(pieces):
    """First and last activate of a window fed earlier than the one that makes it too many."""
    trace = trace_of([PART, Record(FAR + 1, D.ACT, 0, 2, 3)])
    checker = TraceChecker(STAGGERED, keep=10)
    for piece in pieces:
        checker.feed(trace[piece])
    found = [v for v in checker.violations if v.constraint == FAW.name]
    assert [v.distance for v in found] == [LAST]


@pytest.mark.parametrize("host, bundle", [(D.RD, D.ALL_RD), (D.WR, D.ALL_RD), (D.WR, D.ALL_WR)])
def test_paths_apart(host, bundle):
    """Switches separate the two paths: a bank and a bundle of a rank do not bind each other."""
    opened = [Record(0, D.ALL_ACT, 0, 0, 0), Record(100, D.ACT, 0, 1, 2)]
    for first, second in ((host, bundle), (bundle, host)):
        places = {host: dict(bank_group=1, bank=2), bundle: dict(bank=0)}
        trace = [*opened, Record(FAR, first, 0, **places[first]),
                 Record(FAR + 1, second, 0, **places[second])]
        assert names(trace, end_clock=0) == []


OPEN = Record(0, D.ACT, 0, 1, 1, 5)
BUNDLE = Record(0, D.ALL_ACT, 0, 0, 0, 5)


@pytest.mark.parametrize("rule, trace", [
    ("ACT on open bank", [OPEN, OPEN._replace(clock=FAR)]),
    ("ACT on open bank", [OPEN, BUNDLE._replace(clock=FAR)]),
    ("ACT on open bank", [BUNDLE, OPEN._replace(clock=FAR)]),
    ("ACT on open bank", [BUNDLE, BUNDLE._replace(clock=FAR)]),
    ("column on closed bank", [Record(0, D.RD, 0, 1, 1)]),
    ("column on closed bank", [OPEN, Record(FAR, D.WR, 0, 1, 0)]),
    ("column on closed bank", [OPEN, Record(FAR, D.PRE, 0, 1, 1), Record(2 * FAR, D.RD, 0, 1, 1)]),
    ("column on closed bank", [OPEN, Record(FAR, D.ALL_RD, 0, 0, 0)]),
    ("column on closed bank", [BUNDLE, Record(FAR, D.ALL_RD, 0, 0, 1)]),
    ("column on closed bank", [BUNDLE, Record(FAR, D.PRE, 0, 3, 1),
                               Record(2 * FAR, D.ALL_WR, 0, 0, 0)]),
    ("REFAB on open bank", [OPEN, Record(FAR, D.REFAB, 0)]),
    ("REFAB on open bank", [BUNDLE, Record(FAR, D.PRE, 0, 0, 0), Record(2 * FAR, D.REFAB, 0)]),
    ("REFPB on open bank", [OPEN, Record(FAR, D.REFPB, 0, 1, 1)]),
    ("REFPB on open bank", [BUNDLE, Record(FAR, D.REFPB, 0, 3, 1)]),
    ("address", [Record(0, D.REFPB, 0, 4, 0)]),
    ("address", [Record(0, D.PART_ACT, 0, 2, 0)]),
    ("ACT on open bank", [OPEN, PART._replace(bank_group=1, clock=FAR)]),
    ("column on closed bank", [PART, Record(2 * FAR, D.ALL_RD, 0, 0, 0)]),
    ("row bus", [Record(FAR, D.PRE, 0, 1, 1), Record(FAR, D.PRE, 1, 1, 1)]),
    ("column bus", [OPEN, Record(300, D.ALL_ACT, 1, 0, 2), Record(FAR, D.RD, 0, 1, 1),
                    Record(FAR, D.ALL_RD, 1, 0, 2)]),
    ("address", [Record(0, D.REFAB, 2)]),
    ("address", [Record(0, D.ACT, 0, 4, 0)]),
    ("address", [Record(0, D.ACT, 0, 0, 4)]),
    ("address", [Record(0, D.ACT, 0, 0, 0, CHANNEL.dram.rows)]),
    ("address", [OPEN, Record(FAR, D.RD, 0, 1, 1, 0, CHANNEL.dram.columns)]),
    ("address", [Record(0, D.ALL_ACT, 0, 0, 2)]),
    ("address", [Record(0, D.ALL_PRE, 1, 0, 4)]),
    ("unknown command", [Record(0, 12)]),
    ("unknown command", [Record(0, 0)]),
])
def test_rule(rule, trace):
    found = check_trace(trace_of(trace), CHANNEL, end_clock=0)
    assert [v.constraint for v in found] == [rule]
    assert str(found[0].second) in str(found[0]) and "\n" not in str(found[0])


@pytest.mark.parametrize("trace", [
    [OPEN, Record(FAR, D.WR, 0, 1, 1), Record(2 * FAR, D.PRE, 0, 1, 1),
     Record(3 * FAR, D.REFAB, 0)],
    [BUNDLE, Record(FAR, D.RD, 0, 1, 1), Record(2 * FAR, D.ALL_RD, 0, 0, 0),
     Record(3 * FAR, D.PRE, 0, 1, 1), Record(3 * FAR + 2, D.ALL_PRE, 0, 0, 0),
     Record(4 * FAR, D.REFAB, 0)],
    [OPEN, Record(FAR, D.REFAB, 1)],
    [OPEN, Record(FAR, D.REFPB, 0, 1, 0), Record(FAR + TIMING.nRREFD, D.REFPB, 0, 2, 1)],
    [PART, PART._replace(clock=FAR + TIMING.nFAW, bank_group=1),
     Record(2 * FAR, D.ALL_RD, 0, 0, 0)],
    [Record(0, D.PRE, 0, 1, 1)],
    [Record(9, D.ACT, 0, 0, 0)],
    [OPEN, Record(100, D.ACT, 1, 1, 1), Record(100, D.RD, 0, 1, 1)],
])
def test_legal(trace):
    assert check_trace(trace_of(trace), CHANNEL) == []


def refreshes(*clocks, rank=0):
    return [Record(t, D.REFAB, rank) for t in clocks]


ONE_RANK = CHANNEL.replace(dram=Organisation(ranks=1))


@pytest.mark.parametrize("gaps, end, legal", [
    ([], TIMING.nREFMAX - 1, True),
    ([], TIMING.nREFMAX, False),
    ([TIMING.nREFMAX], TIMING.nREFMAX, True),
    ([TIMING.nREFMAX + 1], TIMING.nREFMAX + 1, False),
    ([TIMING.nREFI] * 30, 30 * TIMING.nREFI, True),
    ([TIMING.nREFMAX] + [TIMING.nRFC] * 9 + [TIMING.nREFMAX], None, True),
    ([TIMING.nREFMAX] + [TIMING.nRFC] * 7 + [TIMING.nREFMAX], None, False),
    ([TIMING.nREFI + 1] * 9, 9 * TIMING.nREFI + 9, True),
    ([500] * 40, 40 * 500 + TIMING.nREFMAX, True),
    ([500] * 40, 40 * 500 + TIMING.nREFMAX + 1, False),
])
def test_refresh(gaps, end, legal):
    trace = trace_of(refreshes(*np.cumsum(gaps).tolist()))
    found = check_trace(trace, ONE_RANK, end_clock=end)
    assert (found == []) == legal
    assert {v.constraint for v in found} <= {"nREFMAX", "nREFI"}
    later = trace.copy()
    later["clock"] += 12345
    end = None if end is None else end + 12345
    assert (check_trace(later, ONE_RANK, start_clock=12345, end_clock=end) == []) == legal
    assert check_trace(trace, ONE_RANK.replace(refresh=False), end_clock=end) == []


def test_each_bank_counts():
    """A refresh of one bank, or of all, counts for each; the one bank left out is told."""
    org, config = ONE_RANK.dram, ONE_RANK
    banks = [(g, b) for g in range(org.bank_groups) for b in range(org.banks_per_group)]

    def trace(without=None):
        return [Record(n * TIMING.nREFI + 20 * i, D.REFPB, 0, *bank) for n in range(1, 12)
                for i, bank in enumerate(banks) if bank != without]
    end = 12 * TIMING.nREFI
    assert check_trace(trace_of(trace()), config, end_clock=end) == []
    for without in banks[::5]:
        found = check_trace(trace_of(trace(without)), config, end_clock=end)
        assert {v.constraint for v in found} == {"nREFMAX", "nREFI"}
    mixed = trace((0, 0)) + refreshes(*(n * TIMING.nREFI + 2600 for n in (2, 4, 6, 8)))
    assert check_trace(trace_of(sorted(mixed)), config, end_clock=end) == []


def test_only_eight_ahead_count():
    """Refreshes pulled in beyond eight do not pay for later ones."""
    early = list(range(0, 40 * 500, 500))
    gaps = [early[-1] + n * (TIMING.nREFMAX - 1) for n in (1, 2)]
    found = check_trace(trace_of(refreshes(*early, *gaps)), ONE_RANK)
    assert {v.constraint for v in found} == {"nREFI"}


def test_longest_gap_apart():
    """The longest distance binds although on the average nothing is owed."""
    early = refreshes(*range(0, 40 * 500, 500))
    trace = trace_of(early + refreshes(39 * 500 + TIMING.nREFMAX + 1))
    assert [v.constraint for v in check_trace(trace, ONE_RANK)] == ["nREFMAX"]


def test_each_rank_is_refreshed():
    trace = refreshes(*range(FAR, 20 * TIMING.nREFI, TIMING.nREFI))
    found = check_trace(trace_of(trace), CHANNEL)
    assert {v.constraint for v in found} == {"nREFMAX", "nREFI"}
    assert check_trace(trace_of(trace), ONE_RANK) == []


def test_fed_out_of_order():
    checker = TraceChecker(CHANNEL)
    checker.feed(trace_of([Record(10, D.PRE)]))
    checker.feed(np.zeros(0, TRACE_DTYPE))
    with pytest.raises(ValueError, match="9 fed after 10"):
        checker.feed(trace_of([Record(9, D.PRE)]))


def test_many_violations_are_counted():
    checker = TraceChecker(CHANNEL, keep=7)
    checker.feed(trace_of([Record(t, D.RD) for t in range(0, 3000, 6)]))
    assert (len(checker.violations), checker.count) == (7, 500)


def test_every_timing_row_is_used():
    used = set.union(*(c.rows for c in (*CONSTRAINTS, FAW))) | set(RULES)
    assert set(TIMINGS["hbm3-5.2"].rows) - used == {"nRTPS"}


def test_a_row_is_judged_by_its_own_value():
    """Doubling a timing row moves the constraint of that row."""
    doubled = CHANNEL.replace(timing_overrides={"nRP": 2 * TIMING.nRP})
    trace = [Record(0, D.PRE, 0, 1, 1), Record(TIMING.nRP, D.ACT, 0, 1, 1)]
    assert names(trace) == [] and names(trace, doubled) == ["nRP"]
