# SPDX-License-Identifier: BSD-2-Clause
"""What one bundle with all-bank refresh reaches at the paper's point, against a closed formula."""

from amaranth.sim import Simulator

from logicpim.rtl.bank.controller import DramController
from logicpim.spec.presets import PRESETS


def clocks_of_job(config, words):
    """(clocks from the job's start to its end, refreshes), every word taken at once."""
    dram = DramController(config)
    end = []

    async def bench(ctx):
        ctx.set(dram.job.payload, {"address": 0, "words": words})
        ctx.set(dram.job.valid, 1)
        await ctx.tick()
        ctx.set(dram.job.valid, 0)
        refreshes = clock = 0
        async for _, _, done, read, refresh in ctx.tick().sample(
                dram.job_done, dram.strobes.bundle_read, dram.event_refresh):
            ctx.set(dram.strobes.word_taken, read)
            clock, refreshes = clock + 1, refreshes + refresh
            if done:
                end.append((clock, refreshes))
                return

    simulator = Simulator(dram)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return end[0]


def test_efficiency():
    """A row costs its words and 22 clocks more; a refresh costs nRFC alone."""
    config, rows = PRESETS["channel"], 60
    t, columns = config.dram_timing, config.dram.columns
    clocks, refreshes = clocks_of_job(config, rows * columns)
    row = 2 * columns - 2 + t.clocks(t.nRTPL) + t.clocks(t.nRP) + t.clocks(t.nRCDRD)
    expected = rows * row + refreshes // config.dram.ranks * t.clocks(t.nRFC)
    print(f"{clocks} clocks, {refreshes} refreshes, {2 * rows * columns / clocks:.3f} of the peak")
    assert refreshes == 2 * config.dram.ranks and row == 86
    assert abs(clocks - expected) <= t.clocks(t.nRP) + 8
    # Over one whole refresh interval, not as the job's end falls.
    interval = t.nREFI // 2
    assert 2 * columns / row * (1 - t.clocks(t.nRFC) / interval) >= 0.66
    assert 2 * rows * columns / clocks >= 0.66


