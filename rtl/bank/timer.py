# SPDX-License-Identifier: BSD-2-Clause
"""Timers that keep DRAM commands apart."""

from amaranth.hdl import Module, Mux, Signal
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
    """

    def __init__(self, limit: int):
        self.limit = limit
        super().__init__({"load": In(range(limit + 1)), "done": Out(1)})

    def elaborate(self, platform):
        m = Module()
        left, later = Signal(range(self.limit)), Signal(range(self.limit + 1))
        m.d.comb += [later.eq(Mux(self.load > left, self.load, left)), self.done.eq(left == 0)]
        m.d.sync += left.eq(Mux(later == 0, 0, later - 1))
        return m


class Gaps:
    """Distances between commands in logic clocks, for commands in slot 0 of each clock.

    One row is open at a time, so what is not timed holds by arithmetic: between two activates lie
    ``act_pre`` and, in one rank, ``pre_act``; ``act_pre`` is long enough for nRC, nRRDL and (four
    times) nFAW as well. Column commands keep the distances of one bank group, the longest, also
    between banks, ranks, and the two paths.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config):
        t = config.dram_timing
        self.read_latency, self.write_latency = t.read_latency, t.write_latency
        self.act_column = t.clocks(max(t.nRCDRD, t.nRCDWR))
        self.pre_act = t.clocks(t.nRP)
        self.act_pre = max(t.clocks(t.nRAS), t.clocks(t.nRC) - self.pre_act,
                           t.clocks(t.nRRDL), -(-t.clocks(t.nFAW) // 4))
        self.read_pre = t.clocks(max(t.nRTPS, t.nRTPL))
        self.write_pre = t.clocks(t.nCWL + t.nBL + t.nWR)
        # The gearbox takes two clocks for a word.
        self.same = max(2, t.clocks(max(t.nCCDS, t.nCCDL)))
        # A write after a read waits for the data: host accesses then complete in order.
        self.read_write = max(t.clocks(t.nCL + t.nBL + t.nRTW - t.nCWL), self.read_latency + 1)
        self.write_read = t.clocks(t.nCWL + t.nBL + max(t.nWTRS, t.nWTRL))
        self.refresh_act = t.clocks(t.nRFC)
        self.refresh_interval = t.nREFI // t.CK_PER_CLOCK
        #: What closing a row and opening it again costs: waiting longer than this never pays.
        self.reopen = self.read_pre + self.pre_act + self.act_column


class RowTimers(wiring.Component):
    """Keeps the commands to the one open row apart, and knows when its data has passed.

    Parameters
    ----------
    config : Config

    Members
    -------
    activate, read, write : In(1), a command of this kind (bundle or not) is issued this clock
    opened : Out(1), nRCD has passed
    may_read, may_write, may_precharge : Out(1), it could be issued this clock
    drained : Out(1), a command issued now takes effect after the last data transfer
    """

    activate: In(1)
    read: In(1)
    write: In(1)
    opened: Out(1)
    may_read: Out(1)
    may_write: Out(1)
    may_precharge: Out(1)
    drained: Out(1)

    def __init__(self, config: Config):
        self.config = config
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        gaps = Gaps(self.config)

        def timer(name, **loads):
            m.submodules[name] = unit = Timer(max(loads.values()))
            for command, clocks in loads.items():
                with m.If(getattr(self, command)):
                    m.d.comb += unit.load.eq(clocks)
            return unit.done

        to_read = timer("to_read", read=gaps.same, write=gaps.write_read)
        to_write = timer("to_write", read=gaps.read_write, write=gaps.same)
        m.d.comb += [
            self.opened.eq(timer("to_column", activate=gaps.act_column)),
            self.may_read.eq(self.opened & to_read), self.may_write.eq(self.opened & to_write),
            self.may_precharge.eq(timer("to_precharge", activate=gaps.act_pre,
                                        read=gaps.read_pre, write=gaps.write_pre)),
            self.drained.eq(timer("data", read=gaps.read_latency + 1,
                                  write=gaps.write_latency + 1)),
        ]
        return m
