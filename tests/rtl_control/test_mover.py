# SPDX-License-Identifier: BSD-2-Clause
"""LOAD and STORE keep granule order for tiles with fewer, as many and more tokens than rows."""

import random

import pytest
from amaranth.sim import Simulator

from logicpim.rtl.control.mover import Loader, Storer
from logicpim.spec.config import Tile
from logicpim.spec.isa import Buffer
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]
SHAPES = [SMALL.replace(tile=Tile(tokens=t, rows=4, depth=4)) for t in (2, 4, 8)]
shapes = pytest.mark.parametrize("config", SHAPES, ids=lambda c: f"tokens{c.tile.tokens}")


def granules(rng, config, words):
    return [rng.getrandbits(config.granule_bits) for _ in range(words * config.tile.rows)]


def join(parts, bits):
    return sum(part << index * bits for index, part in enumerate(parts))


def beats_of(config, word):
    """The two beats of a word given as granules, by the definition of ``beat_stream``."""
    half = config.granule_bits // 2
    return [join([g >> h * half & (1 << half) - 1 for g in word], half) for h in (0, 1)]


async def ready_at_random(ctx, signal, rng):
    while True:
        ctx.set(signal, rng.random() < 0.6)
        await ctx.tick()


def simulate(dut, bench, *background):
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    for process in background:
        sim.add_testbench(process, background=True)
    sim.run()


@shapes
@pytest.mark.parametrize("words", [1, 2, 7])
def test_load(config, words, seed):
    rng = random.Random(seed)
    dut, data = Loader(config), granules(rng, config, words)
    tokens, rows, line = config.tile.tokens, config.tile.rows, 3
    memory, bits = {}, rows * 16
    cells = config.granule_bits // bits
    finished = []

    async def writes(ctx):
        while True:
            _, _, enable, ready, address, value, done = await ctx.tick().sample(
                dut.write.enable, dut.write.ready, dut.write.address, dut.write.data, dut.done)
            if enable and ready:
                for t in range(tokens):
                    for c in range(cells):
                        if enable >> t * cells + c & 1:
                            at = (t * cells + c) * bits
                            place = (address * tokens + t, c)
                            assert place not in memory
                            memory[place] = value >> at & (1 << bits) - 1
            finished.append(done)

    async def bench(ctx):
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.job.payload, {"buffer": Buffer.TEMP, "words": words, "line": line})
        ctx.set(dut.job.valid, 1)
        await ctx.tick().until(dut.job.ready)
        ctx.set(dut.job.valid, 0)
        for index in range(words):
            for beat in beats_of(config, data[index * rows:(index + 1) * rows]):
                ctx.set(dut.i.payload, beat)
                ctx.set(dut.i.valid, 1)
                await ctx.tick().until(dut.i.ready)
                ctx.set(dut.i.valid, 0)
                await ctx.tick().repeat(rng.randrange(1, 3))
        await ctx.tick().repeat(40)
        assert ctx.get(dut.buffer) == Buffer.TEMP
        # Idle again: beats pass through to the tile.
        ctx.set(dut.i.payload, 0x5a)
        ctx.set(dut.i.valid, 1)
        assert ctx.get(dut.o.valid) and ctx.get(dut.o.payload) == 0x5a and ctx.get(dut.i.ready)

    async def stalls(ctx):
        await ready_at_random(ctx, dut.write.ready, rng)

    simulate(dut, bench, writes, stalls)
    assert memory == {(line * tokens + i, c): granule >> c * bits & (1 << bits) - 1
                      for i, granule in enumerate(data) for c in range(cells)}
    assert sum(finished) == 1


@shapes
@pytest.mark.parametrize("words", [1, 2, 7])
def test_store(config, words, seed):
    rng = random.Random(seed)
    dut, line = Storer(config), 5
    tokens, rows = config.tile.tokens, config.tile.rows
    data = granules(rng, config, words)
    padded = data + [0] * tokens
    out = []

    async def memory(ctx):
        part = min(tokens, rows)
        while True:
            _, _, enable, ready, address = await ctx.tick().sample(
                dut.read.enable, dut.read.ready, dut.read.address)
            value = rng.getrandbits(part * config.granule_bits)
            if enable and ready:
                at = address * part - line * tokens
                value = join(padded[at:at + part], config.granule_bits)
            ctx.set(dut.read.data, value)

    async def bench(ctx):
        ctx.set(dut.job.payload, {"buffer": Buffer.TEMP, "words": words, "line": line})
        ctx.set(dut.job.valid, 1)
        await ctx.tick().until(dut.job.ready)
        ctx.set(dut.job.valid, 0)
        while len(out) < words:
            ctx.set(dut.o.ready, rng.random() < 0.5)
            _, _, valid, ready, word = await ctx.tick().sample(
                dut.o.valid, dut.o.ready, dut.o.payload)
            if valid and ready:
                out.append(word)
        ctx.set(dut.o.ready, 1)
        await ctx.tick().repeat(10)
        assert not ctx.get(dut.o.valid) and ctx.get(dut.job.ready)

    async def stalls(ctx):
        await ready_at_random(ctx, dut.read.ready, rng)

    simulate(dut, bench, memory, stalls)
    assert out == [join(data[i * rows:(i + 1) * rows], config.granule_bits) for i in range(words)]
