# SPDX-License-Identifier: BSD-2-Clause
"""The host port answers every request once, in order, whatever its targets' pace."""

import random
from collections import deque

from amaranth.sim import Simulator

from logicpim.rtl.control.host import HostPort, host_address_bits
from logicpim.rtl.control.mover import part_bits
from logicpim.spec.device import Counter, Region
from logicpim.spec.presets import PRESETS

CONFIG = PRESETS["small"]
GRANULE, TOKENS = CONFIG.granule_bits, CONFIG.tile.tokens
PART = part_bits(CONFIG) // GRANULE
CELL_BYTES = CONFIG.tile.rows * 2
CELLS = CONFIG.granule_bytes // CELL_BYTES
FULL = (1 << CONFIG.granule_bytes) - 1


def merge(old, new, mask):
    bits = sum(0xff << 8 * i for i in range(CONFIG.granule_bytes) if mask >> i & 1)
    return old & ~bits | new & bits


def make_requests(rng, count):
    requests = []
    for _ in range(count):
        if requests and rng.random() < 0.2:     # the same place, right behind
            _, *place, _, mask = requests[-1]
            requests.append((rng.random() < 0.3, *place, rng.getrandbits(GRANULE), mask))
            continue
        region = rng.choice(list(Region))
        address = rng.choice([rng.randrange(12), rng.getrandbits(host_address_bits(CONFIG))])
        mask = rng.choice([FULL, FULL, 0, (1 << CELL_BYTES) - 1, rng.getrandbits(16)])
        requests.append((rng.random() < 0.5, region, address, rng.getrandbits(GRANULE), mask))
    return requests


def expect(requests):
    """(data or None, error) of each request, by the port's contract."""
    sizes = {Region.DRAM: CONFIG.dram.granules, Region.INPUT: CONFIG.input_lines * TOKENS,
             Region.TEMP: CONFIG.temp_lines * TOKENS, Region.REGISTERS: len(Counter)}
    memory, answers = {}, []
    for write, region, address, value, mask in requests:
        partial = region in (Region.INPUT, Region.TEMP) and any(
            (mask >> c * CELL_BYTES & (1 << CELL_BYTES) - 1) not in (0, (1 << CELL_BYTES) - 1)
            for c in range(CELLS))
        if address >= sizes[region] or (write and partial):
            answers.append((None, 1))
        elif region == Region.REGISTERS:
            answers.append((None if write else 1000 + address, 0))
        elif write:
            memory[region, address] = merge(memory.get((region, address), 0), value, mask)
            answers.append((None, 0))
        else:
            answers.append((memory.get((region, address), 0), 0))
    return answers


def test_requests_are_answered_in_order(seed):
    rng = random.Random(seed)
    requests = make_requests(rng, 400)
    dut, answers, memory = HostPort(CONFIG), [], {}

    async def dram(ctx):
        waiting = deque()
        while True:
            ctx.set(dut.dram.ready, rng.random() < 0.5)
            done = bool(waiting) and rng.random() < 0.4
            ctx.set(dut.dram_done, done)
            if done:
                write, address, value, mask = waiting.popleft()
                ctx.set(dut.dram_rdata, memory.get((0, address), 0))
                if write:
                    memory[0, address] = merge(memory.get((0, address), 0), value, mask)
            _, _, valid, ready, access = await ctx.tick().sample(
                dut.dram.valid, dut.dram.ready, dut.dram.payload)
            if valid and ready:
                waiting.append((access.write, access.address, access.data, access.mask))

    async def buffers(ctx):
        fresh = None    # written in the clock before: not to be read yet
        while True:
            ctx.set(dut.read.ready, rng.random() < 0.5)
            ctx.set(dut.write.ready, rng.random() < 0.5)
            (_, _, which, enable, r_ready, r_address, cells, w_ready, w_address,
             data) = await ctx.tick().sample(
                dut.buffer, dut.read.enable, dut.read.ready, dut.read.address, dut.write.enable,
                dut.write.ready, dut.write.address, dut.write.data)
            part = rng.getrandbits(PART * GRANULE)
            if enable and r_ready and fresh != (which, r_address * PART // TOKENS):
                part = sum(memory.get((1 + which, r_address * PART + t), 0) << t * GRANULE
                           for t in range(PART))
            ctx.set(dut.read.data, part)
            fresh = (which, w_address) if cells and w_ready else None
            if cells and w_ready:
                for t in range(TOKENS):
                    part = cells >> t * CELLS & (1 << CELLS) - 1
                    mask = sum(((1 << CELL_BYTES) - 1) << c * CELL_BYTES
                               for c in range(CELLS) if part >> c & 1)
                    key = 1 + which, w_address * TOKENS + t
                    memory[key] = merge(memory.get(key, 0), data >> t * GRANULE, mask)

    async def responses(ctx):
        while True:
            ctx.set(dut.o.ready, rng.random() < 0.6)
            _, _, valid, ready, answer = await ctx.tick().sample(
                dut.o.valid, dut.o.ready, dut.o.payload)
            if valid and ready:
                answers.append((answer.data, answer.error))

    async def bench(ctx):
        for index, value in enumerate(dut.counters):
            ctx.set(value, 1000 + index)
        for write, region, address, value, mask in requests:
            ctx.set(dut.i.payload, {"write": write, "region": region, "address": address,
                                    "data": value, "mask": mask})
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)
            await ctx.tick().repeat(rng.choice([0, 0, 0, 3]) or 1)
        for _ in range(500):
            await ctx.tick()
            if len(answers) == len(requests):
                break

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    for process in (dram, buffers, responses):
        sim.add_testbench(process, background=True)
    sim.run()
    expected = expect(requests)
    assert len(answers) == len(expected)
    for request, answer, (data, error) in zip(requests, answers, expected, strict=True):
        assert answer[1] == error, request
        assert data is None or answer[0] == data, request
