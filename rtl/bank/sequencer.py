# SPDX-License-Identifier: BSD-2-Clause
"""The sequencer: opens one row at a time for the bundle agent or the host agent."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.signatures import Activity, column_command, row_command
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand

from .access import Access, page
from .refresh import Refresh
from .timer import Gaps, RowTimers


class Sequencer(wiring.Component):
    """Decides on at most one row and one column command a clock.

    A row stays open while its agent has accesses to it. The host leaves it after ``host_burst``
    accesses or when the rank is due for refresh; a bundle leaves it early only while it has no
    credit, for a due refresh at once, for a waiting host after as many such clocks as opening it
    again costs. When both agents want a row they take turns, unless refresh blocks the rank of
    the one whose turn it is. So each access waits for one row of the other agent and one refresh
    at most, and a refresh for the open row.

    Parameters
    ----------
    config : Config

    Members
    -------
    bundle, host : In(Access)
    row, column : Out, the commands decided on in this clock
    path : Out(bundles), set in the clock after an ALL_ACT is decided; cleared when the row is
        closed and its data has passed
    activity : Out(Activity), of this clock
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "bundle": In(Access(config)), "host": In(Access(config)),
            "row": Out(row_command(config)), "column": Out(column_command(config)),
            "path": Out(config.dram.bundles), "activity": Out(Activity),
        })
        # The one row that may be open, whose it is, and that it is to be closed.
        self._open, self._is_bundle, self._closing = Signal(), Signal(), Signal()
        self._page = Signal(page(config))

    def elaborate(self, platform):
        m = Module()
        m.submodules.timers = timers = RowTimers(self.config)
        m.submodules.refresh = refresh = Refresh(self.config)
        activate, precharge, hit = Signal(), Signal(), Signal()
        self._serve(m, timers, refresh, hit=hit, activate=activate, precharge=precharge)
        chosen = self._choose(m, timers, refresh, activate=activate)
        self._issue_row(m, refresh, chosen, activate=activate, precharge=precharge)
        self._report(m, timers, refresh, hit=hit, host_chosen=~chosen["is_bundle"])

        column = self.column.command
        m.d.comb += [
            timers.activate.eq(activate),
            timers.read.eq((column == DramCommand.RD) | (column == DramCommand.ALL_RD)),
            timers.write.eq((column == DramCommand.WR) | (column == DramCommand.ALL_WR)),
            refresh.open.eq(self._open << self._page.rank),
            refresh.precharge.eq(precharge << self._page.rank),
        ]
        return m

    def _serve(self, m, timers, refresh, *, hit, activate, precharge):
        """Column commands to the open row, and the decision to leave it."""
        is_bundle, bundle, host = self._is_bundle, self.bundle, self.host
        gaps, burst = Gaps(self.config), self.config.host_burst
        served, starved = Signal(range(burst + 1)), Signal(range(gaps.reopen + 1))
        due = refresh.blocked.bit_select(self._page.rank, 1)
        write, go, issue, forced = (Signal(name=n) for n in ("write", "go", "issue", "forced"))

        m.d.comb += [
            hit.eq(self._open & Mux(is_bundle, bundle.valid & _equal(bundle.page, self._page),
                                    host.valid & _equal(host.page, self._page))),
            go.eq(Mux(is_bundle, bundle.go, host.go)),
            forced.eq(Mux(is_bundle, ~go & (due | (starved == gaps.reopen)),
                          due | (served == burst))),
            write.eq(Mux(is_bundle, bundle.write, host.write)),
            issue.eq(hit & go & ~forced & ~self._closing
                     & Mux(write, timers.may_write, timers.may_read)),
            precharge.eq(self._open & (~hit | forced | self._closing) & timers.may_precharge
                         & ~refresh.issue.any()),
            bundle.advance.eq(issue & is_bundle), host.advance.eq(issue & ~is_bundle),
        ]
        m.d.sync += self._closing.eq(self._open & ~precharge & (self._closing | forced))
        with m.If(activate):
            m.d.sync += [served.eq(0), starved.eq(0)]
        with m.Else():
            m.d.sync += [
                served.eq(served + host.advance),
                starved.eq(starved + (hit & is_bundle & ~go & host.valid
                                      & (starved != gaps.reopen))),
            ]
        with m.If(issue):
            m.d.comb += [
                self.column.command.eq(Mux(
                    is_bundle, Mux(write, DramCommand.ALL_WR, DramCommand.ALL_RD),
                    Mux(write, DramCommand.WR, DramCommand.RD))),
                self.column.rank.eq(self._page.rank),
                self.column.bank_group.eq(self._page.bank_group),
                self.column.bank.eq(self._page.bank),
                self.column.column.eq(Mux(is_bundle, bundle.column, host.column)),
            ]

    def _choose(self, m, timers, refresh, *, activate):
        """Whose row is opened next, and when the path is switched for it."""
        bundle, host = self.bundle, self.host
        hosts_turn, is_bundle, any_wants = Signal(), Signal(), Signal()
        chosen, path = Signal(page(self.config)), Signal.like(self.path)
        wants = [Signal(name=f"{name}_wants") for name in ("bundle", "host")]
        m.d.comb += [
            # A row without credit is opened ahead of time only if nobody waits for another.
            wants[0].eq(bundle.valid & ~refresh.blocked.bit_select(bundle.page.rank, 1)
                        & (bundle.go | ~host.valid)),
            wants[1].eq(host.valid & ~refresh.blocked.bit_select(host.page.rank, 1)),
            any_wants.eq(wants[0] | wants[1]),
            is_bundle.eq(wants[0] & ~(hosts_turn & wants[1])),
            Value.cast(chosen).eq(Mux(is_bundle, bundle.page, host.page)),
            path.eq(is_bundle << bundle.page.bank),
            activate.eq(~self._open & any_wants & refresh.ready.bit_select(chosen.rank, 1)
                        & ~refresh.issue.any() & (timers.drained | (path == self.path))),
        ]
        with m.If(activate):
            m.d.sync += [self.path.eq(path), hosts_turn.eq(is_bundle)]
        with m.Elif(~self._open & timers.drained):
            m.d.sync += self.path.eq(0)
        return {"page": chosen, "is_bundle": is_bundle}

    def _issue_row(self, m, refresh, chosen, *, activate, precharge):
        """The row command; refresh has the slot first."""
        row, here = self.row, self._page
        with m.If(refresh.issue.any()):
            rank = sum(refresh.issue[r] * r for r in range(len(refresh.issue)))
            m.d.comb += [row.command.eq(DramCommand.REFAB), row.rank.eq(rank)]
        with m.Elif(activate):
            m.d.comb += [
                row.command.eq(Mux(chosen["is_bundle"], DramCommand.ALL_ACT, DramCommand.ACT)),
                row.rank.eq(chosen["page"].rank), row.bank_group.eq(chosen["page"].bank_group),
                row.bank.eq(chosen["page"].bank), row.row.eq(chosen["page"].row),
            ]
            m.d.sync += [self._open.eq(1), self._is_bundle.eq(chosen["is_bundle"]),
                         here.eq(chosen["page"])]
        with m.Elif(precharge):
            m.d.comb += [
                row.command.eq(Mux(self._is_bundle, DramCommand.ALL_PRE, DramCommand.PRE)),
                row.rank.eq(here.rank), row.bank_group.eq(here.bank_group),
                row.bank.eq(here.bank),
            ]
            m.d.sync += self._open.eq(0)

    def _report(self, m, timers, refresh, *, hit, host_chosen):
        """Streaming includes waiting for credit; all else a job waits for has a cause."""
        job, host = self.bundle.valid, self.host.valid
        waits = Mux(job, refresh.blocked.bit_select(self.bundle.page.rank, 1),
                    Mux(host, refresh.blocked.bit_select(self.host.page.rank, 1),
                        refresh.blocked.any()))
        with m.If(self._open & ~self._is_bundle):
            m.d.comb += self.activity.eq(Activity.HOST)
        with m.Elif(self._open):
            m.d.comb += self.activity.eq(Mux(hit & timers.opened, Activity.STREAM,
                                             Activity.ACTIVATE))
        with m.Elif(waits):
            m.d.comb += self.activity.eq(Activity.REFRESH)
        with m.Elif(job | host):
            m.d.comb += self.activity.eq(Mux(host & host_chosen, Activity.HOST,
                                             Activity.ACTIVATE))


def _equal(a, b):
    return Value.cast(a) == Value.cast(b)
