# SPDX-License-Identifier: BSD-2-Clause
"""The built-in lane test: finds the dead lane of each group and leaves it out on both dies."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.spec.config import Config
from logicpim.spec.device import LaneRegister

from .lanes import PATTERNS, LanePort, dead_bits, expected, groups, lane_count

SETTLE = 4  # clocks from a pattern's command to the verdict: a register at each end and lanes


class LaneObserver(wiring.Component):
    """Compares the lanes of one group, as they arrive, with the pattern that was sent.

    Parameters
    ----------
    config : Config
    link_names : sequence of str
        Links whose receiving end is here.

    Members
    -------
    lanes_NAME : In, lanes of a link
    group, pattern : In
    bad, many, found : Out, a clock later: a lane differs, more than one does, the first that does
    """

    def __init__(self, config: Config, link_names):
        self.config, self.link_names = config, tuple(link_names)
        port = LanePort(config).members
        super().__init__({
            **{f"lanes_{link}": In(lane_count(config, link)) for link in self.link_names},
            "group": In(port["group"].shape), "pattern": In(port["pattern"].shape),
            "bad": Out(1), "many": Out(1), "found": Out(dead_bits(config))})

    def elaborate(self, platform):
        m = Module()
        most = self.config.lane_group + 1
        differ, odd, there = Signal(most), Signal(), Signal(most)
        lanes = Signal(most)
        with m.Switch(self.group):
            for number, (link, first, size) in enumerate(groups(self.config)):
                if link in self.link_names:
                    with m.Case(number):
                        part = getattr(self, f"lanes_{link}")[first:first + size + 1]
                        m.d.comb += [lanes.eq(part), odd.eq(first & 1),
                                     there.eq((1 << size + 1) - 1)]
        # The lowest 1 alone, then its number: nested choices would be as deep as a group is wide.
        first = Signal(most)
        weights = [sum(1 << lane for lane in range(most) if lane >> bit & 1)
                   for bit in range(dead_bits(self.config))]
        m.d.comb += first.eq(differ & ~(differ - 1))
        m.d.comb += differ.eq((lanes ^ expected(self.pattern, odd, most)) & there)
        m.d.sync += [self.bad.eq(differ.any()), self.many.eq((differ & (differ - 1)).any()),
                     self.found.eq(Cat((first & weight).any() for weight in weights))]
        return m


class LaneRemap(wiring.Component):
    """The lane that each group leaves out: the spare, until told otherwise.

    Members
    -------
    port : In(LanePort), of which it heeds ``load``
    dead : Out, by group
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "group": In(LanePort(config).members["group"].shape), "load": In(1),
            "value": In(dead_bits(config)),
            "dead": Out(dead_bits(config)).array(len(groups(config)))})

    def elaborate(self, platform):
        m = Module()
        for number, (_, _, size) in enumerate(groups(self.config)):
            held = Signal(dead_bits(self.config), init=size, name=f"dead{number}")
            m.d.comb += self.dead[number].eq(held)
            with m.If(self.load & (self.group == number)):
                m.d.sync += held.eq(self.value)
        return m


def control_ports(config: Config) -> dict:
    """How the channel asks for the test and reads what it found."""
    return {"request": In(1), "idle": In(1), "busy": Out(1), "done": Out(1),
            "address": In(range(LaneRegister.GROUPS + len(groups(config)))), "value": Out(64)}


class LaneTest(wiring.Component):
    """Walks the groups: each pattern on all lanes, the verdict, the lane to leave out.

    A group with one dead lane is repaired. Of one with more the first is left out, and it is told
    to be beyond repair. Takes ``PATTERNS * (SETTLE + 1) + 1`` clocks a group, during which nothing
    else may use the lanes.

    Parameters
    ----------
    config : Config
    quiet : int
        Clocks without new work after which no data is on the lanes.

    Members
    -------
    request : In, held until ``done``
    idle : In, nothing is under way that uses the lanes
    busy : Out, nothing may begin; ``done`` : Out, pulse at the end
    port : Out(LanePort), of the DRAM die, and the remapping of this one
    bad, many, found : In, as of ``port``, of the links received here
    here : In, the group at hand is one of these
    address : In, a :class:`~logicpim.spec.device.LaneRegister`; ``value`` : Out, what it reads
    """

    def __init__(self, config: Config, quiet: int):
        self.config, self.quiet = config, quiet
        super().__init__({
            **control_ports(config), "port": Out(LanePort(config)),
            "bad": In(1), "many": In(1), "found": In(dead_bits(config)), "here": In(1),
            "dead": In(dead_bits(config)).array(len(groups(config)))})

    def _read(self, m: Module, failed, beyond) -> None:
        """The registers."""
        group = (self.address - LaneRegister.GROUPS)[:ceil_log2(len(failed))]
        counts = [Signal(16, name=name) for name in ("repaired", "not_repaired")]
        m.d.comb += [
            counts[0].eq(sum(failed & ~beyond)), counts[1].eq(sum(beyond)),
            self.value.eq(Mux(self.address == LaneRegister.TEST, Cat(counts), Cat(
                (Array(self.dead)[group] | Const(0, 16))[:16], failed.bit_select(group, 1),
                beyond.bit_select(group, 1)))),
        ]

    def elaborate(self, platform):
        m = Module()
        port, all_groups = self.port, groups(self.config)
        spare = Array(size for _, _, size in all_groups)[port.group]
        failed, beyond = Signal(len(all_groups)), Signal(len(all_groups))
        wait = Signal(range(max(self.quiet, SETTLE) + 1))
        any_bad, worse, dead = Signal(), Signal(), Signal(dead_bits(self.config))
        bad, many = Mux(self.here, self.bad, port.bad), Mux(self.here, self.many, port.many)
        found = Mux(self.here, self.found, port.found)
        m.d.comb += [port.dead.eq(Mux(any_bad, dead, spare)), self.busy.eq(1)]
        self._read(m, failed, beyond)
        with m.FSM():
            with m.State("REST"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [wait.eq(self.quiet), port.group.eq(0), port.pattern.eq(0),
                             any_bad.eq(0), worse.eq(0)]
                with m.If(self.request & self.idle):
                    m.next = "QUIET"
            with m.State("QUIET"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.sync += [wait.eq(SETTLE), port.test.eq(1)]
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.sync += [wait.eq(SETTLE), port.pattern.eq(port.pattern + 1)]
                    with m.If(bad):
                        m.d.sync += [any_bad.eq(1), dead.eq(Mux(any_bad, dead, found)),
                                     worse.eq(worse | many | (any_bad & (found != dead)))]
                    with m.If(port.pattern == PATTERNS - 1):
                        m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += port.load.eq(1)
                m.d.sync += [failed.bit_select(port.group, 1).eq(any_bad), wait.eq(SETTLE),
                             beyond.bit_select(port.group, 1).eq(worse),
                             any_bad.eq(0), worse.eq(0), port.group.eq(port.group + 1)]
                m.next = "LOOK"
                with m.If(port.group == len(all_groups) - 1):
                    m.d.sync += port.test.eq(0)
                    m.next = "END"
            with m.State("END"):
                m.d.comb += self.done.eq(1)
                m.next = "REST"
        return m
