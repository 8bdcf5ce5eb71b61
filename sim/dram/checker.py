# SPDX-License-Identifier: BSD-2-Clause
"""The protocol checker: judges a recorded command trace, knows nothing of what issued it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np

from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand

from .constraints import CONSTRAINTS, FAW, POSTPONED, RULES, Constraint, Scope
from .trace import TRACE_DTYPE, Record

_OPENS = (DramCommand.ACT, DramCommand.ALL_ACT, DramCommand.PART_ACT)
_CLOSES = (DramCommand.PRE, DramCommand.ALL_PRE)
_BUNDLE = tuple(c for c in DramCommand if c.is_bundle)
_KNOWN = tuple(c for c in DramCommand if c is not DramCommand.NOP)


@cache
def _table(codes: Iterable[DramCommand], bundle: bool | None = None) -> np.ndarray:
    """Whether a code (uint8) is one of these commands, of bundles or of single banks if asked."""
    table = np.zeros(256, bool)
    table[[c for c in codes if bundle is None or c.is_bundle == bundle]] = True
    return table


@dataclass(frozen=True)
class Violation:
    """One breach of the protocol; ``str()`` of it is one line for people.

    Parameters
    ----------
    constraint : str
        Name in :data:`~.constraints.CONSTRAINTS` or key of :data:`~.constraints.RULES`.
    meaning : str
    channel : int
    first, second : Record or None
        The command that sets the condition and the one that breaks it.
    distance, required : int or None
        In nCK; for ``nREFI``, in refreshes.
    """

    constraint: str
    meaning: str
    channel: int
    first: Record | None
    second: Record | None
    distance: int | None = None
    required: int | None = None

    def __str__(self) -> str:
        text = f"channel {self.channel}: {self.constraint} ({self.meaning})"
        text += f": {self.second} at {self.second.clock}" if self.second else ": end of trace"
        text += f" after {self.first} at {self.first.clock}" if self.first else ""
        return text + (f": {self.distance}, required {self.required}" if self.required else "")


class _Commands:
    """A sorted piece of a trace in columns, with the banks it addresses as numbers.

    ``fresh`` tells which commands were fed last.
    """

    def __init__(self, trace: np.ndarray, config: Config, fresh=None):
        org = config.dram
        self.trace = trace
        self.fresh = np.ones(len(trace), bool) if fresh is None else fresh
        self.clock = trace["clock"].astype(np.int64)
        self.command = trace["command"]
        self.rank = trace["rank"].astype(np.int64)
        self.group = trace["bank_group"].astype(np.int64)
        bank = trace["bank"].astype(np.int64)
        self.is_bundle = _table(_BUNDLE)[self.command]
        bundle, self.lane = org.lane_of(self.rank, self.group, bank)
        self.bundle = np.where(self.is_bundle, bank, bundle)
        self.rank_group = self.rank * org.bank_groups + self.group
        self.bank = self.rank_group * org.banks_per_group + bank
        self.channel = np.zeros(len(trace), np.int64)
        self._found: dict[tuple, np.ndarray] = {}

    @classmethod
    def spread(cls, trace: np.ndarray, config: Config, fresh: np.ndarray) -> "_Commands":
        """Each PART_ACT as the activates it stands for, at their clocks."""
        org = config.dram
        part = trace["command"] == DramCommand.PART_ACT
        at = np.repeat(np.arange(len(trace)), np.where(part, org.bank_groups, 1))
        group = np.arange(len(at)) - np.searchsorted(at, at)
        single, part = trace[at], part[at]
        low = single["bank_group"][part].astype(np.int64)
        high = single["bank"][part] % org.bundles_per_rank
        single["command"][part] = DramCommand.ACT
        single["bank_group"][part] = group[part]
        single["bank"][part] = high * org.parts + low
        single["clock"][part] += (group[part] * config.dram_timing.nRRDS).astype(np.uint64)
        order = np.argsort(single["clock"], kind="stable")
        return cls(single[order], config, fresh[at][order])

    def where(self, codes: tuple[DramCommand, ...], bundle: bool | None = None) -> np.ndarray:
        """Positions of these commands, of bundles or of single banks alone if asked."""
        key = codes, bundle
        if key not in self._found:  # asked again by other constraints
            self._found[key] = _table(*key)[self.command].nonzero()[0]
        return self._found[key]


class TraceChecker:
    """Judges one channel's trace as it grows.

    Violations of one kind are counted without end in ``count`` but kept up to ``keep``.

    Parameters
    ----------
    config : Config
    channel : int
        Named in the violations.
    start_clock : int
        Command clock from which the refresh obligation runs; banks are closed and idle then.
    keep : int
        Violations of one name to keep from each feed.
    """

    def __init__(self, config: Config, channel: int = 0, start_clock: int = 0, keep: int = 100):
        self.config, self.channel, self.keep = config, channel, keep
        self.start_clock = self.end_clock = start_clock
        self.violations: list[Violation] = []
        self.count = 0
        timing = config.dram_timing
        self._required = {c: c.required(timing) for c in (*CONSTRAINTS, FAW)}
        self._bound = [(c, self._required[c]) for c in CONSTRAINTS if self._required[c] > 0]
        self._horizon = max(self._required.values()) + config.dram.bank_groups * timing.nRRDS
        self._tail = np.zeros(0, TRACE_DTYPE)
        self._open = [0] * config.dram.bundles
        self._opener: list[Record | None] = [None] * config.dram.bundles
        banks = config.dram.ranks * config.dram.banks_per_rank
        self._refresh: list[Record | None] = [None] * banks
        self._refreshes = [0] * banks

    def feed(self, trace: np.ndarray) -> list[Violation]:
        """Judge the commands that follow those fed before; returns the new violations.

        Raises ValueError where a command is older than the last one fed.
        """
        before = len(self.violations)
        order = np.argsort(trace["clock"] * np.uint64(2) + (trace["command"] >= DramCommand.RD),
                           kind="stable")
        new = trace[order]
        if len(new):
            if int(new["clock"][0]) < self.end_clock:
                raise ValueError(f"command at {new['clock'][0]} fed after {self.end_clock}")
            self.end_clock = int(new["clock"][-1])
        new = self._addressed(new)
        fresh = np.arange(len(self._tail) + len(new)) >= len(self._tail)
        held = _Commands(np.concatenate([self._tail, new]), self.config, fresh)
        self._judge_buses(held)
        single = _Commands.spread(held.trace, self.config, fresh)
        for constraint, required in self._bound:
            self._judge(constraint, required, single)
        self._judge_window(single)
        commands = _Commands(new, self.config)
        self._judge_state(commands)
        if self.config.refresh:
            self._judge_refresh(commands)
        self._tail = held.trace[held.clock > self.end_clock - self._horizon]
        return self.violations[before:]

    def finish(self, end_clock: int | None = None) -> list[Violation]:
        """Judge what the end of the trace decides; returns all violations."""
        end = self.end_clock if end_clock is None else end_clock
        timing = self.config.dram_timing
        overdue = set()
        for last, count in zip(self._refresh, self._refreshes, strict=True):
            if not self.config.refresh:
                break
            gap = end - (last.clock if last else self.start_clock)
            due = (end - self.start_clock) // timing.nREFI - POSTPONED
            if gap > timing.nREFMAX:
                overdue.add(("nREFMAX", RULES["nREFMAX"], last, None, gap, timing.nREFMAX))
            if count < due:
                overdue.add(("nREFI", RULES["nREFI"], last, None, count, due))
        for found in sorted(overdue, key=str):
            self._report(*found)
        return self.violations

    # -- findings --------------------------------------------------------------------------

    def _report(self, name, meaning, first, second, distance=None, required=None):
        self.count += 1
        self.violations.append(Violation(name, meaning, self.channel, first, second,
                                         distance, required))

    def _report_each(self, name, meaning, trace, seconds, firsts=None, required=None):
        """One violation for each position in ``seconds``."""
        if not len(seconds):
            return
        for i, second in enumerate(seconds[:self.keep]):
            second = Record.of(trace[second])
            first = Record.of(trace[firsts[i]]) if firsts is not None else None
            self._report(name, meaning, first, second,
                         second.clock - first.clock if first else None, required)
        self.count += max(0, len(seconds) - self.keep)

    # -- rules -----------------------------------------------------------------------------

    def _addressed(self, new: np.ndarray) -> np.ndarray:
        """The commands that address something that is there; the others are reported."""
        org, code = self.config.dram, new["command"]
        known, bundle = _table(_KNOWN)[code], _table(_BUNDLE)[code]
        banked = ~bundle & (code != DramCommand.REFAB)
        fits = (new["rank"] < org.ranks) & np.where(
            bundle, new["bank"] // org.bundles_per_rank == new["rank"],
            ~banked | (new["bank_group"] < org.bank_groups) & (new["bank"] < org.banks_per_group))
        fits &= (code != DramCommand.PART_ACT) | (new["bank_group"] < org.parts)
        fits &= ~_table(_OPENS)[code] | (new["row"] < org.rows)
        fits &= (code < DramCommand.RD) | (new["column"] < org.columns)
        self._report_each("unknown command", RULES["unknown command"], new, np.flatnonzero(~known))
        self._report_each("address", RULES["address"], new, np.flatnonzero(known & ~fits))
        return new[known & fits]

    def _judge_buses(self, held: _Commands) -> None:
        column = held.command >= DramCommand.RD
        for name, on_bus in (("row bus", ~column), ("column bus", column)):
            at = np.flatnonzero(on_bus)
            clash = np.flatnonzero((np.diff(held.clock[at]) == 0) & held.fresh[at[1:]])
            self._report_each(name, RULES[name], held.trace, at[clash + 1], at[clash], 1)

    def _judge_state(self, commands: _Commands) -> None:
        """Rows open and close: each bundle's open banks as a bit mask after each row command."""
        org, trace = self.config.dram, commands.trace
        full = (1 << org.bundle_banks) - 1
        opener = [None] * org.bundles
        log = [(b, -1, mask) for b, mask in enumerate(self._open)]
        faults = {"ACT on open bank": [], "REFAB on open bank": [], "REFPB on open bank": []}
        rows = np.flatnonzero(commands.command < DramCommand.RD)
        columns = zip(rows.tolist(), *(values[rows].tolist() for values in (
            commands.command, commands.rank, commands.bundle, commands.lane,
            commands.is_bundle, commands.group)), strict=True)
        for at, code, rank, bundle, lane, whole, part in columns:
            bits = full if whole else 1 << lane
            if code == DramCommand.PART_ACT:
                bits = (1 << org.bank_groups) - 1 << part * org.bank_groups
            if code == DramCommand.REFPB:
                if self._open[bundle] & bits:
                    faults["REFPB on open bank"].append((at, bundle, opener[bundle]))
                continue
            if code == DramCommand.REFAB:
                first = rank * org.bundles_per_rank
                stuck = [b for b in range(first, first + org.bundles_per_rank) if self._open[b]]
                if stuck:
                    faults["REFAB on open bank"].append((at, stuck[0], opener[stuck[0]]))
                continue
            if code in _CLOSES:
                self._open[bundle] &= ~bits
            else:
                if self._open[bundle] & bits:
                    faults["ACT on open bank"].append((at, bundle, opener[bundle]))
                self._open[bundle] |= bits
                opener[bundle] = at
            log.append((bundle, at, self._open[bundle]))
        for name, found in faults.items():
            for at, bundle, first in found[:self.keep]:
                first = self._opener[bundle] if first is None else Record.of(trace[first])
                self._report(name, RULES[name], first, Record.of(trace[at]))
            self.count += max(0, len(found) - self.keep)
        self._opener = [self._opener[b] if at is None else Record.of(trace[at])
                        for b, at in enumerate(opener)]
        self._judge_columns(commands, log, full)

    def _judge_columns(self, commands: _Commands, log: list, full: int) -> None:
        log.sort()
        span = len(commands.trace) + 1
        keys = np.array([bundle * span + at + 1 for bundle, at, _ in log], np.int64)
        masks = np.array([mask for _, _, mask in log], np.uint64)
        at = np.flatnonzero(commands.command >= DramCommand.RD)
        last = np.searchsorted(keys, commands.bundle[at] * span + at + 1) - 1
        lanes = commands.lane[at].astype(np.uint64)
        needed = np.where(commands.is_bundle[at], np.uint64(full), np.uint64(1) << lanes)
        closed = at[masks[last] & needed != needed]
        name = "column on closed bank"
        self._report_each(name, RULES[name], commands.trace, closed)

    def _judge_refresh(self, commands: _Commands) -> None:
        per_rank = self.config.dram.banks_per_rank
        for at in commands.where((DramCommand.REFAB, DramCommand.REFPB)).tolist():
            now = Record.of(commands.trace[at])
            banks = [int(commands.bank[at])]
            if now.command is DramCommand.REFAB:
                banks = range(now.rank * per_rank, (now.rank + 1) * per_rank)
            for found in sorted({f for bank in banks for f in self._refreshed(bank, now)}, key=str):
                self._report(*found[:2], found[2], now, *found[3:])

    def _refreshed(self, bank: int, now: Record):
        """What a refresh of a bank comes too late for; it counts from here on."""
        timing = self.config.dram_timing
        last, count = self._refresh[bank], self._refreshes[bank]
        gap, elapsed = now.clock - (last.clock if last else self.start_clock), \
            now.clock - 1 - self.start_clock
        due = elapsed // timing.nREFI - POSTPONED
        if gap > timing.nREFMAX:
            yield "nREFMAX", RULES["nREFMAX"], last, gap, timing.nREFMAX
        if count < due:
            yield "nREFI", RULES["nREFI"], last, count, due
        ahead = (now.clock - self.start_clock) // timing.nREFI + POSTPONED
        self._refresh[bank], self._refreshes[bank] = now, min(count + 1, ahead)

    # -- distances -------------------------------------------------------------------------

    def _judge(self, constraint: Constraint, required: int, held: _Commands) -> None:
        """Look up the last ``first`` command before each fresh ``next`` one, scope by scope."""
        first, next_ = constraint.first, constraint.next
        if not len(held.where(next_)) or not len(held.where(first)):
            return
        if constraint.scope in (Scope.CHANNEL, Scope.RANK):
            key = held.rank if constraint.scope is Scope.RANK else held.channel
            self._compare(constraint, required, held, held.where(first), held.where(next_), key)
            return
        # Commands of a bundle reach all groups of their rank.
        wide = held.bundle if constraint.scope is Scope.BANK else held.rank
        singles, next_singles = held.where(first, False), held.where(next_, False)
        pairs = [(held.where(first), held.where(next_, True), wide),
                 (held.where(first, True), next_singles, wide)]
        if constraint.scope is Scope.OTHER_GROUP:
            groups = self.config.dram.bank_groups
            if groups == 1:
                return
            pairs += [(singles[held.group[singles] != g],
                       next_singles[held.group[next_singles] == g], held.rank)
                      for g in range(groups)]
        else:
            narrow = held.bank if constraint.scope is Scope.BANK else held.rank_group
            pairs.append((singles, next_singles, narrow))
        for firsts, nexts, key in pairs:
            self._compare(constraint, required, held, firsts, nexts, key)

    def _compare(self, constraint, required, held, firsts, nexts, key) -> None:
        """Report ``nexts`` too soon after the last of ``firsts`` with the same key."""
        if not len(firsts) or not len(nexts):
            return
        # With keys a whole span apart, commands of different keys are never too close.
        span = int(held.clock[-1] - held.clock[0]) + required + 1
        stamp = key * span + held.clock
        firsts = firsts[np.argsort(stamp[firsts], kind="stable")]
        stamps = stamp[firsts]
        own = np.full(len(held.clock), -1)
        own[firsts] = np.arange(len(firsts))
        before = np.where(own[nexts] >= 0, own[nexts],
                          np.searchsorted(stamps, stamp[nexts], side="right")) - 1
        soon = (before >= 0) & (stamp[nexts] - stamps[before] < required)
        if not soon.any():
            return
        soon &= held.fresh[nexts] | held.fresh[firsts[before]]
        self._report_each(constraint.name, self._meaning(constraint), held.trace, nexts[soon],
                          firsts[before[soon]], required)

    def _judge_window(self, held: _Commands) -> None:
        """At most ``FAW.window`` activates of a rank in a window."""
        required = self._required[FAW]
        at = held.where(FAW.first)
        weight = self.config.dram.bundle_banks * self.config.stagger
        at = np.repeat(at, np.where(held.is_bundle[at], weight, 1))
        seconds, firsts = self._crowded(held, at, required)
        # Activates of a PART_ACT follow it: a new command may come between old ones.
        new = ~np.isin(seconds, self._crowded(held, at[~held.fresh[at]], required)[0])
        self._report_each(FAW.name, self._meaning(FAW), held.trace, seconds[new], firsts[new],
                          required)

    def _crowded(self, held: _Commands, at: np.ndarray, required: int):
        """Activates among ``at`` that come too soon, and those that they come too soon after."""
        if len(at) <= FAW.window:
            return at[:0], at[:0]
        span = int(held.clock[-1] - held.clock[0]) + required + 1
        stamp = (held.rank * span + held.clock)[at]
        order = np.argsort(stamp, kind="stable")
        at, stamp = at[order], stamp[order]
        soon = stamp[FAW.window:] - stamp[:-FAW.window] < required
        seconds, which = np.unique(at[FAW.window:][soon], return_index=True)
        return seconds, at[:-FAW.window][soon][which]

    @staticmethod
    def _meaning(constraint: Constraint) -> str:
        return f"{constraint.meaning}, {constraint.scope.value}"


def check_trace(trace: np.ndarray, config: Config, channel: int = 0, start_clock: int = 0,
                end_clock: int | None = None, **options) -> list[Violation]:
    """All violations in one channel's whole trace; ``options`` as of :class:`TraceChecker`."""
    checker = TraceChecker(config, channel, start_clock, **options)
    checker.feed(trace)
    return checker.finish(end_clock)
