# SPDX-License-Identifier: BSD-2-Clause
"""The TSV interface alone: order of beats, room for every word, timing of the write path."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from logicpim.rtl.tsv.interface import WRITE_WORDS, TsvInterface
from logicpim.rtl.tsv.path_switch import PathSwitch
from logicpim.spec.presets import PRESETS

CONFIG = PRESETS["small"]


def simulate(top, bench):
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def beats_of(config, word):
    """Element (row, k) of the word goes to beat k // depth, row by row."""
    tile, elements = config.tile, config.granule_elements
    cells = np.frombuffer(word.to_bytes(config.word_bytes, "little"), "<u2")
    cells = cells.reshape(tile.rows, elements)
    return [int.from_bytes(cells[:, h * tile.depth:(h + 1) * tile.depth].tobytes(), "little")
            for h in (0, 1)]


@pytest.mark.parametrize("stall", [0.0, 0.7])
@pytest.mark.parametrize("preset", ["small", "channel"])
def test_read(seed, preset, stall):
    """Words every two clocks while there is credit: all beats arrive, in order, none twice."""
    config, rng = PRESETS[preset], random.Random(seed)
    words = [rng.getrandbits(config.word_bits) for _ in range(60)]
    tsv, got, latency = TsvInterface(config), [], []

    async def bench(ctx):
        credit, sent, taken, clock, last = config.word_fifo, 0, 0, 0, -2
        ready, first = False, None
        sampled = ctx.tick().sample(tsv.beats.valid, tsv.beats.payload, tsv.strobes.word_taken)
        async for _, _, valid, beat, word_taken in sampled:
            if valid and first is None:
                first = clock
            if valid and ready:
                got.append(beat)
            assert word_taken == (valid and ready and len(got) % 2 == 0)
            taken += word_taken
            credit += word_taken
            clock += 1
            read = sent < len(words) and credit > 0 and clock - last >= 2
            ctx.set(tsv.strobes.bundle_read, read)
            ctx.set(tsv.bus.bundle_rdata,
                    words[sent] if read else rng.getrandbits(config.word_bits))
            if read:
                if not sent:
                    latency.append(clock)
                sent, credit, last = sent + 1, credit - 1, clock
            ready = rng.random() >= stall
            ctx.set(tsv.beats.ready, ready)
            if taken == len(words):
                break
            assert clock < 4000
        latency.append(first)

    simulate(tsv, bench)
    assert got == [beat for word in words for beat in beats_of(config, word)]
    assert latency[1] - latency[0] == 3


def test_full_rate(seed):
    """Without stalls a beat leaves every clock."""
    config, tsv, gaps = CONFIG, TsvInterface(CONFIG), []

    async def bench(ctx):
        ctx.set(tsv.beats.ready, 1)
        for clock in range(60):
            ctx.set(tsv.strobes.bundle_read, clock % 2 == 0)
            *_, valid = await ctx.tick().sample(tsv.beats.valid)
            gaps.append(valid)

    simulate(tsv, bench)
    assert all(gaps[10:]) and config


def test_full_buffer_holds(seed):
    """A whole credit of words comes while nothing leaves; then all of it leaves."""
    tsv, got = TsvInterface(CONFIG), []
    words = [random.Random(seed + i).getrandbits(CONFIG.word_bits)
             for i in range(CONFIG.word_fifo)]

    async def bench(ctx):
        for word in words:
            for strobe in (1, 0):
                ctx.set(tsv.strobes.bundle_read, strobe)
                ctx.set(tsv.bus.bundle_rdata, word if strobe else 0)
                await ctx.tick()
        await ctx.tick().repeat(10)
        ctx.set(tsv.beats.ready, 1)
        for _ in range(3 * len(words)):
            *_, valid, beat = await ctx.tick().sample(tsv.beats.valid, tsv.beats.payload)
            got.extend([beat] * valid)

    simulate(tsv, bench)
    assert got == [beat for word in words for beat in beats_of(CONFIG, word)]


def test_write(seed):
    """Each accepted word is announced once and stands on the bus in the clock of its strobe."""
    rng, tsv = random.Random(seed), TsvInterface(CONFIG)
    words = [rng.getrandbits(CONFIG.word_bits) for _ in range(40)]

    async def bench(ctx):
        given = announced = written = 0
        offer = strobe = False
        while written < len(words):
            *_, ready, word_ready, wdata = await ctx.tick().sample(
                tsv.words.ready, tsv.strobes.word_ready, tsv.bus.bundle_wdata)
            if offer and ready:
                given, offer = given + 1, False
            announced += word_ready
            assert written <= announced <= given <= written + WRITE_WORDS
            assert wdata == (words[written] if strobe else 0)
            written += strobe
            offer = offer or (given < len(words) and rng.random() < 0.7)
            ctx.set(tsv.words.valid, offer)
            ctx.set(tsv.words.payload, words[given] if offer else 0)
            # At the earliest two clocks after its announcement was seen, as ALL_WR is issued.
            strobe = written < announced and rng.random() < 0.5
            ctx.set(tsv.strobes.bundle_write, strobe)
        assert announced == len(words)

    simulate(tsv, bench)


def test_switch_keeps_paths_apart(seed):
    """Data moves on the path of its strobe; the other one stays quiet."""
    rng, switch = random.Random(seed), PathSwitch(CONFIG)
    s, bus = switch.strobes, switch.bus

    async def bench(ctx):
        for _ in range(64):
            on = {name: rng.getrandbits(1) for name in
                  ("bundle_read", "bundle_write", "host_read", "host_write")}
            for name, value in on.items():
                ctx.set(getattr(s, name), value)
            values = {}
            for name, port in (("br", bus.bundle_rdata), ("hr", bus.host_rdata),
                               ("bw", switch.bundle_wdata), ("hw", s.host_wdata),
                               ("hm", s.host_wmask)):
                values[name] = rng.getrandbits(len(port))
                ctx.set(port, values[name])
            await ctx.delay(1e-7)
            for port, strobe, name in (
                    (switch.bundle_rdata, "bundle_read", "br"),
                    (switch.host_rdata, "host_read", "hr"),
                    (bus.bundle_wdata, "bundle_write", "bw"),
                    (bus.host_wdata, "host_write", "hw"), (bus.host_wmask, "host_write", "hm")):
                assert ctx.get(port) == (values[name] if on[strobe] else 0)

    simulator = Simulator(switch)
    simulator.add_testbench(bench)
    simulator.run()
