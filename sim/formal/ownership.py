# SPDX-License-Identifier: BSD-2-Clause
"""Commands of a bundle's owner alone: the scheduler with any host agent that keeps its contract.

Two proofs meet at the ports of the host agent. :class:`HostContract` shows that the real one keeps
the contract; :class:`AnyHost` is free but for it and takes its place in the scheduler, so that
what is shown about the scheduler needs none of the agent's queues.
"""

from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2

from logicpim.rtl.bank.host import HostAgent
from logicpim.rtl.bank.scheduler import Scheduler
from logicpim.rtl.bank.timer import PathTimers
from logicpim.rtl.signatures import bundle_job
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand

from .controller import watch
from .host import CountedAgent
from .observer import BusObserver, bank_bits

SLOTS = ("row0", "row1", "column0", "column1")


def _bundle(config: Config, bank):
    """The bundle of a bank that is counted by bundle and lane."""
    return bank >> ceil_log2(config.dram.bundle_banks)


def _name(m: Module, config: Config, command, bank) -> None:
    """The fields of a command to a bank that is counted by bundle and lane."""
    org = config.dram
    group = bank & (org.bank_groups - 1)
    low = bank >> ceil_log2(org.bank_groups) & (org.parts - 1)
    bundle = _bundle(config, bank)
    m.d.comb += [command.bank_group.eq(group),
                 command.bank.eq((bundle & (org.bundles_per_rank - 1)) * org.parts + low),
                 command.rank.eq(bundle >> ceil_log2(org.bundles_per_rank))]


class Before:
    """What the clock before allows a host agent: flags of timers, and its own commands.

    Parameters
    ----------
    m : Module
    agent : Component
        With the ports of :class:`HostAgent`.

    Attributes
    ----------
    may_activate, may_precharge, may_access : Value
        Of the banks ``agent.bank``, ``agent.bank`` and ``agent.accessed``.
    """

    def __init__(self, m: Module, agent):
        soon = {}
        for name in ("activate", "precharge", "access"):
            soon[name] = Signal(agent.banks, name=f"was_soon_{name}")
            m.d.sync += soon[name].eq(getattr(agent, f"soon_{name}"))
        commanded, precharged, moved = Signal(), Signal(), Signal()
        bank, accessed = Signal.like(agent.bank), Signal.like(agent.accessed)
        m.d.sync += [commanded.eq(agent.row.command != DramCommand.NOP),
                     precharged.eq(agent.row.command == DramCommand.PRE),
                     moved.eq(agent.column.command != DramCommand.NOP),
                     bank.eq(agent.bank), accessed.eq(agent.accessed)]
        self.may_activate = ~commanded & soon["activate"].bit_select(agent.bank, 1)
        self.may_precharge = (~commanded & soon["precharge"].bit_select(agent.bank, 1)
                              & ~(moved & (accessed == agent.bank)))
        self.may_access = (soon["access"].bit_select(agent.accessed, 1)
                           & ~(precharged & (bank == agent.accessed)))


class AnyHost(wiring.Component):
    """A host agent that does what it likes within the contract.

    * A bundle becomes busy (``idle`` falls) in the clock after an access passed, which needs that
      the host wants the bundle and is granted it.
    * An activate or access only of a bank of a busy bundle whose timers said in the clock before
      that it may come now; a precharge likewise, only of one whose bundle is granted, and not
      together with an access of the same bank.
    * As timers do not know of the clock before: no row command in the clock after another, no
      precharge in the clock after an access of that bank, and no access in that after a precharge.

    Parameters
    ----------
    config : Config

    Members
    -------
    As :class:`HostAgent`.
    """

    def __init__(self, config: Config):
        self.config = config
        agent = HostAgent(config)
        self.banks = agent.banks
        super().__init__(agent.signature)

    def elaborate(self, platform):
        m = Module()
        config, bundles = self.config, self.config.dram.bundles
        busy = Signal(bundles)
        m.d.sync += busy.eq((busy | self.passed) & AnySeq(bundles))
        m.d.comb += [
            self.wants.eq(AnySeq(bundles)),
            self.passed.eq(AnySeq(bundles) & self.grant & self.wants),
            self.idle.eq(~busy), self.bank.eq(AnySeq(len(self.bank))),
            self.accessed.eq(AnySeq(len(self.accessed))),
            Value.cast(self.host.ready).eq(AnySeq(1)), Value.cast(self.part).eq(0),
        ]
        m.submodules.path = path = PathTimers(config, host=True)
        kind, write, access = AnySeq(2), AnySeq(1), Signal()
        bundle, used = (_bundle(config, bank) for bank in (self.bank, self.accessed))
        before = Before(m, self)
        _name(m, config, self.row, self.bank)
        _name(m, config, self.column, self.accessed)
        m.d.comb += [
            self.row.row.eq(AnySeq(len(self.row.row))),
            self.column.column.eq(AnySeq(len(self.column.column))),
            path.group.eq(Cat(self.column.bank_group[:ceil_log2(config.dram.bank_groups)],
                              self.column.rank[:ceil_log2(config.dram.ranks)])),
            access.eq(AnySeq(1) & busy.bit_select(used, 1) & before.may_access
                      & Mux(write, path.may_write, path.may_read)),
            path.read.eq(access & ~write), path.write.eq(access & write),
        ]
        with m.If(access):
            m.d.comb += self.column.command.eq(Mux(write, DramCommand.WR, DramCommand.RD))
        with m.If((kind == 1) & busy.bit_select(bundle, 1) & before.may_activate
                  & self.may_open.bit_select(self.row.rank, 1)):
            m.d.comb += self.row.command.eq(DramCommand.ACT)
        with m.If((kind == 2) & self.grant.bit_select(bundle, 1) & before.may_precharge
                  & ~(access & (self.accessed == self.bank))):
            m.d.comb += self.row.command.eq(DramCommand.PRE)
        return m


class HostContract(wiring.Component):
    """Asserts that an agent does nothing that :class:`AnyHost` could not do.

    Parameters
    ----------
    config : Config
    agent : Component, optional
        In place of :class:`CountedAgent`, a :class:`HostAgent`.

    Members
    -------
    As :class:`HostAgent`.
    """

    def __init__(self, config: Config, agent=None):
        self.config = config
        self.agent = CountedAgent(config) if agent is None else agent
        super().__init__(self.agent.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.agent = agent = self.agent
        wiring.connect(m, wiring.flipped(self), agent)
        row, column = agent.row.command, agent.column.command
        act, pre = row == DramCommand.ACT, row == DramCommand.PRE
        access = (column == DramCommand.RD) | (column == DramCommand.WR)
        bundle, used = (_bundle(self.config, bank) for bank in (agent.bank, agent.accessed))
        before = Before(m, agent)
        named, used_named = Signal.like(agent.row), Signal.like(agent.column)
        _name(m, self.config, named, agent.bank)
        _name(m, self.config, used_named, agent.accessed)
        m.d.comb += [
            Assert((row == DramCommand.NOP) | act | pre),
            Assert((column == DramCommand.NOP) | access),
            Assert(~act | (~agent.idle.bit_select(bundle, 1) & before.may_activate
                           & agent.may_open.bit_select(named.rank, 1))),
            Assert(~pre | (agent.grant.bit_select(bundle, 1) & before.may_precharge
                           & ~(access & (agent.accessed == agent.bank)))),
            Assert(~access | (~agent.idle.bit_select(used, 1) & before.may_access)),
            Assert((agent.passed & ~(agent.grant & agent.wants)) == 0),
        ]
        for issued, slot, meant in ((act | pre, agent.row, named),
                                    (access, agent.column, used_named)):
            m.d.comb += [Assert(~issued | (slot[name] == meant[name]))
                         for name in ("rank", "bank_group", "bank")]
        was_idle = Signal.like(agent.idle)
        m.d.sync += was_idle.eq(agent.idle & ~agent.passed)
        m.d.comb += Assert((was_idle & ~agent.idle) == 0)
        return m


class SchedulerProof(wiring.Component):
    """The bus of the scheduler with any host agent, judged by :class:`BusObserver`.

    Parameters
    ----------
    config : Config
    rules : sequence of str
    host : Component, optional
        In place of :class:`AnyHost`.
    negative : dict
        Of the observer.

    Members
    -------
    job : In, stream of jobs
    taken, announces : In(1), as the TSV interface gives them
    first, next : In, the banks watched; constant
    """

    def __init__(self, config: Config, rules, host=None, **negative):
        self.config = config
        self.scheduler = Scheduler(config)
        self.scheduler.host = AnyHost(config) if host is None else host
        self.observer = BusObserver(config, rules, **negative)
        bits = bank_bits(config)
        super().__init__({"job": In(stream.Signature(bundle_job(config))), "taken": In(1),
                          "announces": In(1), "first": In(bits), "next": In(bits)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.scheduler = scheduler = self.scheduler
        m.submodules.observer = observer = self.observer
        agent = scheduler.bundle
        wiring.connect(m, wiring.flipped(self.job), agent.job)
        m.d.comb += [
            agent.word_taken.eq(self.taken), agent.word_ready.eq(self.announces),
            *(getattr(observer.bus, slot).eq(getattr(scheduler, slot)) for slot in SLOTS),
            observer.bus.path.eq(scheduler.path),
            Assume(self.job.payload.words != 0),
        ]
        watch(m, observer, self.first, self.next)
        return m
