# SPDX-License-Identifier: BSD-2-Clause
"""The binary32 adder and the conversions to FP16 and BF16 against the model."""

import itertools

import numpy as np

from logicpim.rtl.pim.fp32 import Adder, Scaler, ToBrain, ToHalf
from logicpim.sim.model import arithmetic as rule

EDGES = [0, 1, 2, 0x7FFFFF, 0x800000, 0x800001, 0xFFFFFF, 0x1000000, 0x3F800000, 0x3F800001,
         0x3F7FFFFF, 0x33800000, 0x33800001, 0x7F7FFFFF, 0x7F000000, 0x72FFFFFF, 0x73000000,
         0x7F800000, 0x7F800001, 0x7FC00000]


def pairs(rng, count):
    """Binary32 pairs: edges, any bits, near exponents, near cancellation, ties."""
    edges = [e | s for e in EDGES for s in (0, 1 << 31)]
    found = list(itertools.product(edges, edges))
    a = rng.integers(0, 1 << 32, count)
    kind = rng.integers(0, 4, count)
    near = (a + (rng.integers(-30, 31, count) << 23)) & 0x7FFFFFFF | rng.integers(0, 2, count) << 31
    close = (a ^ 1 << 31) + rng.integers(-5, 6, count) & 0xFFFFFFFF
    sparse = near & ~((1 << rng.integers(0, 24, count)) - 1)
    b = np.select([kind == 0, kind == 1, kind == 2], [rng.integers(0, 1 << 32, count), near, close],
                  sparse)
    a = np.where(kind == 3, a & ~((1 << rng.integers(0, 24, count)) - 1), a)
    a = np.where(rng.integers(0, 8, count) == 0, a & 0x80FFFFFF, a)
    return found + list(zip(a.tolist(), b.tolist(), strict=True))


def test_adder(seed, check_pipeline):
    adder = Adder()
    operands = pairs(np.random.default_rng(seed), 6000)
    a, b = np.array(operands, np.uint32).T
    expected = rule.fp32_add(a, b).tolist()
    check_pipeline(adder, operands, expected)


def test_scaler(seed, check_pipeline):
    rng = np.random.default_rng(seed)
    scaler, operands = Scaler(), pairs(rng, 3000)
    low = rng.integers(0, 1 << 32, (2, 3000))
    low[1] = low[1] & 0x807FFFFF | np.clip(
        rng.integers(100, 132, 3000) - (low[0] >> 23 & 255), 0, 254) << 23
    operands += [(int(a), int(b)) for a, b in low.T]
    a, b = np.array(operands, np.uint32).T
    expected = rule.fp32_multiply(a, b).tolist()
    assert sum(0 < e & 0x7FFFFFFF < 0x800000 for e in expected) > 100
    check_pipeline(scaler, operands, expected)


def test_to_half(seed, check_pipeline):
    rng = np.random.default_rng(seed)
    half = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
    some = rng.choice(half, 3000)
    # Ties lie half a unit above a half-precision number, at a place that depends on its exponent.
    with np.errstate(all="ignore"):
        middle = ((some.view(np.float32).astype(np.float64) + np.nextafter(
            some.view(np.float32).astype(np.float16), np.float16(np.inf)).astype(np.float64)) / 2
        ).astype(np.float32).view(np.uint32)
    values = np.concatenate([some, middle, middle - 1, middle + 1, np.array(EDGES, np.uint32),
                             rng.integers(0, 1 << 32, 1000).astype(np.uint32),
                             rng.integers(0x32000000, 0x48000000, 3000).astype(np.uint32)])
    expected = rule.fp32_to_fp16(values).tolist()
    check_pipeline(ToHalf(), values[:, np.newaxis].tolist(), expected, ports=("i",))


def test_to_brain(seed, check_converter):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 1 << 32, 6000).astype(np.uint32)
    values[:3000] = values[:3000] & 0xFFFF0000 | rng.choice([0, 0x7FFF, 0x8000, 0x8001], 3000)
    values = np.concatenate([values, np.array(EDGES, np.uint32)])
    expected = rule.fp32_to_bf16(values).tolist()
    check_converter(ToBrain(), "i", values.tolist(), expected)
