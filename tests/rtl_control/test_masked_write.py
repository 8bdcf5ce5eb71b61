# SPDX-License-Identifier: BSD-2-Clause
"""Masked writes over a memory that takes its time, some granules of which are damaged."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from logicpim.rtl.control.masked_write import MaskedWrites
from logicpim.spec.presets import PRESETS

CONFIG = PRESETS["small"].replace(ecc=True)
FULL = (1 << CONFIG.granule_bytes) - 1
DAMAGED = {3, 5}


@pytest.mark.parametrize("busy", [0.0, 0.6])
def test_masked_writes(seed, busy):
    """One answer an access, in order; every byte as by the masks; damage is not written over."""
    rng, top = random.Random(seed), MaskedWrites(CONFIG, under_way=8)
    damaged = set(DAMAGED)
    memory = [rng.getrandbits(CONFIG.granule_bits) for _ in range(8)]
    want, accesses, expected = list(memory), [], []
    still = set(DAMAGED)
    for _ in range(250):
        write, address = rng.random() < 0.7, rng.randrange(8)
        data, mask = rng.getrandbits(CONFIG.granule_bits), rng.choice(
            [FULL, 0, rng.getrandbits(CONFIG.granule_bytes)])
        accesses.append((write, address, data, mask))
        bits = sum(0xFF << 8 * i for i in range(CONFIG.granule_bytes) if mask >> i & 1)
        if not write:
            expected.append((want[address], address in still))
            continue
        bad = address in still and mask != FULL
        if not bad:
            still.discard(address)
            want[address] = want[address] & ~bits | data & bits
        expected.append((None, bad))
    answers = []

    async def bench(ctx):
        given, under_way, clock = 0, deque(), 0
        offered = False
        while len(answers) < len(accesses):
            offered = offered or (given < len(accesses) and rng.random() > busy)
            write, address, data, mask = accesses[min(given, len(accesses) - 1)]
            ctx.set(top.i.valid, offered)
            ctx.set(top.i.payload, {"write": write, "address": address, "data": data,
                                    "mask": mask})
            ctx.set(top.o.ready, len(under_way) < 8 and rng.random() > busy)
            done = bool(under_way) and under_way[0][0] <= clock
            ctx.set(top.o_done, done)
            if done:
                _, was_read, value, bad = under_way.popleft()
                ctx.set(top.o_rdata, value if was_read else rng.getrandbits(CONFIG.granule_bits))
                ctx.set(top.o_bad, bad)
            await ctx.delay(1e-8)
            if ctx.get(top.o.valid) and ctx.get(top.o.ready):
                out = ctx.get(top.o.payload)
                if out.write:
                    assert out.mask == FULL
                    memory[out.address] = out.data
                    damaged.discard(out.address)
                under_way.append((clock + rng.randint(2, 9), not out.write, memory[out.address],
                                  not out.write and out.address in damaged))
            if ctx.get(top.done):
                answers.append((ctx.get(top.rdata), ctx.get(top.bad)))
            if offered and ctx.get(top.i.ready):
                given, offered = given + 1, False
            await ctx.tick()
            clock += 1
            assert clock < 30_000

    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert memory == want and damaged == still
    for (value, bad), (right, wrong) in zip(answers, expected, strict=True):
        assert bad == wrong and (right is None or value == right)
    assert any(wrong for _, wrong in expected)
