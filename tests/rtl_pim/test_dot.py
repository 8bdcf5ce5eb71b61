# SPDX-License-Identifier: BSD-2-Clause
"""The fused dot product, and the unit that accumulates it, against the model."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from logicpim.rtl.pim.dot import Dot
from logicpim.rtl.pim.operand import FP16_EXPONENTS
from logicpim.rtl.pim.processing_unit import ProcessingUnit
from logicpim.sim.model import arithmetic as rule


def fp16_beats(rng, count, depth):
    """FP16 beats: any bits, near exponents, subnormals, zeros, cancellation, specials."""
    bits = rng.integers(0, 1 << 16, (2, count, depth))
    kind = rng.integers(0, 6, (count, 1))
    finite = bits % 0x7C00 | bits & 0x8000
    narrow = bits & 0x83FF | 0x3800 + (rng.integers(0, 3, bits.shape) << 10)
    tiny = bits & np.where(rng.integers(0, 2, bits.shape), 0x83FF, 0x8FFF)
    special = np.where(rng.integers(0, 2 * depth, bits.shape) == 0,
                       rng.choice([0x7C00, 0xFC00, 0, 0x8000, 0x7C01], bits.shape), finite)
    bits = np.select([kind == k for k in range(5)], [bits, finite, narrow, tiny, special], finite)
    bits[:, :, :][rng.integers(0, 6, bits.shape) == 0] &= 0x8000
    pairs = (kind[:, 0] == 5).nonzero()[0]
    bits[0, pairs, 1::2] = bits[0, pairs, ::2] ^ 0x8000
    bits[1, pairs, 1::2] = bits[1, pairs, ::2] ^ (rng.integers(0, 4, (len(pairs), 1)) == 0)
    return bits.astype(np.uint16)


def wide_beats(rng, count, depth):
    """Operands in the internal form with any exponent: results may be subnormal or overflow."""
    sign = rng.integers(0, 2, (count, depth))
    subnormal = rng.integers(50, 64, (count, 1))
    centre = np.where(rng.integers(0, 2, (count, 1)), subnormal, rng.integers(0, 256, (count, 1)))
    exponent = np.clip(centre + rng.integers(-12, 13, (count, depth)), 1, 254)
    significand = rng.integers(1 << 10, 1 << 11, (count, depth))
    nonzero = rng.integers(0, 5, (count, depth)) > 0
    return rule.Operand(sign, exponent * nonzero, significand * nonzero)


def bits_of(flags):
    return int(np.asarray(flags).astype(int) @ (1 << np.arange(len(flags))))


def drive(ctx, port, operand, least, early, late):
    """Exponents of beat ``early``, the rest of beat ``late``."""
    if early is not None:
        finite = operand.exponent[early] != rule.SPECIAL
        exponent = (operand.exponent[early] - least + 1) * ~operand.zero[early] * finite
        for signal, value in zip(port.exponent, exponent.tolist(), strict=True):
            ctx.set(signal, value)
        ctx.set(port.nonzero, bits_of(~operand.zero[early]))
    if late is not None:
        for signal, value in zip(port.significand, operand.significand[late].tolist(),
                                 strict=True):
            ctx.set(signal, value)
        for name in ("sign", "infinite", "zero"):
            ctx.set(getattr(port, name), bits_of(getattr(operand, name)[late]))
        ctx.set(port.nan, bool(operand.nan[late].any()))


def run(unit, token, weight, least, latency, check, inputs=lambda ctx, i: None):
    """A beat each clock; ``check(ctx, i)`` when beat ``i`` is due."""
    count = len(token.sign)

    async def bench(ctx):
        for clock in range(count + latency):
            early = clock if clock < count else None
            late = clock - 1 if 0 <= clock - 1 < count else None
            drive(ctx, unit.token, token, least, early, late)
            drive(ctx, unit.weight, weight, least, early, late)
            inputs(ctx, clock)
            if clock >= latency:
                check(ctx, clock - latency)
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("depth, count", [(4, 600), (8, 1200), (16, 100)])
def test_dot(seed, depth, count):
    x, w = fp16_beats(np.random.default_rng(seed), count, depth)
    dot = Dot(depth=depth)
    expected = rule.dot_fp16(x, w).tolist()

    def check(ctx, i):
        assert ctx.get(dot.o) == expected[i], (x[i], w[i])

    run(dot, rule.decode_fp16(x), rule.decode_fp16(w), FP16_EXPONENTS[0], Dot.latency, check)


def test_dot_of_any_exponents(seed):
    rng = np.random.default_rng(seed)
    token, weight = (wide_beats(rng, 1500, 4) for _ in range(2))
    dot = Dot(depth=4, exponents=(1, 254))
    expected = rule.dot(token, weight)
    magnitude = expected & 0x7FFFFFFF
    assert (magnitude == 0x7F800000).sum() > 20
    assert ((magnitude > 0) & (magnitude < 0x800000)).sum() > 5

    def check(ctx, i):
        assert ctx.get(dot.o) == expected[i], (token, weight)

    run(dot, token, weight, 1, Dot.latency, check)


def test_processing_unit(seed):
    rng = np.random.default_rng(seed)
    x, w = fp16_beats(rng, 300, 4)
    accumulator = rng.integers(0, 1 << 32, 300).astype(np.uint32)
    accumulator[::2] = rule.dot_fp16(x, w)[::2] ^ np.uint32(1 << 31)
    unit = ProcessingUnit(depth=4)
    expected = rule.fp32_add(accumulator, rule.dot_fp16(x, w)).tolist()

    def accumulate(ctx, clock):
        if 0 <= clock - unit.accumulator_delay < 300:
            ctx.set(unit.accumulator, int(accumulator[clock - unit.accumulator_delay]))

    def check(ctx, i):
        assert ctx.get(unit.o) == expected[i]

    run(unit, rule.decode_fp16(x), rule.decode_fp16(w), FP16_EXPONENTS[0], unit.latency, check,
        accumulate)
