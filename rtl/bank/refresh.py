# SPDX-License-Identifier: BSD-2-Clause
"""All-bank refresh: which rank is due, when it is refreshed, and when it may be opened again."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.spec.config import Config

from .timer import Gaps, Timer


class Refresh(wiring.Component):
    """Refreshes each rank once an nREFI, as soon as it has no open row.

    All ranks fall due together; each is refreshed in the first clock in which it is closed, has
    waited nRP and the command slot is not taken by a lower rank. A rank that is due admits no
    new row, so it waits for the open row at most.

    Parameters
    ----------
    config : Config

    Members
    -------
    open : In(ranks), a row of the rank is open
    precharge : In(ranks), the open row of the rank is precharged this clock
    issue : Out(ranks), at most one bit: the rank is refreshed this clock
    blocked : Out(ranks), due or being refreshed: no row may be opened
    ready : Out(ranks), nRP and nRFC have passed
    """

    def __init__(self, config: Config):
        self.config = config
        ranks = config.dram.ranks
        super().__init__({"open": In(ranks), "precharge": In(ranks), "issue": Out(ranks),
                          "blocked": Out(ranks), "ready": Out(ranks)})

    def elaborate(self, platform):
        m = Module()
        gaps = Gaps(self.config)
        ranks = self.config.dram.ranks
        due, refreshing = Signal(ranks), Signal(ranks)
        waiting = due & ~self.open & self.ready
        m.d.comb += [self.issue.eq(waiting & -waiting),
                     self.blocked.eq(due | (refreshing & ~self.ready))]
        for rank in range(ranks):
            m.submodules[f"rank{rank}"] = timer = Timer(max(gaps.pre_act, gaps.refresh_act))
            m.d.comb += [
                timer.load.eq(Mux(self.issue[rank], gaps.refresh_act,
                                  Mux(self.precharge[rank], gaps.pre_act, 0))),
                self.ready[rank].eq(timer.done),
            ]
            m.d.sync += refreshing[rank].eq(self.issue[rank] | (refreshing[rank] & ~timer.done))
        if self.config.refresh:
            clocks = Signal(range(gaps.refresh_interval), init=gaps.refresh_interval - 1)
            elapsed = clocks == 0
            m.d.sync += [
                clocks.eq(Mux(elapsed, gaps.refresh_interval - 1, clocks - 1)),
                due.eq((due & ~self.issue) | elapsed.replicate(ranks)),
            ]
        return m
