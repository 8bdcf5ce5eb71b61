# SPDX-License-Identifier: BSD-2-Clause
"""Lanes with a spare for each group: what is sent past a dead lane, and taken from past it."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from logicpim.spec.config import Config

PATTERNS = 4
"""All 0, all 1, and both alternations of them: a lane that is stuck or tied to its neighbour
shows in one of them."""


def links(config: Config) -> dict[str, int]:
    """Data lanes of each link: the data buses with their side band and mask, reads first."""
    word = config.word_bits + config.word_check_bits
    return {"bundle_read": word, "host_read": config.stored_bits,
            "bundle_write": word, "host_write": config.stored_bits + config.granule_bytes}


READS = ("bundle_read", "host_read")
"""Links from the DRAM; the others go to it."""


def group_sizes(width: int, group: int) -> list[int]:
    """Data lanes of each group of a link; the last one may be smaller."""
    return [min(group, width - at) for at in range(0, width, group)]


def lane_count(config: Config, link: str) -> int:
    """Lanes of a link, spares included."""
    width = links(config)[link]
    return width + len(group_sizes(width, config.lane_group))


def groups(config: Config) -> list[tuple[str, int, int]]:
    """(link, its first lane, its data lanes) of every group, in the order of their numbers."""
    found = []
    for link, width in links(config).items():
        at = 0
        for size in group_sizes(width, config.lane_group):
            found.append((link, at, size))
            at += size + 1
    return found


def dead_bits(config: Config) -> int:
    """Width of a lane's number in its group, the spare's included."""
    return bits_for(config.lane_group)


class LanePort(wiring.Signature):
    """The test port between the dies (Out is the logic die); changes at clock edges.

    While ``test`` is high the senders drive ``pattern`` on every lane. ``bad``, ``many`` and
    ``found`` tell, a clock later, what the DRAM die's receivers see of ``group``. ``load`` makes
    ``dead`` the lane that ``group`` leaves out.
    """

    def __init__(self, config: Config):
        super().__init__({
            "test": Out(1), "pattern": Out(ceil_log2(PATTERNS)),
            "group": Out(range(len(groups(config)))), "load": Out(1),
            "dead": Out(dead_bits(config)),
            "bad": In(1), "many": In(1), "found": In(dead_bits(config))})


def expected(pattern: Value, odd, lanes: int) -> Value:
    """What some lanes carry under a pattern; ``odd`` is 1 where the first has an odd number."""
    return Cat((pattern[1] & (odd ^ (lane & 1))) ^ pattern[0] for lane in range(lanes))


def _from_dead(dead: Value, size: int) -> Value:
    """A bit for each data lane from the dead one on."""
    return (((1 << size) - 1) << dead)[:size]


def send(m: Module, data: Value, dead, sizes, test, pattern) -> Value:
    """The lanes for some data: from the dead lane on, each bit takes the next lane."""
    lanes, at = [], 0
    for index, size in enumerate(sizes):
        part, moved = data[at:at + size], Signal(size, name=f"moved{index}")
        m.d.comb += moved.eq(_from_dead(dead[index], size))
        lanes.append((part & ~(moved << 1)[:size + 1]) | ((part & moved) << 1))
        at += size
    every = Cat(group[:size + 1] for group, size in zip(lanes, sizes, strict=True))
    driven = Signal(len(every), name="driven")
    m.d.comb += driven.eq(every)
    with m.If(test):
        m.d.comb += driven.eq(expected(pattern, 0, len(every)))
    return driven


def receive(m: Module, lanes: Value, dead, sizes) -> Value:
    """The data on some lanes, taken past the dead one."""
    data, at = [], 0
    for index, size in enumerate(sizes):
        part, moved = lanes[at:at + size + 1], Signal(size, name=f"moved{index}")
        m.d.comb += moved.eq(_from_dead(dead[index], size))
        data.append(((part[:size] & ~moved) | (part[1:] & moved))[:size])
        at += size + 1
    return Cat(data)


class LaneSender(wiring.Component):
    """Data onto a link's lanes; combinational.

    Parameters
    ----------
    config : Config
    link : str

    Members
    -------
    data : In
    dead : In, for each group the lane to leave out, the spare (the last) where none is dead
    test, pattern : In, drive the pattern in place of data
    lanes : Out
    """

    def __init__(self, config: Config, link: str):
        self.config, self.link = config, link
        self.sizes = group_sizes(links(config)[link], config.lane_group)
        super().__init__({
            "data": In(sum(self.sizes)), "dead": In(dead_bits(config)).array(len(self.sizes)),
            "test": In(1), "pattern": In(ceil_log2(PATTERNS)),
            "lanes": Out(lane_count(config, link))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.lanes.eq(send(m, self.data, self.dead, self.sizes, self.test,
                                       self.pattern))
        return m


class LaneReceiver(wiring.Component):
    """Data off a link's lanes; combinational. Parameters and members as :class:`LaneSender`."""

    def __init__(self, config: Config, link: str):
        self.config, self.link = config, link
        self.sizes = group_sizes(links(config)[link], config.lane_group)
        super().__init__({
            "lanes": In(lane_count(config, link)),
            "dead": In(dead_bits(config)).array(len(self.sizes)), "data": Out(sum(self.sizes))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.data.eq(receive(m, self.lanes, self.dead, self.sizes))
        return m
