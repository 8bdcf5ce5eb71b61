# SPDX-License-Identifier: BSD-2-Clause
"""The scheduler: bundle machines and bank timers, and what goes into slot 0 of each clock."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from logicpim.rtl.generate.share import shared
from logicpim.rtl.signatures import Activity, column_command, row_command
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand

from .bundle import BundleAgent
from .host import HostAgent
from .machine import BundleMachine, Owner
from .refresh import BankRefresh, RankRefresh
from .timer import BankTimers, Gaps, PathTimers, RankTimers


class Scheduler(wiring.Component):
    """Decides on at most two row and two column commands a clock.

    Slot 0 of the row bus serves, in this order, an activate for the stream's row at hand, one for
    its next row, a bundle that is to be closed, refresh; slot 1 serves the host. Of the column
    slots the first belongs to the stream, the second to the host. An activate that the stream
    needs and could make but for its rank keeps the host's activates and refresh out of that rank.

    The stream is evicted from a bundle only while it has no credit, while its row at hand is in
    a bundle that is refreshed, or between two jobs in one row: for a refresh that has waited as
    long as it may at once, for a waiting host after as many clocks without credit as opening the
    row again costs. While it moves on, refresh takes a bundle of its set only when it leaves that,
    as it then stays away the longest.

    Parameters
    ----------
    config : Config
    bundle : BundleAgent
    host : HostAgent
        Agents whose signals it drives and reads; they are submodules of the one that wires.

    Members
    -------
    row0, row1, column0, column1 : Out, the commands decided on in this clock
    path : Out(bundles), the bundles that belong to the stream
    activity : Out(Activity), of this clock
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "row0": Out(row_command(config)), "row1": Out(row_command(config)),
            "column0": Out(column_command(config)), "column1": Out(column_command(config)),
            "path": Out(config.dram.bundles), "activity": Out(Activity),
        })
        self.bundle, self.host = BundleAgent(config), HostAgent(config)

    def elaborate(self, platform):
        m = Module()
        config, org = self.config, self.config.dram
        m.submodules.bundle, m.submodules.host = self.bundle, self.host
        m.submodules.refresh = refresh = (
            BankRefresh if config.refresh_kind == "bank" else RankRefresh)(config)
        m.submodules.stream_timers = self._path = PathTimers(config, host=False)
        self._machines, self._banks, self._ranks = [], [], []
        for b in range(org.bundles):
            m.submodules[f"bundle{b}"] = machine = shared(
                BundleMachine(config), "bundle_machine")
            self._machines.append(machine)
            for lane in range(org.bundle_banks):
                m.submodules[f"bank{b}_{lane}"] = bank = shared(
                    BankTimers(config), "bank_timers")
                self._banks.append(bank)
        for r in range(org.ranks):
            m.submodules[f"rank{r}"] = rank = RankTimers(config)
            self._ranks.append(rank)
        served = self._stream(m)
        self._claims(m, refresh, served)
        self._slot0(m, refresh)
        self._host(m)
        self._tell_timers(m)
        self._report(m, served)
        return m

    def _of(self, m: Module, name: str, units):
        """One bit of each unit, side by side."""
        bits = Signal(len(units), name=f"all_{name}")
        m.d.comb += bits.eq(Cat(getattr(unit, name) for unit in units))
        return bits

    def _stream(self, m: Module):
        """Column commands of the stream; whether its row at hand is open.

        That is known a clock late, as the stream moves no faster than every second clock.
        """
        agent, path, org = self.bundle, self._path, self.config.dram
        serves = self._of(m, "serves", self._machines)
        served, serving = Signal(), Signal()
        m.d.comb += serving.eq(agent.here.valid & serves.bit_select(agent.here.bundle, 1))
        m.d.sync += served.eq(serving)
        m.d.comb += [
            agent.advance.eq(served & agent.go
                             & Mux(agent.write, path.may_write, path.may_read)),
            path.read.eq(agent.advance & ~agent.write), path.write.eq(agent.advance & agent.write),
        ]
        with m.If(agent.advance):
            m.d.comb += [
                self.column0.command.eq(Mux(agent.write, DramCommand.ALL_WR, DramCommand.ALL_RD)),
                self.column0.rank.eq(agent.here.bundle // org.bundles_per_rank),
                self.column0.bank.eq(agent.here.bundle), self.column0.column.eq(agent.column),
            ]
        self._serving = serving
        return served

    def _claims(self, m: Module, refresh, served) -> None:
        """What each bundle machine is asked for."""
        agent, host = self.bundle, self.host
        gaps = Gaps(self.config)
        starved = Signal(range(gaps.reopen + 1))
        waits = agent.here.valid & ~agent.go
        m.d.sync += starved.eq(Mux(~waits, 0, starved + (starved != gaps.reopen)))
        # Refresh of a rank waits for all its bundles: also for the one that the stream has opened
        # ahead, if the one before it is refresh's already.
        held = Signal()
        m.d.comb += held.eq(agent.here.valid & refresh.owned.bit_select(agent.here.bundle, 1))
        ended, was = Signal(), Signal.like(agent.here.bundle)
        m.d.sync += [ended.eq(agent.advance & agent.last), was.eq(agent.here.bundle)]
        comes = self._comes(m, held, served)
        for b, machine in enumerate(self._machines):
            here = agent.here.valid & (agent.here.bundle == b)
            stays = ended & (was == b) & here
            ahead = agent.ahead.valid & (agent.ahead.bundle == b)
            m.d.comb += [
                machine.stream_wants.eq(here | ahead),
                machine.row.eq(Mux(here, agent.here.row, agent.ahead.row)),
                machine.host_wants.eq(host.wants[b]), machine.host_idle.eq(host.idle[b]),
                machine.host_passed.eq(host.passed[b]),
                host.grant[b].eq(machine.grant),
            ]
            if self.config.refresh:
                m.d.comb += [machine.refresh_due.eq(refresh.due[b]),
                             machine.refresh_done.eq(refresh.done[b])]
                m.d.sync += machine.refresh_wants.eq(refresh.wants[b] & ~comes[b])
            m.d.sync += machine.evict.eq(
                ((waits | held | stays) & machine.refresh_wants)
                | (waits & machine.host_wants & (starved == gaps.reopen)))
            m.d.comb += [
                refresh.owned[b].eq(machine.owner == Owner.REFRESH),
                refresh.free[b].eq(machine.owner == Owner.FREE),
                refresh.freed[b].eq(machine.freed),
                refresh.used[b].eq(agent.used[b] | host.wants[b]),
                self.path[b].eq(machine.owner == Owner.STREAM),
            ]
        with m.Switch(agent.interleave):
            for bits in range(3):
                with m.Case(bits):
                    m.d.comb += refresh.hidden.eq(gaps.hides(1 << bits))

    def _comes(self, m: Module, held, served):
        """The bundles that the stream will come back to while refresh would have them: all free
        ones of its set, unless it leaves them right now. From a rank to be refreshed at once, and
        a set of several ranks, it must leave all bundles."""
        agent, org = self.bundle, self.config.dram
        per = org.bundles_per_rank
        comes, moves = Signal(org.bundles), Signal()
        m.d.comb += moves.eq(agent.here.valid & agent.go & ~held & ~agent.last & served)
        freed = self._of(m, "freed", self._machines)
        for b, machine in enumerate(self._machines):
            leaves = freed[b]
            if self.config.refresh_kind == "all":
                rank = b // per
                leaves = Mux((1 << agent.interleave) <= per, leaves, freed.word_select(rank, per)
                             .any() & (agent.here.bundle // per != rank))
            m.d.comb += comes[b].eq(moves & (machine.owner == Owner.FREE) & ~leaves & (
                ((agent.here.bundle ^ b) >> agent.interleave) == 0))
        return comes

    def _slot0(self, m: Module, refresh) -> None:
        """The row command of slot 0."""
        agent, org = self.bundle, self.config.dram
        row, per = self.row0, org.bundles_per_rank
        self._opens, self._closes = Signal(org.bundles), Signal(org.bundles)
        self._part = Signal(self._machines[0].parts)
        ready = Signal(org.bundles)
        for b, machine in enumerate(self._machines):
            m.d.comb += ready[b].eq(machine.activate.any() & self._ranks[b // per].may_bundle)
        here = ready & (agent.here.valid << agent.here.bundle)[:org.bundles]
        closes = self._of(m, "precharge", self._machines)
        staggered = self.config.stagger
        with m.If(ready.any()):
            m.d.comb += self._opens.eq(Mux(here.any(), here, ready & -ready))
        with m.Elif(closes.any()):
            m.d.comb += self._closes.eq(closes & -closes)
        with m.Elif(refresh.valid & self.config.refresh):
            bank = Cat(refresh.lane[len(refresh.lane) - _bits(org.parts):],
                       refresh.bundle[:_bits(per)])
            m.d.comb += [
                refresh.taken.eq(1), row.rank.eq(refresh.bundle // per),
                row.command.eq(Mux(refresh.all_banks, DramCommand.REFAB, DramCommand.REFPB)),
                row.bank_group.eq(refresh.lane[:_bits(org.bank_groups)]), row.bank.eq(bank),
            ]
        for b, machine in enumerate(self._machines):
            with m.If(self._opens[b]):
                m.d.comb += [
                    row.command.eq(DramCommand.PART_ACT if staggered else DramCommand.ALL_ACT),
                    row.row.eq(machine.open_row), self._part.eq(machine.activate),
                    row.bank_group.eq(_number(machine.activate)),
                ]
            with m.If(self._closes[b]):
                m.d.comb += row.command.eq(DramCommand.ALL_PRE)
            m.d.comb += machine.issued.eq(self._opens[b] | self._closes[b])
            with m.If(machine.issued):
                m.d.comb += [row.rank.eq(b // per), row.bank.eq(b)]
        self._refresh = refresh

    def _host(self, m: Module) -> None:
        """Slot 1 is the host's."""
        host, per = self.host, self.config.dram.bundles_per_rank
        m.d.comb += [self.row1.eq(host.row), self.column1.eq(host.column),
                     host.closed.eq(self._closes),
                     host.soon_activate.eq(self._of(m, "soon_activate", self._banks)),
                     host.soon_access.eq(self._of(m, "soon_access", self._banks)),
                     host.soon_precharge.eq(self._of(m, "soon_precharge", self._banks)),
                     self._refresh.ready.eq(host.soon_activate)]
        for r, rank in enumerate(self._ranks):
            wanted = Cat(machine.activate for machine in
                         self._machines[r * per:(r + 1) * per]).any()
            here = ~self._refresh.all_banks & (self._refresh.bundle // per == r)
            taken = self._refresh.taken & here
            m.d.comb += [
                # Also where slot 0 does something else: what it does is known late.
                host.may_open[r].eq(rank.may_host & ~wanted & ~(self._refresh.valid & here)),
                self._refresh.may_refresh[r].eq(rank.may_refresh & ~wanted),
                rank.bundle.eq(self._opens.word_select(r, per).any()),
                rank.host.eq((host.row.command == DramCommand.ACT) & (host.row.rank == r)),
                rank.refresh.eq(taken),
            ]

    def _tell_timers(self, m: Module) -> None:
        """Each bank's timers and each bundle's data timer hear of the commands to them."""
        org, host, refresh = self.config.dram, self.host, self._refresh
        size = org.bundle_banks // self._machines[0].parts
        read, write = self._path.read, self._path.write
        for b, machine in enumerate(self._machines):
            streams = self.bundle.here.bundle == b
            accesses = host.accessed[_bits(org.bundle_banks):] == b
            m.d.comb += [
                machine.read.eq((read & streams)
                                | ((host.column.command == DramCommand.RD) & accesses)),
                machine.write.eq((write & streams)
                                 | ((host.column.command == DramCommand.WR) & accesses)),
            ]
            for lane in range(org.bundle_banks):
                index = b * org.bundle_banks + lane
                bank = self._banks[index]
                row, column = host.bank == index, host.accessed == index
                hosts = {command: (bus.command == command) & here
                         for bus, here, commands in (
                             (host.row, row, (DramCommand.ACT, DramCommand.PRE)),
                             (host.column, column, (DramCommand.RD, DramCommand.WR)))
                         for command in commands}
                alone = refresh.taken & ~refresh.all_banks & (refresh.bundle == b) & (
                    refresh.lane == lane)
                whole = refresh.taken & refresh.all_banks & (
                    refresh.bundle // org.bundles_per_rank == b // org.bundles_per_rank)
                m.d.comb += [
                    bank.activate.eq((self._opens[b] & self._part[lane // size])
                                     | hosts[DramCommand.ACT]),
                    bank.precharge.eq(self._closes[b] | hosts[DramCommand.PRE]),
                    bank.read.eq((read & streams) | hosts[DramCommand.RD]),
                    bank.write.eq((write & streams) | hosts[DramCommand.WR]),
                    bank.refresh.eq(alone), bank.refresh_all.eq(whole),
                    bank.host.eq(Cat(hosts.values()).any()),
                ]
                for name in ("open", "soon_activate", "soon_access", "soon_precharge"):
                    m.d.comb += getattr(machine, name)[lane].eq(getattr(bank, name))

    def _report(self, m: Module, served) -> None:
        """Streaming includes waiting for credit; all else a job waits for has a cause."""
        agent, org = self.bundle, self.config.dram
        owner = Signal(Owner)
        refreshing = Signal(org.bundles)
        for b, machine in enumerate(self._machines):
            ready = machine.soon_activate.all() | machine.open.any()
            started = machine.owner == Owner.REFRESH
            m.d.sync += refreshing[b].eq(started | (refreshing[b] & ~ready))
            with m.If(agent.here.bundle == b):
                m.d.comb += owner.eq(machine.owner)
        waits = refreshing.bit_select(agent.here.bundle, 1) | (owner == Owner.REFRESH)
        with m.If(agent.here.valid):
            m.d.comb += self.activity.eq(
                Mux(served & self._serving, Activity.STREAM, Mux(owner == Owner.HOST, Activity.HOST,
                    Mux(waits, Activity.REFRESH, Activity.ACTIVATE))))
        with m.Elif(self.host.wants.any() | ~self.host.idle.all()):
            m.d.comb += self.activity.eq(Activity.HOST)
        with m.Elif(refreshing.any()):
            m.d.comb += self.activity.eq(Activity.REFRESH)


def _bits(count: int) -> int:
    return (count - 1).bit_length()


def _number(one_hot):
    """The place of the only bit that is set."""
    number = 0
    for index in range(1, len(one_hot)):
        number = Mux(one_hot[index], index, number)
    return number
