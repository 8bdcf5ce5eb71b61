# SPDX-License-Identifier: BSD-2-Clause
"""The two ends of the lanes, with faults between them, in Amaranth's simulator."""

import random
from itertools import combinations

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.sim import Simulator

from logicpim.rtl.signatures import DataBus
from logicpim.rtl.tsv.lane_ends import LANES, DramLanes, LogicLanes, lane_ports
from logicpim.rtl.tsv.lanes import groups, lane_count, links
from logicpim.spec.device import LaneRegister
from logicpim.spec.presets import PRESETS

CONFIG = PRESETS["small"].replace(lane_repair=True)


class Ends(wiring.Component):
    """Both ends; on each link some lanes are stuck, and one may be tied to the next."""

    def __init__(self, config):
        self.config, self.logic, self.dram = config, LogicLanes(config), DramLanes(config)
        faults = {f"{name}_{link}": In(lane_count(config, link)) for link in links(config)
                  for name in ("stuck", "level", "tied")}
        super().__init__(faults)

    def elaborate(self, platform):
        m = Module()
        m.submodules.logic, m.submodules.dram = logic, dram = self.logic, self.dram
        for name, member in lane_ports(self.config, logic=True).items():
            source, sink = getattr(logic, name), getattr(dram, name)
            if member.flow is In:
                source, sink = sink, source
            if name in LANES:
                link = LANES[name]
                stuck, tied = getattr(self, f"stuck_{link}"), getattr(self, f"tied_{link}")
                wires = Signal.like(source, name=f"wires_{link}")
                # A wired AND: where a lane is tied to the next, each sees the other's 0.
                m.d.comb += wires.eq(source & ~(tied & ~(source >> 1))
                                     & ~((tied & ~source) << 1)[:len(source)])
                source = (wires & ~stuck) | (getattr(self, f"level_{link}") & stuck)
            m.d.comb += sink.eq(source)
        return m


def simulate(top, bench):
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


async def lane_test(ctx, logic):
    """Ask for the test and wait for its end; returns (repaired, beyond repair) and the clocks."""
    ctx.set(logic.idle, 1)
    ctx.set(logic.request, 1)
    clocks = 0
    while not ctx.get(logic.done):
        await ctx.tick()
        clocks += 1
    ctx.set(logic.request, 0)
    await ctx.tick()
    ctx.set(logic.address, LaneRegister.TEST)
    value = ctx.get(logic.value)
    return (value & 0xFFFF, value >> 16), clocks


async def passes(ctx, ends, rng):
    """Whether random data comes through on every link."""
    config, good = ends.config, True
    for name, member in DataBus(config).members.items():
        inside, outside = getattr(ends.logic.bus, name), getattr(ends.dram, name)
        source, sink = (outside, inside) if member.flow is In else (inside, outside)
        for value in (rng.getrandbits(len(source)), 0, (1 << len(source)) - 1):
            ctx.set(source, value)
            await ctx.delay(1e-8)
            good &= ctx.get(sink) == value
    return good


def stick(ctx, ends, link, lanes, level):
    for name, bits in (("stuck", lanes), ("level", lanes if level else [])):
        ctx.set(getattr(ends, f"{name}_{link}"), sum(1 << lane for lane in bits))


def test_dead_lane_of_each_group(seed):
    """One lane of each group at random, all groups at once: every one is named and repaired."""
    rng, ends = random.Random(seed), Ends(CONFIG)

    async def bench(ctx):
        assert await passes(ctx, ends, rng)
        result, clocks = await lane_test(ctx, ends.logic)
        assert result == (0, 0) and await passes(ctx, ends, rng)
        assert clocks <= 21 * len(groups(CONFIG)) + 40
        for level in (0, 1):
            dead = [rng.randrange(size + 1) for _, _, size in groups(CONFIG)]
            for link in links(CONFIG):
                stick(ctx, ends, link, [first + lane for lane, (owner, first, _)
                                        in zip(dead, groups(CONFIG), strict=True)
                                        if owner == link], level)
            spares = all(lane == size for lane, (_, _, size)
                         in zip(dead, groups(CONFIG), strict=True))
            assert spares or level or not await passes(ctx, ends, rng)
            result, _ = await lane_test(ctx, ends.logic)
            assert result == (len(dead), 0) and await passes(ctx, ends, rng)
            for group, lane in enumerate(dead):
                ctx.set(ends.logic.address, LaneRegister.GROUPS + group)
                assert ctx.get(ends.logic.value) == lane | 1 << 16
            for link in links(CONFIG):
                stick(ctx, ends, link, [], 0)
            assert (await lane_test(ctx, ends.logic))[0] == (0, 0)
            assert await passes(ctx, ends, rng)

    simulate(ends, bench)


def test_two_dead_lanes(seed):
    """Two in a group are beyond repair, whatever each is stuck at; two in two groups are not."""
    rng, ends = random.Random(seed), Ends(CONFIG)

    async def bench(ctx):
        for link, first, size in groups(CONFIG)[::2]:
            a, b = sorted(rng.sample(range(size + 1), 2))
            level = rng.getrandbits(1)
            stick(ctx, ends, link, [first + a, first + b], level)
            ctx.set(getattr(ends, f"level_{link}"), rng.choice([0, 1 << first + a, 1 << first + b]))
            assert (await lane_test(ctx, ends.logic))[0] == (0, 1)
            number = groups(CONFIG).index((link, first, size))
            ctx.set(ends.logic.address, LaneRegister.GROUPS + number)
            assert ctx.get(ends.logic.value) >> 16 == 3 and not await passes(ctx, ends, rng)
            stick(ctx, ends, link, [], 0)
        for one, other in combinations(["bundle_read", "host_write", "host_read"], 2):
            stick(ctx, ends, one, [0], 1)
            stick(ctx, ends, other, [3], 0)
            assert (await lane_test(ctx, ends.logic))[0] == (2, 0)
            assert await passes(ctx, ends, rng)
            stick(ctx, ends, one, [], 0)
            stick(ctx, ends, other, [], 0)

    simulate(ends, bench)


@pytest.mark.parametrize("apart", [False, True])
def test_tied_lanes(seed, apart):
    """Neighbours tied together are two dead lanes, or one in each of two groups."""
    ends = Ends(CONFIG)

    async def bench(ctx):
        _, first, size = groups(CONFIG)[1]
        ctx.set(ends.tied_bundle_read, 1 << (first + size if apart else first + 5))
        assert (await lane_test(ctx, ends.logic))[0] == ((2, 0) if apart else (0, 1))

    simulate(ends, bench)


def test_waits_for_quiet(seed):
    """Nothing is driven before the channel is idle and its last data has passed."""
    ends = Ends(CONFIG)
    timing = CONFIG.dram_timing

    async def bench(ctx):
        logic = ends.logic
        ctx.set(logic.request, 1)
        for _ in range(50):
            await ctx.tick()
            assert not ctx.get(logic.busy) and not ctx.get(logic.lane_test)
        ctx.set(logic.idle, 1)
        await ctx.tick()
        for _ in range(max(timing.read_latency, timing.write_latency) + 1):
            assert ctx.get(logic.busy) and not ctx.get(logic.lane_test)
            await ctx.tick()

    simulate(ends, bench)
