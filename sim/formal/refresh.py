# SPDX-License-Identifier: BSD-2-Clause
"""No bank is ever owed more refreshes than may be postponed, if bundles are given up in time."""

from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In
from amaranth.utils import ceil_log2

from logicpim.rtl.bank.refresh import BankRefresh
from logicpim.sim.dram.constraints import POSTPONED
from logicpim.spec.config import Config


class RefreshProof(Component):
    """Each bank gets its refreshes: at most eight owed, and never nREFMAX apart.

    Assumed, not proved here: a bundle that refresh forces is its own after at most ``grant``
    clocks in which it could have been; while any is its own, a refresh goes out at least every
    ``serve`` clocks. All else of the scheduler is free.

    Parameters
    ----------
    config : Config
    grant, serve : int
        In logic clocks.
    refresh : Component, optional
        In place of :class:`BankRefresh`.
    postponed : int
        Less than the standard's, for negative tests.

    Members
    -------
    bank : In, the bank watched, by bundle and lane; constant
    """

    def __init__(self, config: Config, *, grant: int, serve: int, refresh=None,
                 postponed: int = POSTPONED):
        self.config, self.grant, self.serve, self.postponed = config, grant, serve, postponed
        self.refresh = BankRefresh(config) if refresh is None else refresh
        super().__init__({"bank": In(range(config.dram.bundles * config.dram.bundle_banks))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.refresh = refresh = self.refresh
        bundles = self.config.dram.bundles
        # A bundle goes to refresh while it is wanted, and stays there until refresh is done.
        owned, wished = Signal(bundles), Signal(bundles)
        free = ~owned & AnySeq(bundles)
        m.d.comb += [
            wished.eq(refresh.wants & AnySeq(bundles)), refresh.owned.eq(owned),
            refresh.free.eq(free), refresh.freed.eq(free & AnySeq(bundles)),
            refresh.used.eq(AnySeq(bundles)), refresh.hidden.eq(AnySeq(1)),
            refresh.ready.eq(AnySeq(len(refresh.ready))),
            refresh.may_refresh.eq(AnySeq(len(refresh.may_refresh))),
            refresh.taken.eq(refresh.valid & AnySeq(1)),
        ]
        m.d.sync += owned.eq((owned | wished) & ~refresh.done)
        for b in range(bundles):
            waits = Signal(range(self.grant + 2), name=f"waits{b}")
            m.d.sync += waits.eq(Mux(refresh.forced[b] & ~owned[b], waits + 1, 0))
            m.d.comb += Assume(waits <= self.grant)
        idle = Signal(range(self.serve + 2))
        m.d.sync += idle.eq(Mux(owned.any() & ~refresh.taken, idle + 1, 0))
        m.d.comb += Assume(idle <= self.serve)
        self._judge(m, refresh)
        return m

    def _judge(self, m: Module, refresh) -> None:
        t, lanes = self.config.dram_timing, self.config.dram.bundle_banks
        begun, kept, bank = Signal(), Signal.like(self.bank), Signal.like(self.bank)
        m.d.comb += bank.eq(Mux(begun, kept, self.bank))
        m.d.sync += [begun.eq(1), kept.eq(bank)]
        here = refresh.taken & (Cat(refresh.lane[:ceil_log2(lanes)], refresh.bundle) == bank)
        interval = t.nREFI // t.CK_PER_CLOCK
        left, tick = Signal(range(interval), init=interval - 1), Signal()
        m.d.comb += tick.eq(left == 0)
        m.d.sync += left.eq(Mux(tick, interval - 1, left - 1))
        # Refreshes ahead of time count up to as many as may be owed.
        owed, after = Signal(signed(6)), Signal(signed(6))
        m.d.comb += [after.eq(owed + tick - here), Assert(owed <= self.postponed)]
        m.d.sync += owed.eq(Mux(after < -POSTPONED, -POSTPONED, after))
        longest = t.nREFMAX // t.CK_PER_CLOCK
        gap = Signal(range(longest + 2))
        m.d.comb += Assert(gap <= longest)
        m.d.sync += gap.eq(Mux(here, 1, gap + 1))
