# SPDX-License-Identifier: BSD-2-Clause
"""Counters: an event is there from the second clock after it, and is cleared with all before."""

from amaranth.sim import Simulator

from logicpim.rtl.control.counters import Counters
from logicpim.spec.device import Counter
from logicpim.spec.presets import PRESETS


def test_clear_takes_away_what_happened_until_then():
    dut = Counters(PRESETS["small"])
    granules = dut.values[list(Counter).index(Counter.HOST_GRANULES)]

    async def bench(ctx):
        seen = []
        for event, clear in ((1, 0), (1, 0), (0, 0), (0, 0), (1, 1), (1, 0), (0, 0), (0, 0)):
            seen.append(ctx.get(granules))
            ctx.set(dut.host_granule, event)
            ctx.set(dut.clear, clear)
            await ctx.tick()
        assert seen == [0, 0, 1, 2, 2, 0, 0, 1]

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
