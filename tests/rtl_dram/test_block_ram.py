# SPDX-License-Identifier: BSD-2-Clause
"""DRAM of block RAM: the data of the functional model, in the clock of the latency."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from logicpim.rtl.dram.block_ram import BlockDram
from logicpim.sim.dram.model import NOP, DramModel, Slot
from logicpim.spec.config import Config, Tile
from logicpim.spec.dram import DramCommand, Organisation
from logicpim.spec.errors import ConfigError
from logicpim.spec.presets import PRESETS

# So few rows and columns that what is written is read again, by either path.
SMALL = PRESETS["small"].replace(timing="bram", dram=Organisation(
    ranks=1, bank_groups=2, banks_per_group=4, rows=2, columns=2, bundle_banks=4))
RANKS = Config(tile=Tile(tokens=1, rows=4, depth=4), timing="bram",
               dram=Organisation(ranks=2, bank_groups=4, banks_per_group=2, rows=2, columns=2,
                                 bundle_banks=4))
SLOW = SMALL.replace(timing_overrides={"nCL": 9, "nCWL": 7})
D = DramCommand


def stimulus(config, rng, clocks):
    """Rows and columns a clock: each bundle is opened by one of the ways there are, used by its
    path, never two transfers of one path whose data would meet."""
    org, timing = config.dram, config.dram_timing
    owner, since = [None] * org.bundles, [0] * org.bundles
    quiet = timing.read_latency + timing.write_latency + 3
    last = {True: -quiet, False: -quiet}  # of a path, the clock of its last command
    for clock in range(clocks):
        rows, columns, path = [NOP, NOP], [NOP, NOP], 0
        b = rng.randrange(org.bundles)
        if clock - since[b] > 2 * quiet and rng.random() < 0.3:
            owner[b], since[b] = rng.random() < 0.5, clock
            row = rng.randrange(org.rows)
            if owner[b]:
                rows[rng.randrange(2)] = Slot(D.ALL_ACT, b // org.bundles_per_rank, 0, b, row)
            else:
                lane = rng.randrange(org.bundle_banks)
                owner[b] = None, lane
                rows[rng.randrange(2)] = Slot(D.ACT, *org.bank_of(b, lane), row)
        for whole in (True, False):
            ready = [b for b in range(org.bundles) if owner[b] is not None and clock > since[b] and
                     (owner[b] is True) == whole and clock - since[b] < quiet]
            write = rng.random() < 0.5
            if ready and clock - last[whole] >= (quiet if write else 2) and rng.random() < 0.7:
                b, column = rng.choice(ready), rng.randrange(org.columns)
                if whole:
                    columns[0] = Slot(D.ALL_WR if write else D.ALL_RD,
                                      b // org.bundles_per_rank, 0, b, column)
                else:
                    columns[1] = Slot(D.WR if write else D.RD,
                                      *org.bank_of(b, owner[b][1]), column)
                last[whole] = clock + (quiet if write else 0)
        for b in range(org.bundles):
            path |= (owner[b] is True) << b
        yield rows, columns, path


@pytest.mark.parametrize("config", [SMALL, RANKS, SLOW], ids=["small", "ranks", "slow"])
def test_data(seed, config):
    rng, dut = random.Random(seed), BlockDram(config)
    model = DramModel(config, np.zeros(config.capacity_bytes, np.uint8), seed)
    reads = {True: 0, False: 0}

    def put(ctx, port, slot):
        names = (n for n in port.shape().members if n in ("row", "column"))
        ctx.set(port, {"command": slot.command, "rank": slot.rank, "bank": slot.bank,
                       "bank_group": slot.bank_group, next(names): slot.address})

    async def bench(ctx):
        for rows, columns, path in stimulus(config, rng, 600):
            wide, narrow = rng.getrandbits(config.word_bits), rng.getrandbits(config.granule_bits)
            mask = rng.getrandbits(config.granule_bytes)
            for port, slot in zip((dut.bus.row0, dut.bus.row1, dut.bus.column0, dut.bus.column1),
                                  rows + columns, strict=True):
                put(ctx, port, slot)
            for port, value in ((dut.data.bundle_wdata, wide), (dut.data.host_wdata, narrow),
                                (dut.data.host_wmask, mask)):
                ctx.set(port, value)
            expected = model.step(rows, columns, path, wide, narrow, mask)
            await ctx.tick()
            for whole, port, value in zip((True, False), (dut.data.bundle_rdata,
                                                          dut.data.host_rdata), expected,
                                          strict=True):
                if whole in model.carrying:
                    reads[whole] += 1
                    assert ctx.get(port) == value

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert model.faults == [] and min(reads.values()) > 10, (model.faults[:3], reads)


@pytest.mark.parametrize("changes, words", [
    ({"ecc": True}, "ecc=false"), ({"lane_repair": True}, "lane_repair=false"),
    ({"timing_overrides": {"nCL": 2}}, "nCL"),
])
def test_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        BlockDram(SMALL.replace(**changes))
