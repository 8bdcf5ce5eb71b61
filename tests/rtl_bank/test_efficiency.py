# SPDX-License-Identifier: BSD-2-Clause
"""What the stream reaches at the paper's point, against closed formulas."""

import pytest
from amaranth.sim import Simulator

from logicpim.rtl.bank.controller import DramController
from logicpim.spec.presets import PRESETS


def clocks_of_job(config, words, interleave):
    """Clocks from the job's start to its end, every word taken at once."""
    dram = DramController(config)
    end = []

    async def bench(ctx):
        ctx.set(dram.job.payload, {"address": 0, "words": words, "interleave": interleave})
        ctx.set(dram.job.valid, 1)
        await ctx.tick()
        ctx.set(dram.job.valid, 0)
        clock = 0
        async for _, _, done, read in ctx.tick().sample(
                dram.job_done, dram.strobes.bundle_read):
            ctx.set(dram.strobes.word_taken, read)
            clock += 1
            if done:
                end.append(clock)
                return

    simulator = Simulator(dram)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return end[0]


@pytest.mark.parametrize("stagger", [False, True])
def test_one_bundle(stagger):
    """A row costs its words and closing and opening it; nothing else."""
    config, rows = PRESETS["channel"].replace(refresh=False, stagger=stagger), 6
    t, columns = config.dram_timing, config.dram.columns
    clocks = clocks_of_job(config, rows * columns, 0)
    row = 2 * columns - 2 + t.clocks(t.nRTPL) + t.clocks(t.nRP) + t.clocks(t.nRCDRD)
    if stagger:
        row += t.clocks(t.nFAW) + t.clocks(3 * t.nRRDS)
    assert abs(clocks - rows * row) <= 16


@pytest.mark.parametrize("stagger", [False, True])
@pytest.mark.parametrize("interleave", [1, 2])
def test_several_bundles(interleave, stagger):
    """A word each two clocks without a gap, once the first row is open."""
    config, rows = PRESETS["channel"].replace(refresh=False, stagger=stagger), 6
    t, columns = config.dram_timing, config.dram.columns
    clocks = clocks_of_job(config, rows * columns, interleave)
    assert 2 * rows * columns <= clocks <= 2 * rows * columns + t.clocks(
        t.nFAW + t.nRCDRD + 3 * t.nRRDS) + 8


def test_refresh_hidden():
    """With four bundles, refresh of all banks takes no time."""
    config = PRESETS["channel"].replace(timing_overrides={"nREFI": 2600, "nREFMAX": 9 * 2600},
                                        postpone=3)
    words = 24 * config.dram.columns
    clocks = clocks_of_job(config, words, 2)
    assert clocks <= 2 * words + 120
