# SPDX-License-Identifier: BSD-2-Clause
"""The operand decoders against the model, for every pattern of every format."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from logicpim.rtl.pim.operand import (
    BF16_EXPONENTS,
    FP16_EXPONENTS,
    BrainDecoder,
    ByteWidener,
    HalfDecoder,
    OperandBank,
)
from logicpim.sim.model import arithmetic as rule
from logicpim.spec.isa import BYTE_FORMATS, Format


@pytest.mark.parametrize("decoder, port, decode", [
    (HalfDecoder, "half", rule.decode_fp16), (BrainDecoder, "brain", rule.decode_bf16)])
def test_decoder_exhaustive(decoder, port, decode, check_converter):
    sign, exponent, significand = decode(np.arange(1 << 16))
    expected = (sign << 19 | exponent << 11 | significand).tolist()
    check_converter(decoder(), port, range(1 << 16), expected)


@pytest.mark.parametrize("formats", [BYTE_FORMATS, *((f,) for f in BYTE_FORMATS)])
def test_widener_exhaustive(formats, check_converter):
    for fmt in formats:
        expected = rule.bytes_as_fp16(np.arange(256), fmt).tolist()
        check_converter(ByteWidener(formats), "byte", range(256), expected, format=fmt)


@pytest.mark.parametrize("brain", [False, True])
def test_wide_bank(seed, brain):
    """The decoders of both 16-bit formats behind one multiplexer."""
    rng = np.random.default_rng(seed)
    bank = OperandBank(depth=4, exponents=BF16_EXPONENTS)
    halves = rng.integers(0, 1 << 16, (300, 4))
    halves[:100] &= np.where(rng.integers(0, 2, (100, 4)), 0x807F if brain else 0x83FF, 0xFFFF)
    halves[50:150] |= np.where(rng.integers(0, 2, (100, 4)), 0x7F80 if brain else 0x7C00, 0)

    async def bench(ctx):
        ctx.set(bank.brain, brain)
        ctx.set(bank.mask, 15)
        for values in halves:
            ctx.set(bank.halves, sum(int(h) << 16 * i for i, h in enumerate(values)))
            operand = rule.decode(values, Format.BF16 if brain else Format.FP16)
            await ctx.tick().repeat(OperandBank.latency)
            ctx.set(bank.halves, 0)
            for i in np.flatnonzero(~operand.infinite & ~operand.nan):
                assert ctx.get(bank.o.exponent[i]) == operand.exponent[i]
            assert ctx.get(bank.o.nonzero) == (~operand.zero).astype(int) @ (1 << np.arange(4))
            await ctx.tick()
            assert [ctx.get(s) for s in bank.o.significand] == operand.significand.tolist()
            for name in ("sign", "infinite", "zero"):
                bits = getattr(operand, name).astype(int)
                assert ctx.get(getattr(bank.o, name)) == bits @ (1 << np.arange(4)), name
            assert ctx.get(bank.o.nan) == operand.nan.any()

    simulator = Simulator(bank)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_bank(seed):
    rng = np.random.default_rng(seed)
    bank = OperandBank(depth=4)
    halves = rng.integers(0, 1 << 16, (200, 4))
    halves[:100] &= np.where(rng.integers(0, 2, (100, 4)), 0x83FF, 0xFFFF)
    halves[50:150] |= np.where(rng.integers(0, 2, (100, 4)), 0x7C00, 0)
    halves[100:150] &= np.where(rng.integers(0, 2, (50, 4)), 0xFC00, 0xFFFF)
    masks = rng.integers(0, 16, 200)

    async def bench(ctx):
        for values, mask in zip(halves, masks, strict=True):
            ctx.set(bank.halves, sum(int(h) << 16 * i for i, h in enumerate(values)))
            ctx.set(bank.mask, int(mask))
            operand = rule.decode_fp16(np.where(mask >> np.arange(4) & 1, values, 0))
            finite = ~operand.infinite & ~operand.nan
            await ctx.tick().repeat(OperandBank.latency)
            ctx.set(bank.halves, 0)
            for i in range(4):
                assert ctx.get(bank.o.nonzero) >> i & 1 == int(not operand.zero[i])
                if finite[i]:
                    assert ctx.get(bank.o.exponent[i]) == (
                        0 if operand.zero[i] else operand.exponent[i] - FP16_EXPONENTS[0] + 1)
            await ctx.tick()
            assert [ctx.get(s) for s in bank.o.significand] == operand.significand.tolist()
            for name in ("sign", "infinite", "zero"):
                bits = getattr(operand, name).astype(int)
                assert ctx.get(getattr(bank.o, name)) == bits @ (1 << np.arange(4)), name
            assert ctx.get(bank.o.nan) == operand.nan.any()

    simulator = Simulator(bank)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
