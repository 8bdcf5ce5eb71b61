# SPDX-License-Identifier: BSD-2-Clause
"""What the controller's timers promise, against ages of commands that share nothing with them."""

from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal
from amaranth.lib.wiring import Component, In

from logicpim.rtl.bank.timer import BankTimers, PathTimers, RankTimers
from logicpim.sim.dram.constraints import CONSTRAINTS, FAW, Scope
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand

LIMIT = 40
"""Above the longest constraint of the reduced grades that the proofs are made at, in nCK."""


def age(m: Module, name: str, seen, effect):
    """Command clocks from the last command's effect to slot 0 of this clock, at most ``LIMIT``.

    ``effect`` is the time from slot 0 of a clock to that effect; it may lie in the future.
    """
    value = Signal(range(-LIMIT, LIMIT + 1), name=f"age_{name}", init=LIMIT)
    m.d.sync += value.eq(Mux(seen, 2 - effect, Mux(value >= LIMIT - 2, LIMIT, value + 2)))
    # An invariant that induction needs: no effect lies further ahead than this.
    m.d.comb += Assert(value >= 2 - LIMIT // 4)
    return value


def constant(m: Module, value) -> None:
    """Assume that an input keeps the value it has at first."""
    begun, first = Signal(name=f"begun_{value.name}"), Signal.like(value, name="first")
    m.d.sync += [begun.eq(1), first.eq(value)]
    m.d.comb += Assume(~begun | (value == first))


class BankProof(Component):
    """Commands issued only when :class:`BankTimers` allow them keep every row of one bank.

    A bundle's activate reaches the bank any time from its slot to the last activate of the part.
    The distance of two column commands is the path's affair and not judged here.

    Parameters
    ----------
    config : Config

    Members
    -------
    wish : In, the command wanted in this clock
    host : In(1), in slot 1, by the host
    offset : In, of a bundle's activate
    """

    KINDS = {"activate": DramCommand.ACT, "read": DramCommand.RD, "write": DramCommand.WR,
             "precharge": DramCommand.PRE, "refresh": DramCommand.REFPB}

    def __init__(self, config: Config):
        self.config = config
        t, org = config.dram_timing, config.dram
        self.spread = (org.bank_groups - 1) * t.nRRDS if config.stagger else 0
        super().__init__({"wish": In(range(len(self.KINDS) + 1)), "host": In(1),
                          "offset": In(range(self.spread + 2))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = BankTimers(self.config)
        may = {"activate": dut.may_activate, "refresh": dut.may_activate,
               "read": dut.may_access, "write": dut.may_access, "precharge": dut.may_precharge}
        m.d.comb += [Assume(self.offset <= self.spread), dut.host.eq(self.host),
                     Assume(~(dut.refresh & self.host))]
        constant(m, self.offset)
        # What is said of the next clock holds there, if nothing happens in this one.
        for name in ("activate", "access", "precharge"):
            said = Signal(name=f"said_{name}")
            m.d.sync += said.eq(getattr(dut, f"soon_{name}") & ~Cat(
                getattr(dut, kind) for kind in self.KINDS).any())
            m.d.comb += Assert(~said | getattr(dut, f"may_{name}"))
        effects, ages = {}, {}
        for index, kind in enumerate(self.KINDS):
            m.d.comb += getattr(dut, kind).eq((self.wish == index) & may[kind])
            staggered = kind == "activate" and self.spread
            effects[kind] = (Mux(self.host, 1, self.offset) if staggered else self.host)
            ages[kind] = age(m, kind, getattr(dut, kind), effects[kind])
        columns = ("read", "write")
        for row in CONSTRAINTS:
            required = row.required(self.config.dram_timing)
            for first in self.KINDS:
                for second in self.KINDS:
                    if (row.scope is Scope.BANK and required > 0 and self.KINDS[first] in row.first
                            and self.KINDS[second] in row.next
                            and not (first in columns and second in columns)):
                        m.d.comb += Assert(~getattr(dut, second)
                                           | (ages[first] + effects[second] >= required))
        return m


class RankProof(Component):
    """Activates and refreshes issued only when :class:`RankTimers` allow them keep nRRDL (and so
    nRRDS), nRREFD and nFAW, the activates of a part counted one by one.

    The host uses slot 1, a bundle's activates and refreshes, never two in a clock, slot 0; and
    the host none in a clock in which another of the rank is issued.

    Parameters
    ----------
    config : Config

    Members
    -------
    host, bundle, refresh : In(1), wanted in this clock
    """

    host: In(1)
    bundle: In(1)
    refresh: In(1)

    def __init__(self, config: Config):
        self.config = config
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        t, groups = self.config.dram_timing, self.config.dram.bank_groups
        m.submodules.dut = dut = RankTimers(self.config)
        m.d.comb += [
            dut.bundle.eq(self.bundle & dut.may_bundle),
            dut.refresh.eq(self.refresh & dut.may_refresh & ~dut.bundle),
            dut.host.eq(self.host & dut.may_host & ~dut.bundle & ~dut.refresh),
        ]
        # Activates by command clock: those of a part still to come, and those of the last nFAW.
        span, ahead = t.nFAW + 2, (groups - 1) * t.nRRDS + 2
        line, now = Signal(span + ahead), Signal(span + ahead)
        part = sum(1 << span + g * t.nRRDS for g in range(groups))
        m.d.comb += now.eq(line | Mux(dut.bundle, part, 0) | Mux(dut.host, 1 << span + 1, 0))
        m.d.sync += line.eq(now >> 2)
        for end in range(2):
            window = now[span + end - t.nFAW + 1:span + end + 1]
            m.d.comb += Assert(sum(window[i] for i in range(t.nFAW)) <= FAW.window)
        m.d.comb += [Assert(~dut.host | ~line[span + 1 - t.nRRDL + 1:].any()),
                     Assert(~dut.bundle | ~line[span - t.nRRDL + 1:].any()),
                     Assert(~dut.refresh | ~line[span - t.nRRDL + 1:].any())]
        refreshed = age(m, "refresh", dut.refresh, 0)
        m.d.comb += [Assert(~(dut.refresh | dut.bundle) | (refreshed >= t.nRREFD)),
                     Assert(~dut.host | (refreshed + 1 >= t.nRREFD))]
        return m


class PathProof(Component):
    """Column commands issued only when :class:`PathTimers` allow them keep the rows of their path:
    column spacing, turnarounds, and both directions of its data bus.

    Parameters
    ----------
    config : Config
    host : bool

    Members
    -------
    read, write : In(1), wanted in this clock
    group : In, of the access
    mine : In, a bank group
    """

    def __init__(self, config: Config, *, host: bool):
        self.config, self.host = config, host
        groups = config.dram.ranks * config.dram.bank_groups if host else 1
        super().__init__({"read": In(1), "write": In(1), "group": In(range(groups)),
                          "mine": In(range(groups))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dut = dut = PathTimers(self.config, host=self.host)
        read, write = (DramCommand.RD, DramCommand.WR) if self.host else (
            DramCommand.ALL_RD, DramCommand.ALL_WR)
        m.d.comb += [dut.group.eq(self.group), dut.read.eq(self.read & dut.may_read),
                     dut.write.eq(self.write & dut.may_write & ~dut.read)]
        constant(m, self.mine)
        here = self.group == self.mine
        for row in CONSTRAINTS:
            required = row.required(self.config.dram_timing)
            # Every access of the path is in reach of the wider scopes, those of one group of all.
            if required <= 0:
                continue
            near = here if row.scope in (Scope.BANK, Scope.GROUP) else 1
            for a, first in ((read, dut.read), (write, dut.write)):
                name = row.name.replace(" ", "_")
                last = age(m, f"{name}_{a.name}_{row.scope.name}", first & near, 0)
                for b, second in ((read, dut.read), (write, dut.write)):
                    if a in row.first and b in row.next:
                        m.d.comb += Assert(~(second & near) | (last >= required))
        return m
