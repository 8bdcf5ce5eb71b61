# SPDX-License-Identifier: BSD-2-Clause
"""The bundle machine: who owns a bundle, and opening and closing its row for the stream."""

from amaranth.hdl import Module, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.spec.config import Config

from .timer import Gaps, Timer, load


class Owner(enum.Enum, shape=2):
    """To whom a bundle belongs; ``FREE`` means closed and without data under way."""

    FREE = 0
    STREAM = 1
    HOST = 2
    REFRESH = 3


class BundleMachine(wiring.Component):
    """Owns one bundle for the stream, the host or refresh, one at a time, closed between two.

    The stream leaves it when its next two rows are elsewhere or when it is evicted; the host when
    nothing of it is under way and the stream has waited for ``host_burst`` accesses, or the host
    wants nothing here; refresh when it says so. A free bundle goes to refresh first, then to the
    one of stream and host that did not have it last. The stream goes on to another row without
    giving the bundle up if nobody else wants it.

    What it asks for is registered: ``activate`` and ``precharge`` are decided on a clock before
    they may be issued, for that clock. A row that is left is closed in any case.

    Parameters
    ----------
    config : Config

    Members
    -------
    stream_wants : In(1), the stream needs row ``row`` now or next; stays until it is served
    row : In, stable while the stream does not move on
    evict : In(1), the stream must leave although it is not done
    host_wants : In(1), the oldest host access that has no row yet is in this bundle
    host_idle : In(1), no other host access is
    host_passed : In(1), ``host_wants`` is served in this clock
    refresh_wants, refresh_due, refresh_done : In(1), refresh claims the bundle; would use it while
        the host leaves it alone; has finished with it
    read, write : In(1), a column command of either path to this bundle
    open, soon_activate, soon_access, soon_precharge : In(bundle_banks), by lane
    activate : Out(parts), at most one bit: a part may be activated for the stream
    precharge : Out(1), all banks are to be closed, and may be
    issued : In(1), what it asks for is issued in this clock
    open_row : Out, the row of the stream
    serves : Out(1), the stream's row can be accessed in the next clock
    owner : Out(Owner)
    grant : Out(1), the host may use the bundle for one more access
    freed : Out(1), the stream left it in the clock before
    """

    def __init__(self, config: Config):
        self.config = config
        self.share_key = config.digest
        org = config.dram
        lanes, row = org.bundle_banks, max(1, ceil_log2(org.rows))
        self.parts = org.parts if config.stagger else 1
        super().__init__({
            "stream_wants": In(1), "row": In(row), "evict": In(1),
            "host_wants": In(1), "host_idle": In(1), "host_passed": In(1),
            "refresh_wants": In(1), "refresh_due": In(1), "refresh_done": In(1),
            "read": In(1), "write": In(1),
            "open": In(lanes), "soon_activate": In(lanes), "soon_access": In(lanes),
            "soon_precharge": In(lanes),
            "activate": Out(self.parts), "precharge": Out(1), "issued": In(1),
            "open_row": Out(row), "serves": Out(1), "owner": Out(Owner), "grant": Out(1),
            "freed": Out(1),
        })

    def _ask(self, m: Module, stays, closing) -> None:
        """Open part by part, the first that is ready first; all of them serve. Close at once."""
        size = self.config.dram.bundle_banks // self.parts
        ready = Signal(self.parts)
        for part in range(self.parts):
            m.d.comb += ready[part].eq(self.soon_activate.word_select(part, size).all())
        m.d.comb += self.serves.eq(stays & self.soon_access.all())
        m.d.sync += [
            self.activate.eq((ready & -ready) & (stays & ~self.issued).replicate(self.parts)),
            self.precharge.eq(closing & self.open.any() & self.soon_precharge.all()
                              & ~self.issued)]

    def _timed(self, m: Module):
        """No data is under way."""
        gaps = Gaps(self.config)
        m.submodules.data = data = Timer(max(gaps.read_latency, gaps.write_latency) + 1)
        was_read, was_write = Signal(), Signal()
        m.d.sync += [was_read.eq(self.read), was_write.eq(self.write)]
        load(m, data, was_read, gaps.read_latency + 1)
        load(m, data, was_write, gaps.write_latency + 1)
        return data.done & ~was_read & ~was_write

    def elaborate(self, platform):
        m = Module()
        burst = self.config.host_burst
        closing, hosts_turn, leave, revoke = Signal(), Signal(), Signal(), Signal()
        served, idle = Signal(range(burst + 1)), Signal()
        spent, is_open, stays = Signal(), Signal(), Signal()
        refreshed = Signal()
        m.d.comb += [
            is_open.eq(self.open.any()), idle.eq(self._timed(m)),
            spent.eq((served == burst) | (self.host_passed & (served == burst - 1))),
            self.grant.eq((self.owner == Owner.HOST) & ~revoke & ~closing),
        ]
        # What refresh wants is known a clock late: it may have just had it.
        m.d.sync += [self.freed.eq(0), refreshed.eq(self.owner == Owner.REFRESH),
                     revoke.eq(self.refresh_wants | (self.stream_wants & spent))]
        with m.Switch(self.owner):
            with m.Case(Owner.FREE):
                m.d.sync += [self.open_row.eq(self.row), served.eq(0), closing.eq(0)]
                with m.If(self.refresh_wants & ~refreshed):
                    m.d.sync += self.owner.eq(Owner.REFRESH)
                with m.Elif(self.stream_wants & ~(self.host_wants & hosts_turn)):
                    m.d.sync += self.owner.eq(Owner.STREAM)
                with m.Elif(self.host_wants):
                    m.d.sync += self.owner.eq(Owner.HOST)
            with m.Case(Owner.STREAM):
                m.d.comb += [
                    leave.eq(self.evict | ~self.stream_wants | (self.row != self.open_row)),
                    stays.eq(~closing & ~leave)]
                m.d.sync += [closing.eq(closing | leave), hosts_turn.eq(1)]
                # Another row of the same bundle: the path stays, data may still be under way.
                with m.If(closing & ~is_open & self.stream_wants & ~self.refresh_wants
                          & ~self.host_wants & ~self.evict):
                    m.d.sync += [self.open_row.eq(self.row), closing.eq(0)]
                with m.Elif(closing & ~is_open & idle):
                    m.d.sync += [self.owner.eq(Owner.FREE), self.freed.eq(1)]
            with m.Case(Owner.HOST):
                m.d.comb += leave.eq(self.host_idle & (revoke | (
                    ~self.host_wants & (self.stream_wants | self.refresh_due))))
                m.d.sync += [closing.eq(closing | leave), hosts_turn.eq(0)]
                with m.If(self.host_passed & (served != burst)):
                    m.d.sync += served.eq(served + 1)
                with m.If(closing & ~is_open & idle):
                    m.d.sync += self.owner.eq(Owner.FREE)
            with m.Case(Owner.REFRESH):
                with m.If(self.refresh_done):
                    m.d.sync += self.owner.eq(Owner.FREE)
        self._ask(m, stays, closing)
        return m
