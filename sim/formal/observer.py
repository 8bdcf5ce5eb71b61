# SPDX-License-Identifier: BSD-2-Clause
"""A judge of the command bus in gateware, from the table of constraints alone.

It is the formal counterpart of :mod:`logicpim.sim.dram.checker`: it shares the table of rows with
it, no code with it, and nothing with the controller. Instead of all pairs of banks it watches two
that never change but may be any: what holds for them holds for all.
"""

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import Component, In
from amaranth.utils import ceil_log2

from logicpim.rtl.signatures import CommandBus
from logicpim.sim.dram.constraints import CONSTRAINTS, FAW, Scope
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand

SLOTS = range(2)
ROW = tuple(c for c in DramCommand if c and not c.is_column)
COLUMN = tuple(c for c in DramCommand if c.is_column)
ACTIVATES = (DramCommand.ACT, DramCommand.ALL_ACT)
PRECHARGES = (DramCommand.PRE, DramCommand.ALL_PRE)
SEEN = tuple(c for c in DramCommand if c not in (DramCommand.NOP, DramCommand.PART_ACT))
"""What a bank sees: a part's activates arrive one by one as ACT."""


KINDS = ("bank", "rank", "column")


def kind(row) -> str:
    """Which of :data:`KINDS` a row of the table is of."""
    if row.scope is Scope.BANK:
        return "bank"
    return "column" if any(code.is_column for code in row.first) else "rank"


class Bank:
    """A bank that is chosen once and for all by an input that never changes.

    Parameters
    ----------
    m : Module
    config : Config
    name : str
    choice : Signal
        As many bits as :func:`bank_bits`; each value of it is a bank.
    """

    def __init__(self, m: Module, config: Config, name: str, choice):
        org = config.dram
        self.org, at = org, 0
        for part, size in (("low", org.parts), ("high", org.bundles_per_rank),
                           ("group", org.bank_groups), ("rank", org.ranks)):
            field = Signal(max(1, ceil_log2(size)), name=f"{name}_{part}")
            m.d.comb += field.eq(choice[at:at + ceil_log2(size)])
            setattr(self, part, field)
            at += ceil_log2(size)
        self.bank = self.high * org.parts + self.low
        self.bundle = self.rank * org.bundles_per_rank + self.high

    def is_meant(self, slot, code: DramCommand):
        """Whether a slot of the bus carries this command to the bank."""
        here = slot.rank == self.rank
        if code.is_bundle:
            here = slot.bank == self.bundle
            if code is DramCommand.PART_ACT:
                here &= slot.bank_group == self.low
        elif code is not DramCommand.REFAB:
            here &= (slot.bank_group == self.group) & (slot.bank == self.bank)
        return (slot.command == code) & here


def bank_bits(config: Config) -> int:
    """Bits that name one bank of the channel."""
    return ceil_log2(config.dram.ranks * config.dram.banks_per_rank)


class Events:
    """What reaches a bank in the two command clocks of this logic clock.

    ``at[p][code]`` is a bit for each command of :data:`SEEN`; ``late[p]`` tells that an ACT of
    clock ``p`` belongs to a part whose command was in an earlier command clock.
    """

    def __init__(self, m: Module, config: Config, bus, bank: Bank, name: str):
        step, groups = config.dram_timing.nRRDS, config.dram.bank_groups
        line = Signal((groups - 1) * step + 2, name=f"{name}_coming")
        now = Signal.like(line, name=f"{name}_line")
        new = Const(0, len(line))
        self.at, self.late = [], line[:2]
        for p in SLOTS:
            row, column = getattr(bus, f"row{p}"), getattr(bus, f"column{p}")
            part = bank.is_meant(row, DramCommand.PART_ACT)
            for group in range(groups):
                new |= Mux(part & (bank.group == group), 1 << p + group * step, 0)
            self.at.append({code: bank.is_meant(column if code.is_column else row, code)
                            for code in SEEN})
        m.d.comb += now.eq(line | new)
        m.d.sync += line.eq(now >> 2)
        for p in SLOTS:
            for code in SEEN:
                bit = Signal(name=f"{name}_{code.name}_{p}")
                arrives = now[p] if code is DramCommand.ACT else 0
                m.d.comb += bit.eq(self.at[p][code] | arrives)
                self.at[p][code] = bit


class BusObserver(Component):
    """Asserts every row and every state rule of the bus about two banks.

    Parameters
    ----------
    config : Config
    rules : set of str
        Of ``"bank"``, ``"rank"``, ``"column"`` (the pairwise rows about one bank, about row
        commands of several, about column commands of several), ``"window"`` (four activates),
        ``"state"`` (rows open and closed, by whom, and the same row in all banks of a bundle),
        ``"form"`` (codes, addresses and buses), ``"path"`` (the switch of a bundle moves only
        while nothing is open or under way in it, and every access goes over the path it belongs
        to).
    longer : int
        Added to each distance of rows called ``row``: for negative tests.
    row : str

    Members
    -------
    bus : In(CommandBus)
    first, next : In, the banks watched: constant, and otherwise free
    """

    RULES = ("bank", "rank", "column", "window", "state", "form", "path")

    def __init__(self, config: Config, rules=RULES, *, longer: int = 0, row: str = ""):
        if set(rules) - set(self.RULES):
            raise ValueError(f"rules are {', '.join(self.RULES)}, not {rules!r}")
        self.config, self.rules, self.longer, self.row = config, rules, longer, row
        bits = bank_bits(config)
        super().__init__({"bus": In(CommandBus(config)), "first": In(bits), "next": In(bits)})

    def elaborate(self, platform):
        m = Module()
        first = Bank(m, self.config, "first", self.first)
        second = Bank(m, self.config, "next", self.next)
        a = Events(m, self.config, self.bus, first, "a")
        b = Events(m, self.config, self.bus, second, "b")
        self._distances(m, first, second, a, b)
        for rule in self.rules:
            if rule in KINDS:
                continue
            if rule == "state":
                self._state(m, first, second, a, b)
            else:
                getattr(self, f"_{rule}")(m, first)
        return m

    def _required(self, row) -> int:
        return row.required(self.config.dram_timing) + self.longer * (row.name == self.row)

    def _distances(self, m: Module, first: Bank, second: Bank, a: Events, b: Events) -> None:
        rank = first.rank == second.rank
        group = rank & (first.group == second.group)
        meets = {Scope.BANK: self.first == self.next, Scope.GROUP: group,
                 Scope.OTHER_GROUP: rank & ~group, Scope.RANK: rank, Scope.CHANNEL: Const(1)}
        for scope, condition in meets.items():
            meets[scope] = Signal(name=f"meets_{scope.name}")
            m.d.comb += meets[scope].eq(condition)
        rows = [row for row in CONSTRAINTS
                if kind(row) in self.rules and self._required(row) > 0]
        ages = self._ages(m, a, max(map(self._required, rows), default=1))
        for row in rows:
            required = self._required(row)
            for p in SLOTS:
                comes = Cat(b.at[p][code] for code in row.next).any()
                near = Cat(ages[p][code] < required for code in row.first).any()
                # In one command clock: a row command counts before a column command, and an
                # activate of a part before what is on the row bus.
                beside = Cat(a.at[p][f] & b.at[p][n] for f in row.first for n in row.next
                             if n.is_column and not f.is_column).any()
                if DramCommand.ACT in row.first:
                    others = Cat(b.at[p][n] for n in row.next if n is not DramCommand.ACT
                                 and not n.is_column)
                    beside |= a.late[p] & (others.any() | (
                        b.at[p][DramCommand.ACT] & ~b.late[p]
                        if DramCommand.ACT in row.next else 0))
                m.d.comb += Assert(~(meets[row.scope] & (comes & near | beside)))

    def _ages(self, m: Module, events: Events, limit: int):
        """Command clocks since each command reached the bank, before each of the two."""
        ages = [{}, {}]
        for code in SEEN:
            kept, middle = (Signal(range(limit + 1), name=f"{name}_{code.name}", init=limit)
                            for name in ("age", "age1"))

            def older(value, seen):
                return Mux(seen, 1, Mux(value == limit, limit, value + 1))
            m.d.comb += middle.eq(older(kept, events.at[0][code]))
            m.d.sync += kept.eq(older(middle, events.at[1][code]))
            ages[0][code], ages[1][code] = kept, middle
        return ages

    def _window(self, m: Module, bank: Bank) -> None:
        org, step = self.config.dram, self.config.dram_timing.nRRDS
        span = self._required(FAW)
        ahead = (org.bank_groups - 1) * step + 2
        # Two lines, as an activate of a part and one of the host may fall into one clock.
        parts, single = Signal(span + ahead), Signal(span + ahead)
        all_parts, all_single = Signal.like(parts), Signal.like(single)
        coming, now = Const(0, len(parts)), Const(0, len(parts))
        for p in SLOTS:
            slot = getattr(self.bus, f"row{p}")
            ours = slot.rank == bank.rank
            marks = sum(1 << span + p + g * step for g in range(org.bank_groups))
            coming |= Mux(ours & (slot.command == DramCommand.PART_ACT), marks, 0)
            now |= Mux(ours & (slot.command == DramCommand.ACT), 1 << span + p, 0)
            if self.config.stagger:
                m.d.comb += Assert(slot.command != DramCommand.ALL_ACT)
        m.d.comb += [all_parts.eq(parts | coming), all_single.eq(single | now)]
        m.d.sync += [parts.eq(all_parts >> 2), single.eq(all_single >> 2)]
        # Two parts must not fall together: their activates would be counted once.
        m.d.comb += Assert(~(parts & coming).any())
        for p in SLOTS:
            ends = slice(span + p - span + 1, span + p + 1)
            m.d.comb += Assert(sum(all_parts[ends]) + sum(all_single[ends]) <= FAW.window)

    def _state(self, m: Module, first: Bank, second: Bank, a: Events, b: Events) -> None:
        """Of the bank ``first``; and that ``next``, if in its bundle, has the same row open."""
        opened, whole = Signal(), Signal()
        rows = [Signal(len(self.bus.row0.row), name=f"open_row_{n}") for n in "ab"]
        now = (opened, whole)
        for p in SLOTS:
            here, slot = a.at[p], getattr(self.bus, f"row{p}")
            is_open, by_bundle = now
            opens = Cat(here[c] for c in ACTIVATES).any()
            closes = Cat(here[c] for c in PRECHARGES).any()
            bundled = here[DramCommand.ALL_ACT] | (
                here[DramCommand.ACT] & ~first.is_meant(slot, DramCommand.ACT))
            after, by = Signal(name=f"open_{p}"), Signal(name=f"whole_{p}")
            m.d.comb += [
                after.eq((is_open | opens) & ~closes), by.eq(Mux(opens, bundled, by_bundle)),
                Assert(~(opens & is_open)),
                Assert(~((here[DramCommand.REFPB] | here[DramCommand.REFAB]) & is_open)),
                Assert(~(here[DramCommand.RD] | here[DramCommand.WR]) | (after & ~by)),
                Assert(~(here[DramCommand.ALL_RD] | here[DramCommand.ALL_WR]) | (after & by)),
            ]
            now = (after, by)
        m.d.sync += [opened.eq(now[0]), whole.eq(now[1])]
        # A part's row is named when its command is issued.
        for bank, row in zip((first, second), rows, strict=True):
            for p in SLOTS:
                slot = getattr(self.bus, f"row{p}")
                with m.If(Cat(bank.is_meant(slot, c) for c in
                              (*ACTIVATES, DramCommand.PART_ACT)).any()):
                    m.d.sync += row.eq(slot.row)
        together = first.bundle == second.bundle
        for p in SLOTS:
            moved = a.at[p][DramCommand.ALL_RD] | a.at[p][DramCommand.ALL_WR]
            m.d.comb += Assert(~(moved & together) | (rows[0] == rows[1]))

    def _form(self, m: Module, bank: Bank) -> None:
        org = self.config.dram
        for p in SLOTS:
            row, column = getattr(self.bus, f"row{p}"), getattr(self.bus, f"column{p}")
            for slot, codes in ((row, ROW), (column, COLUMN)):
                is_ = {c: slot.command == c for c in codes}
                bundle = Cat(is_[c] for c in codes if c.is_bundle).any()
                some = slot.command != DramCommand.NOP
                m.d.comb += [
                    Assert(~some | Cat(is_.values()).any()),
                    Assert(~some | (slot.rank < org.ranks)),
                    Assert(~bundle | ((slot.bank < org.bundles) & (
                        slot.bank // org.bundles_per_rank == slot.rank))),
                    Assert(~some | bundle | (slot.command == DramCommand.REFAB)
                           | ((slot.bank_group < org.bank_groups)
                              & (slot.bank < org.banks_per_group))),
                ]
            m.d.comb += [
                Assert((row.command != DramCommand.PART_ACT) | (row.bank_group < org.parts)),
                Assert((row.command == DramCommand.NOP) | (row.row < org.rows)),
                Assert((column.command == DramCommand.NOP) | (column.column < org.columns))]

    def _path(self, m: Module, bank: Bank) -> None:
        """The bank's bundle: each access over its path, when commanded and when data moves."""
        t = self.config.dram_timing
        path = self.bus.path.bit_select(bank.bundle, 1)
        began, before, opened = Signal(), Signal(), Signal()
        org = self.config.dram
        under_way, held = [], [before, opened]
        for whole, codes in ((0, (DramCommand.RD, DramCommand.WR)),
                             (1, (DramCommand.ALL_RD, DramCommand.ALL_WR))):
            for code, latency in zip(codes, (t.read_latency, t.write_latency), strict=True):
                seen = Cat(bank.is_meant(getattr(self.bus, f"column{p}"), code)
                           for p in SLOTS).any()
                line = Signal(latency + 1, name=f"under_way_{code.name}")
                m.d.comb += line[0].eq(seen)
                kept = Signal(max(1, latency), name=f"kept_{code.name}")
                m.d.sync += kept.eq(line)
                if latency:
                    m.d.comb += line[1:].eq(kept)
                under_way.append(kept.any() if latency else 0)
                m.d.comb += Assert(~line.any() | (path == whole))
        is_open = opened
        for p in SLOTS:
            slot = getattr(self.bus, f"row{p}")
            opens = Cat(bank.is_meant(slot, c) for c in (*ACTIVATES, DramCommand.PART_ACT)).any()
            closes = Cat(bank.is_meant(slot, c) for c in PRECHARGES).any()
            is_open = (is_open | opens) & ~closes
        moves = began & (path != before)
        m.d.comb += Assert(~moves | ~(Cat(under_way).any() | opened))
        m.d.sync += [began.eq(1), before.eq(path), opened.eq(is_open)]
        del org, held
