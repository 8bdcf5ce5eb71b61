# SPDX-License-Identifier: BSD-2-Clause
"""Encoder and decoder in gateware against the golden model, alone and in the TSV interface."""

import random
from itertools import combinations

import numpy as np
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from logicpim.rtl.tsv.ecc import PartDecoder, check_bits
from logicpim.rtl.tsv.interface import TsvInterface
from logicpim.sim.model.ecc import Verdict, decode, encode
from logicpim.spec.presets import PRESETS

CONFIG = PRESETS["small"].replace(ecc=True)
TILE = CONFIG.tile


class Encoder(wiring.Component):
    """The parity trees with ports."""

    def __init__(self):
        super().__init__({"data": In(128), "check": Out(16)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.check.eq(check_bits(self.data))
        return m


def simulate(top, bench, clocked=True):
    simulator = Simulator(top)
    if clocked:
        simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def number(array):
    return int.from_bytes(array.tobytes(), "little")


def test_encoder(seed):
    rng, top = np.random.default_rng(seed), Encoder()
    data = np.concatenate([rng.integers(0, 256, (60, 16), np.uint8),
                           np.packbits(np.eye(128, dtype=np.uint8), axis=1, bitorder="little")])

    async def bench(ctx):
        for row in data:
            ctx.set(top.data, number(row))
            await ctx.delay(1e-7)
            assert ctx.get(top.check) == number(encode(row))

    simulate(top, bench, clocked=False)


def test_decoder(seed):
    """No error, all of one bit and of two, some of three to five: as the model, a clock later."""
    rng, top = np.random.default_rng(seed), PartDecoder()
    errors = [(), *combinations(range(72), 1), *combinations(range(72), 2)]
    errors += [tuple(rng.choice(72, rng.integers(3, 6), replace=False)) for _ in range(500)]
    data = rng.integers(0, 256, (len(errors), 8), np.uint8)
    words = np.concatenate([data, encode(data)], axis=1)
    for word, bits in zip(words, errors, strict=True):
        for bit in bits:
            word[bit // 8] ^= 1 << bit % 8
    want, verdict = decode(words[:, :8].copy(), words[:, 8:].copy())
    assert (want[:73] == data[:73]).all()
    assert (verdict[1:73] == Verdict.CORRECTED).all()
    assert (verdict[73:73 + 2556] == Verdict.UNCORRECTED).all()

    async def bench(ctx):
        for word, right, how in zip(words, want, verdict[:, 0], strict=True):
            ctx.set(top.data, number(word[:8]))
            ctx.set(top.check, int(word[8]))
            await ctx.tick()
            assert ctx.get(top.o) == number(right)
            assert ctx.get(top.corrected) == (how == Verdict.CORRECTED)
            assert ctx.get(top.uncorrected) == (how == Verdict.UNCORRECTED)

    simulate(top, bench)


def spoil(rng, words, check, share):
    """Wrong bits in a share of the parts: one, or two; in place."""
    flat, side = words.reshape(-1, 8), check.reshape(-1)
    for part in range(len(flat)):
        if rng.random() < share:
            for bit in rng.sample(range(72), rng.choice([1, 1, 2])):
                if bit < 64:
                    flat[part, bit // 8] ^= 1 << bit % 8
                else:
                    side[part] ^= 1 << bit - 64


def test_words_read(seed):
    """Words two clocks apart, some wrong: the model's beats, a beat a clock, and its counts."""
    rng, tsv = random.Random(seed), TsvInterface(CONFIG)
    words = np.random.default_rng(seed).integers(0, 256, (40, CONFIG.word_bytes), np.uint8)
    check = encode(words)
    spoil(rng, words, check, 0.05)
    right, verdict = decode(words, check)
    cells = right.view("<u2").reshape(40, TILE.rows, 2, TILE.depth)
    beats = [number(np.ascontiguousarray(cells[i, :, half])) for i in range(40) for half in (0, 1)]
    got, clocks, counts, bad = [], [], [0, 0], []

    async def bench(ctx):
        ctx.set(tsv.beats.ready, 1)
        for clock in range(100):
            read = clock % 2 == 0 and clock < 80
            ctx.set(tsv.strobes.bundle_read, read)
            ctx.set(tsv.bus.bundle_rdata, number(words[clock // 2]) if read else 0)
            ctx.set(tsv.bus.bundle_rcheck, number(check[clock // 2]) if read else -1)
            await ctx.tick()
            if ctx.get(tsv.beats.valid):
                got.append(ctx.get(tsv.beats.payload))
                clocks.append(clock)
            counts[0] += ctx.get(tsv.ecc.words_corrected)
            counts[1] += ctx.get(tsv.ecc.words_uncorrected)
            if ctx.get(tsv.ecc.word):
                bad.append(ctx.get(tsv.ecc.bad))
        # Without ecc the first beat is there a clock earlier.
        assert clocks == list(range(clocks[0], clocks[0] + 80)) and clocks[0] == 3

    simulate(tsv, bench)
    assert got == beats
    assert counts == [(verdict == v).sum() for v in (Verdict.CORRECTED, Verdict.UNCORRECTED)]
    assert counts[0] > 5 and 1 in bad and 0 in bad
    assert bad == (verdict == Verdict.UNCORRECTED).any(axis=1).tolist()


def test_words_written(seed):
    """A word on the bus has its check bits beside it; a bus at rest is 0."""
    tsv = TsvInterface(CONFIG)
    words = np.random.default_rng(seed).integers(0, 256, (20, CONFIG.word_bytes), np.uint8)

    async def bench(ctx):
        for word in words:
            ctx.set(tsv.words.valid, 1)
            ctx.set(tsv.words.payload, number(word))
            await ctx.tick()
            ctx.set(tsv.words.valid, 0)
            for _ in range(3):
                await ctx.tick()
            assert ctx.get(Cat(tsv.bus.bundle_wdata, tsv.bus.bundle_wcheck)) == 0
            ctx.set(tsv.strobes.bundle_write, 1)
            await ctx.delay(1e-7)
            assert ctx.get(tsv.bus.bundle_wdata) == number(word)
            assert ctx.get(tsv.bus.bundle_wcheck) == number(encode(word))
            await ctx.tick()
            ctx.set(tsv.strobes.bundle_write, 0)

    simulate(tsv, bench)


def test_host_path(seed):
    """Granules each clock, some wrong: corrected or told a clock after their strobe; writes."""
    rng, tsv = random.Random(seed), TsvInterface(CONFIG)
    data = np.random.default_rng(seed).integers(0, 256, (200, CONFIG.granule_bytes), np.uint8)
    check = encode(data)
    spoil(rng, data, check, 0.2)
    right, verdict = decode(data, check)
    counts = [0, 0]

    async def bench(ctx):
        s = tsv.strobes
        for i, granule in enumerate(data):
            read = rng.random() < 0.8
            ctx.set(s.host_read, read)
            ctx.set(s.host_write, 1 - read)
            ctx.set(s.host_wdata, number(granule))
            ctx.set(Cat(tsv.bus.host_rdata, tsv.bus.host_rcheck),
                    number(np.concatenate([granule, check[i]])))
            await ctx.delay(1e-7)
            assert ctx.get(tsv.bus.host_wcheck) == (0 if read else number(encode(granule)))
            await ctx.tick()
            wrong = (verdict[i] == Verdict.UNCORRECTED).any()
            assert ctx.get(tsv.host_bad) == (read and wrong)
            if read:
                assert ctx.get(tsv.host_rdata) == number(right[i])
                counts[0] += (verdict[i] == Verdict.CORRECTED).sum()
                counts[1] += (verdict[i] == Verdict.UNCORRECTED).sum()
            counts[0] -= ctx.get(tsv.ecc.host_corrected)
            counts[1] -= ctx.get(tsv.ecc.host_uncorrected)
        ctx.set(s.host_read, 0)
        await ctx.tick()
        counts[0] -= ctx.get(tsv.ecc.host_corrected)
        counts[1] -= ctx.get(tsv.ecc.host_uncorrected)

    simulate(tsv, bench)
    assert counts == [0, 0]
