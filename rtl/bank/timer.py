# SPDX-License-Identifier: BSD-2-Clause
"""Timers that keep DRAM commands apart."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.spec.config import Config


class Timer(wiring.Component):
    """Not ``done`` for the clocks loaded; of two loads the one that ends later wins.

    Parameters
    ----------
    limit : int
        Largest load.

    Members
    -------
    load : In, clocks from this one to the first in which ``done`` is high again; 0 loads nothing
    done : Out(1), high from then on
    soon : Out(1), high from one clock earlier on
    """

    def __init__(self, limit: int):
        self.limit = limit
        super().__init__({"load": In(range(limit + 1)), "done": Out(1, init=1),
                          "soon": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        left, later = Signal(range(self.limit)), Signal(range(self.limit + 1))
        m.d.comb += later.eq(Mux(self.load > left, self.load, left))
        m.d.sync += [left.eq(Mux(later == 0, 0, later - 1)),
                     self.done.eq(_within(self.load, 1) & _within(left, 1)),
                     self.soon.eq(_within(self.load, 2) & _within(left, 2))]
        return m


def _within(value, most: int):
    """Whether a value is at most so much; a constant where it can be no more."""
    return Const(1) if 2**len(value) <= most + 1 else value <= most


class Gaps:
    """Distances between commands in logic clocks.

    Bundle commands and refreshes go into slot 0 of a clock, host commands into slot 1. So ``n``
    nCK are ``clocks(n)`` from a bundle command to any other and between two host commands; from a
    host command to a bundle command they are one nCK longer. Each gap is a pair: after a bundle
    command, after a host command, to whatever comes next.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config):
        t, org = config.dram_timing, config.dram

        def gap(bundle: int, host: int | None = None):
            return t.clocks(bundle), t.clocks((bundle if host is None else host) + 1)

        #: Activates of one PART_ACT, nRRDS apart: the last one comes so many nCK after it.
        part = (org.bank_groups - 1) * t.nRRDS if config.stagger else 0
        column = max(t.nRCDRD, t.nRCDWR)
        self.read_latency, self.write_latency = t.read_latency, t.write_latency
        # One bank.
        self.act_column = gap(column + part, column)
        self.act_act = gap(t.nRC + part, t.nRC)
        self.act_pre = gap(t.nRAS + part, t.nRAS)
        self.pre_act = gap(t.nRP)
        self.read_pre = gap(t.nRTPL)
        self.write_pre = gap(t.nCWL + t.nBL + t.nWR)
        self.refresh_act = t.clocks(t.nRFCSB)
        self.refresh_all = t.clocks(t.nRFC)
        # One rank: to an activate of the host, to one of a bundle, to a refresh.
        near = max(t.nRRDS, t.nRRDL)
        self.act_to_any = gap(near + part, near)
        self.window = gap(t.nFAW + part, t.nFAW)
        self.part_to_part = t.clocks(max(t.nFAW, near + part) if config.stagger else near)
        self.refresh_to_any = t.clocks(max(t.nRREFD, near))
        # One path. The gearbox takes two clocks for a word.
        self.bundle_column = max(2, t.clocks(max(t.nCCDS, t.nCCDL)))
        self.host_column = max(1, t.clocks(max(t.nCCDS, t.nBL)))
        self.host_group = max(1, t.clocks(t.nCCDL))
        # A write after a read waits for the data: host accesses then complete in order.
        column = t.clocks(max(t.nCCDS, t.nCCDL))
        self.read_write = max(t.clocks(t.nCL + t.nBL + t.nRTW - t.nCWL), self.read_latency + 1,
                              column)
        self.write_read = max(t.clocks(t.nCWL + t.nBL + max(t.nWTRS, t.nWTRL)), column)
        self.refresh_interval = t.nREFI // t.CK_PER_CLOCK
        #: What closing a row and opening it again costs: waiting longer than this never pays.
        self.reopen = self.read_pre[0] + self.pre_act[0] + self.act_column[0]
        #: From the last read of a row until it can be read again, a part refreshed between.
        self.refreshed = (self.read_pre[0] + self.pre_act[0] + 4 + self.refresh_act
                          + (org.bank_groups - 1) * self.refresh_to_any + self.act_column[0])
        self._row = self.bundle_column * org.columns

    def hides(self, bundles: int) -> bool:
        """Whether a part can be refreshed while the stream reads the rows of the other bundles."""
        return (bundles - 1) * self._row >= self.refreshed


def load(m: Module, timer: Timer, command, clocks: int) -> None:
    """Load ``timer`` in the clock after a command, high in ``command``, that keeps the next one
    away for ``clocks``; the last call that applies wins."""
    with m.If(command):
        m.d.comb += timer.load.eq(clocks - 1)


class BankTimers(wiring.Component):
    """Whether a bank is open, and what may be done to it.

    Timers start a clock after their command; until then the command itself forbids what they
    will, so that outputs are a gate behind registers.

    Parameters
    ----------
    config : Config

    Members
    -------
    activate, read, write, precharge, refresh, refresh_all : In(1), issued to it in this clock, at
        most one; a precharge of a closed bank changes nothing
    host : In(1), it is a host command
    open : Out(1), a row is open
    may_activate : Out(1), it is closed, and activate and refresh keep their distances
    may_access : Out(1), it is open, and nRCD has passed
    may_precharge : Out(1), a precharge keeps its distance
    soon_activate, soon_access, soon_precharge : Out(1), the same of the next clock, if no command
        is issued to it in this one
    """

    activate: In(1)
    read: In(1)
    write: In(1)
    precharge: In(1)
    refresh: In(1)
    refresh_all: In(1)
    host: In(1)
    open: Out(1)
    may_activate: Out(1)
    may_access: Out(1)
    may_precharge: Out(1)
    soon_activate: Out(1)
    soon_access: Out(1)
    soon_precharge: Out(1)

    def __init__(self, config: Config):
        self.config = config
        self.share_key = config.digest
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        gaps = Gaps(self.config)
        was = {name: Signal(name=f"was_{name}") for name in (
            "activate", "read", "write", "precharge", "refresh", "refresh_all", "host")}
        m.d.sync += [signal.eq(getattr(self, name)) for name, signal in was.items()]
        rows, any_command = Signal(), Signal()
        m.d.sync += [rows.eq(self.activate | self.precharge | self.refresh | self.refresh_all),
                     any_command.eq(self.activate | self.precharge | self.refresh
                                    | self.refresh_all | self.read | self.write)]

        def timer(name, **loads):
            m.submodules[name] = unit = Timer(max(max(pair) for pair in loads.values()))
            for command, (after_bundle, after_host) in loads.items():
                load(m, unit, was[command] & ~was["host"], after_bundle)
                load(m, unit, was[command] & was["host"], after_host)
            return unit

        activate = timer(
            "to_activate", activate=gaps.act_act, precharge=gaps.pre_act,
            refresh=(gaps.refresh_act,) * 2, refresh_all=(gaps.refresh_all,) * 2)
        access = timer("to_access", activate=gaps.act_column)
        # A bundle is precharged whole, with banks that are closed and perhaps refreshing.
        precharge = timer(
            "to_precharge", activate=gaps.act_pre, read=gaps.read_pre, write=gaps.write_pre,
            refresh=(gaps.refresh_act,) * 2, refresh_all=(gaps.refresh_all,) * 2)
        for when, of in (("may", "done"), ("soon", "soon")):
            m.d.comb += [
                getattr(self, f"{when}_activate").eq(~self.open & getattr(activate, of) & ~rows),
                getattr(self, f"{when}_access").eq(self.open & getattr(access, of) & ~rows),
                getattr(self, f"{when}_precharge").eq(getattr(precharge, of) & ~any_command)]
        with m.If(self.activate):
            m.d.sync += self.open.eq(1)
        with m.Elif(self.precharge):
            m.d.sync += self.open.eq(0)
        return m


class RankTimers(wiring.Component):
    """Keeps activates and refreshes of one rank apart: nRRDS, nRRDL, nFAW, nRREFD.

    A staggered bundle activate counts as four. The host keeps the distance of one bank group
    between all its activates.

    Parameters
    ----------
    config : Config

    Members
    -------
    host, bundle, refresh : In(1), an activate of the host, one of a bundle, a refresh of a bank
        is issued in this clock
    may_host, may_bundle, may_refresh : Out(1), it could be issued in this clock
    """

    host: In(1)
    bundle: In(1)
    refresh: In(1)
    may_host: Out(1)
    may_bundle: Out(1)
    may_refresh: Out(1)

    def __init__(self, config: Config):
        self.config = config
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        gaps, stagger = Gaps(self.config), self.config.stagger
        (bundle_any, host_any), (bundle_window, host_window) = gaps.act_to_any, gaps.window
        longest = max(bundle_any, host_any, bundle_window, host_window, gaps.part_to_part,
                      gaps.refresh_to_any)

        m.submodules.any = near = Timer(longest)
        m.submodules.bundles = bundles = Timer(longest)
        host, bundle, refresh, some = (Signal(name=f"was_{n}") for n in (
            "host", "bundle", "refresh", "some"))
        m.d.sync += [host.eq(self.host), bundle.eq(self.bundle), refresh.eq(self.refresh),
                     some.eq(self.host | self.bundle | self.refresh)]
        for unit, after_host, after_bundle in (
                (near, host_any, bundle_any),
                (bundles, max(host_any, host_window * stagger), gaps.part_to_part)):
            load(m, unit, refresh, gaps.refresh_to_any)
            load(m, unit, host, after_host)
            load(m, unit, bundle, after_bundle)
        # The window of the host: the oldest of four activates.
        turn, was_turn, done = Signal(2), Signal(2), Signal(4)
        for index in range(4):
            m.submodules[f"window{index}"] = unit = Timer(longest)
            load(m, unit, host & (was_turn == index), host_window)
            if stagger:
                load(m, unit, bundle, bundle_window)
            m.d.comb += done[index].eq(unit.done)
        m.d.sync += [turn.eq(turn + self.host), was_turn.eq(turn)]
        m.d.comb += [self.may_host.eq(near.done & done.bit_select(turn, 1) & ~some),
                     self.may_bundle.eq(bundles.done & ~some),
                     self.may_refresh.eq(near.done & ~some)]
        return m


class PathTimers(wiring.Component):
    """Keeps the column commands of one path apart.

    Parameters
    ----------
    config : Config
    host : bool
        The xPU path: accesses to one of ``groups`` bank groups of the channel, else bundles.

    Members
    -------
    group : In, bank group of the access, of those of the channel (host only)
    read, write : In(1), issued in this clock
    may_read, may_write : Out(1), it could be issued in this clock
    free : Out(groups), one to this bank group keeps its distance from those before
    """

    def __init__(self, config: Config, *, host: bool):
        self.config, self.host = config, host
        self.groups = config.dram.ranks * config.dram.bank_groups if host else 1
        super().__init__({"group": In(range(self.groups)), "read": In(1), "write": In(1),
                          "may_read": Out(1), "may_write": Out(1), "free": Out(self.groups)})

    def elaborate(self, platform):
        m = Module()
        gaps = Gaps(self.config)
        same = gaps.host_column if self.host else gaps.bundle_column
        read, write, group = Signal(), Signal(), Signal.like(self.group)
        m.d.sync += [read.eq(self.read), write.eq(self.write), group.eq(self.group)]
        m.d.comb += self.free.eq(~0)
        if self.host and gaps.host_group > same:
            for index in range(self.groups):
                here = (read | write) & (group == index)
                m.submodules[f"group{index}"] = unit = Timer(gaps.host_group)
                load(m, unit, here, gaps.host_group)
                m.d.comb += self.free[index].eq(unit.done & ~here)
        free = self.free.bit_select(self.group, 1)
        m.submodules.to_read = to_read = Timer(max(same, gaps.write_read))
        m.submodules.to_write = to_write = Timer(max(same, gaps.read_write))
        load(m, to_read, read, same)
        load(m, to_read, write, gaps.write_read)
        load(m, to_write, read, gaps.read_write)
        load(m, to_write, write, same)
        m.d.comb += [
            self.may_read.eq(to_read.done & free & ~write & ~(read if same > 1 else 0)),
            self.may_write.eq(to_write.done & free & ~read & ~(write if same > 1 else 0))]
        return m
