# SPDX-License-Identifier: BSD-2-Clause
"""Refresh: which banks are due, which bundles it claims for them, and the commands."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.spec.config import Config

from .timer import Gaps

AHEAD = 1
"""Refreshes of a bank made ahead of time. With seven owed at most when one is forced, two of them
are never more than nine nREFI apart, eight and the time that the last one takes to come."""


def refresh_members(config: Config) -> dict:
    """What both kinds of refresh have in common, see :class:`BankRefresh`."""
    org = config.dram
    return {
        "owned": In(org.bundles), "free": In(org.bundles), "freed": In(org.bundles),
        "used": In(org.bundles), "ready": In(org.bundles * org.bundle_banks),
        "may_refresh": In(org.ranks), "hidden": In(1),
        "wants": Out(org.bundles), "forced": Out(org.bundles), "due": Out(org.bundles),
        "done": Out(org.bundles), "valid": Out(1), "taken": In(1),
        "bundle": Out(ceil_log2(org.bundles)), "lane": Out(ceil_log2(org.bundle_banks)),
        "all_banks": Out(1),
    }


def every(m: Module, clocks: int, count: int = 1):
    """``count`` signals, each high once in so many clocks, evenly apart."""
    left, elapsed = Signal(range(clocks), init=clocks - 1), Signal(count)
    m.d.comb += elapsed.eq(Cat(left == clocks * i // count for i in range(count)))
    m.d.sync += left.eq(Mux(left == 0, clocks - 1, left - 1))
    return elapsed


class BankRefresh(wiring.Component):
    """Refreshes every bank once an nREFI, one bank at a time, late by at most eight nREFI.

    A part of a bundle (one bank of each group) is refreshed in one go, and each has a balance,
    lowered each nREFI. A bundle that nobody uses is refreshed until its parts are one ahead. A
    bundle in the stream's set is left alone, but when ``hidden`` says that it is not needed for
    longer than the refresh of a part takes, one part that is behind is refreshed whenever the
    stream leaves the bundle. A part that is further behind than ``postpone`` forces its bundle from
    its owner; the other parts of that bundle that are behind come with it, as it waits anyhow.

    Source of the right to postpone and to pull in: see
    :data:`logicpim.sim.dram.constraints.POSTPONED`.

    Parameters
    ----------
    config : Config

    Members
    -------
    owned, free, freed : In(bundles), the bundle belongs to refresh; to nobody; to nobody since
        the last clock
    used : In(bundles), the stream's present jobs lie in it, or the host wants it
    ready : In(bundles * bundle_banks), the bank may be refreshed in the next clock
    may_refresh : In(ranks)
    hidden : In(1), a bundle that the stream leaves is not needed while a part is refreshed
    wants, forced, due : Out(bundles), refresh claims the bundle; it has waited as long as it may;
        it is behind
    done : Out(bundles), it has finished with the bundle
    valid, taken : a refresh of bank ``lane`` of ``bundle``, or of ``all_banks`` of its rank
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(refresh_members(config))

    def _balances(self, m: Module, refreshed):
        """Refreshes ahead of time, by bundle and part."""
        org = self.config.dram
        gaps = Gaps(self.config)
        # The bundles of a set fall due together, so that in one round of the stream all wait behind
        # the first; pairs apart where a set of all bundles hides its refreshes anyhow.
        pairs = gaps.hides(org.bundles)
        ticks = every(m, gaps.refresh_interval, max(1, org.bundles // 2) if pairs else 1)
        rows = []
        for b in range(org.bundles):
            rows.append([Signal(signed(5), name=f"balance{b}_{p}") for p in range(org.parts)])
            for p, balance in enumerate(rows[b]):
                m.d.sync += balance.eq(balance + refreshed[b * org.parts + p]
                                         - ticks[b // 2 if pairs else 0])
        return rows

    def _claim(self, m: Module, balance, busy) -> None:
        org = self.config.dram
        idle, behind, ahead = Signal(org.bundles), Signal(org.bundles), Signal(org.bundles)
        for b, parts in enumerate(balance):
            m.d.comb += [self.forced[b].eq(Cat(p < -self.config.postpone for p in parts).any()),
                         behind[b].eq(Cat(p < 0 for p in parts).any()),
                         ahead[b].eq(Cat(p == AHEAD for p in parts).all())]
        m.d.comb += [
            self.due.eq(behind), idle.eq(self.free & ~self.used & ~ahead),
            # Those that have waited as long as they may; and while there is none, one at a time.
            self.wants.eq(self.forced | Mux(
                busy | self.owned.any() | self.forced.any(), 0,
                (idle & -idle) | (self.free & self.freed & behind & self.hidden.replicate(
                    org.bundles)))),
        ]

    def elaborate(self, platform):
        m = Module()
        org = self.config.dram
        refreshed = Signal(org.bundles * org.parts)
        todo, group = Signal(org.parts), Signal(range(org.bank_groups))
        busy, asks = Signal(), Signal()
        balance = self._balances(m, refreshed)
        self._claim(m, balance, busy)

        # What to refresh in the bundle that is ours: all that is behind, or the worst part.
        first, selected = self.owned & -self.owned, Signal(org.parts)
        for b, parts in enumerate(balance):
            limit = Mux(self.used[b], 0, AHEAD)
            worst = Signal(org.parts, name=f"worst{b}")
            least = 0
            for p in range(1, org.parts):
                least = Mux(parts[p] < _at(parts, least), p, least)
            m.d.comb += worst.eq(1 << least)
            with m.If(first[b]):
                m.d.comb += selected.eq(Mux(self.used[b] & self.hidden & ~self.forced[b], worst,
                                            Cat(p < limit for p in parts)))
        part = Signal(range(org.parts))
        for p in reversed(range(org.parts)):
            with m.If(todo[p]):
                m.d.comb += part.eq(p)
        bank = Signal(range(len(self.ready)))
        m.d.comb += [
            self.lane.eq(part * org.bank_groups + group),
            bank.eq(self.bundle * org.bundle_banks + self.lane),
            self.valid.eq(asks
                          & self.may_refresh.bit_select(self.bundle // org.bundles_per_rank, 1)),
        ]
        m.d.sync += asks.eq(busy & todo.any() & self.ready.bit_select(bank, 1)
                            & ~(self.valid & self.taken))
        with m.If(~busy):
            m.d.sync += [todo.eq(selected), group.eq(0), busy.eq(first.any())]
            for b in range(org.bundles):
                with m.If(first[b]):
                    m.d.sync += self.bundle.eq(b)
        with m.Elif(~todo.any()):
            m.d.comb += self.done.eq(1 << self.bundle)
            m.d.sync += busy.eq(0)
        with m.Elif(self.valid & self.taken):
            m.d.sync += group.eq(group + 1)
            with m.If(group == org.bank_groups - 1):
                m.d.sync += [group.eq(0), todo.eq(todo & (todo - 1))]
                m.d.comb += refreshed.eq(1 << (self.bundle * org.parts + part))
        return m


def _at(values, index):
    """One of a few values by an index that may be a number or a signal."""
    if isinstance(index, int):
        return values[index]
    chosen = values[0]
    for i, value in enumerate(values[1:], 1):
        chosen = Mux(index == i, value, chosen)
    return chosen


class RankRefresh(wiring.Component):
    """Refreshes all banks of each rank at once, as soon after each nREFI as they are closed.

    Parameters
    ----------
    config : Config

    Members
    -------
    As :class:`BankRefresh`.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(refresh_members(config))

    def elaborate(self, platform):
        m = Module()
        org = self.config.dram
        per, banks = org.bundles_per_rank, org.banks_per_rank
        due, can, ready = Signal(org.ranks), Signal(org.ranks), Signal(org.ranks)
        chosen = Signal(org.ranks)
        tick = every(m, Gaps(self.config).refresh_interval)
        for rank in range(org.ranks):
            m.d.sync += ready[rank].eq(self.owned.word_select(rank, per).all()
                                       & self.ready.word_select(rank, banks).all()
                                       & ~(chosen[rank] & self.taken))
            m.d.comb += can[rank].eq(due[rank] & ready[rank] & self.may_refresh[rank])
        m.d.comb += [
            chosen.eq(can & -can), self.valid.eq(can.any()), self.all_banks.eq(1),
            self.forced.eq(Cat(d.replicate(per) for d in due)), self.due.eq(self.forced),
            self.wants.eq(self.forced),
            self.done.eq(Cat((chosen[r] & self.taken).replicate(per) for r in range(org.ranks))),
        ]
        for rank in range(org.ranks):
            with m.If(chosen[rank]):
                m.d.comb += self.bundle.eq(rank * per)
        m.d.sync += due.eq(due & ~(chosen & self.taken.replicate(org.ranks))
                           | tick.replicate(org.ranks))
        return m
