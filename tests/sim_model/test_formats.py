# SPDX-License-Identifier: BSD-2-Clause
"""Weights and operands of every format: decoding against ml_dtypes, GEMM against the steps."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from logicpim.sim.model import arithmetic as rule
from logicpim.sim.model import layout
from logicpim.sim.model.gemm import gemm
from logicpim.spec.config import Tile
from logicpim.spec.errors import ConfigError
from logicpim.spec.isa import BYTE_FORMATS, WEIGHT_FORMATS, Format
from logicpim.spec.presets import PRESETS

DTYPES = {Format.FP16: np.float16, Format.BF16: ml_dtypes.bfloat16,
          Format.FP8_E4M3: ml_dtypes.float8_e4m3fn, Format.FP8_E5M2: ml_dtypes.float8_e5m2,
          Format.INT8: np.int8}


def every(fmt):
    return np.arange(256, dtype=np.uint8) if fmt in BYTE_FORMATS else np.arange(
        1 << 16, dtype=np.uint16)


@pytest.mark.parametrize("fmt", WEIGHT_FORMATS)
def test_decode_every_pattern(fmt):
    bits = every(fmt)
    with np.errstate(all="ignore"):
        values = bits.view(DTYPES[fmt]).astype(np.float64)
    operand = rule.decode(bits, fmt)
    assert (operand.nan == np.isnan(values)).all()
    assert (operand.infinite == np.isinf(values)).all()
    assert (operand.zero == (values == 0)).all()
    assert (operand.zero <= (operand.exponent == 0)).all()
    finite = np.isfinite(values)
    signed = np.where(operand.sign, -operand.significand, operand.significand)
    exact = np.ldexp(signed.astype(float), operand.exponent - 137)
    assert (exact == values)[finite].all()
    normal = operand.significand >= 0x400
    few = operand.zero | ((fmt == Format.BF16) & (operand.exponent == 1))
    assert (normal | few).all() and (operand.significand < 0x800).all()


@pytest.mark.parametrize("fmt, count", [(Format.FP8_E4M3, (0, 2)), (Format.FP8_E5M2, (2, 6)),
                                        (Format.INT8, (0, 0)), (Format.BF16, (2, 254))])
def test_specials_of_each_format(fmt, count):
    operand = rule.decode(every(fmt), fmt)
    assert (operand.infinite.sum(), operand.nan.sum()) == count


def test_bf16_rounding(seed):
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 1 << 32, 20000).astype(np.uint32)
    bits[:10000] = bits[:10000] & 0xFFFF0000 | rng.choice([0, 0x7FFF, 0x8000, 0x8001], 10000)
    with np.errstate(all="ignore"):
        expected = bits.view(np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
    got = rule.fp32_to_bf16(bits)
    nan = np.isnan(bits.view(np.float32))
    assert (got == np.where(nan, 0x7FC0, expected)).all() and nan.any()
    assert rule.fp32_to_bf16(np.uint32(0x7F7FFFFF)) == 0x7F80


def random_bits(rng, shape, fmt):
    """Any pattern, or moderate numbers with a few of any pattern."""
    most, dtype = (256, np.uint8) if fmt in BYTE_FORMATS else (1 << 16, np.uint16)
    bits = rng.integers(0, most, shape).astype(dtype)
    if rng.integers(3):
        scale = 40 if fmt == Format.INT8 else 1
        near = (rng.normal(0, scale, shape)).astype(DTYPES[fmt]).view(dtype)
        bits = np.where(rng.integers(0, 50, shape) > 0, near, bits)
    return bits


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
@pytest.mark.parametrize("inputs", [Format.FP16, Format.BF16])
def test_gemm_against_the_steps(seed, inputs, weights):
    rng = np.random.default_rng(seed)
    for depth in (4, 8, 16):
        m, n, k = rng.integers(1, [6, 20, 25 * depth])
        x, w = random_bits(rng, (m, k), inputs), random_bits(rng, (n, k), weights)
        def beats(operand, depth=depth, k=k):
            return rule.Operand(*(np.pad(f, ((0, 0), (0, -k % depth))).reshape(len(f), -1, depth)
                                  for f in operand))
        a, b = beats(rule.decode(x, inputs)), beats(rule.decode(w, weights))
        dots = rule.dot(rule.Operand(*(f[:, None] for f in a)), rule.Operand(*(f[None] for f in b)))
        expected = rule.accumulate(dots, 2 if weights in BYTE_FORMATS else 1)
        for output, narrow in ((Format.FP32, lambda y: y), (Format.FP16, rule.fp32_to_fp16),
                               (Format.BF16, rule.fp32_to_bf16)):
            got = gemm(x, w, depth, output, inputs=inputs, weights=weights)
            assert (got == narrow(expected)).all()


def test_two_sets_of_lanes():
    """Beats of 8-bit weights that any other assignment would add to other bits."""
    beats = np.array([0x3F800000, 0x33800000, 0x4B800000, 0x3F800000, 0xCB800000, 0x33800001,
                      0x33800000, 0x40490FDB, 0x3F800000, 0x4B800001], np.uint32)
    lane = np.zeros(8, np.uint32)
    for b, bits in enumerate(beats):
        lane[b % 8] = rule.fp32_add(lane[b % 8], bits)
    add = rule.fp32_add
    even = add(add(lane[0], lane[2]), add(lane[4], lane[6]))
    odd = add(add(lane[1], lane[3]), add(lane[5], lane[7]))
    assert rule.accumulate(beats, 2) == add(even, odd) != rule.accumulate(beats)


def test_subnormal_bf16_products():
    """They count, as far as a product can: 3 * 2**-133 times 2**126."""
    x, w = np.array([[0x0003]], np.uint16), np.array([[0x7E80]], np.uint16)
    got = gemm(x, w, 8, Format.FP32, inputs=Format.BF16, weights=Format.BF16)
    assert Fraction(float(got.view(np.float32)[0, 0])) == Fraction(3) * Fraction(2) ** (-133 + 126)


@pytest.mark.parametrize("weights", BYTE_FORMATS)
def test_a_token_alone_has_the_bits_it_has_in_a_batch(seed, weights):
    rng = np.random.default_rng(seed)
    x, w = random_bits(rng, (9, 333), Format.FP16), random_bits(rng, (24, 333), weights)
    batch = gemm(x, w, 8, weights=weights)
    for token in range(9):
        assert (gemm(x[token:token + 1], w, 8, weights=weights) == batch[token]).all()
    assert (gemm(x, w[7:19], 8, weights=weights) == batch[:, 7:19]).all()


@pytest.mark.parametrize("k", [1, 16, 17, 32, 33, 70])
def test_layout_of_bytes(seed, k):
    config, rng = PRESETS["channel"], np.random.default_rng(seed)
    w, x = random_bits(rng, (13, k), Format.INT8), random_bits(rng, (11, k), Format.FP16)
    data = layout.pack_weights(config, w, Format.INT8)
    assert data.size == layout.weight_words(config, 13, k, Format.INT8) * config.word_bytes
    assert (layout.unpack_weights(config, data, 13, k, Format.INT8) == w).all()
    n, at = int(rng.integers(13)), int(rng.integers(k))
    word = n // 8 * -(-k // 32) + at // 32
    assert data[word * 256 + n % 8 * 32 + at % 32] == w[n, at]
    lines = layout.pack_operands(config, x, Format.INT8)
    assert lines.size == layout.operand_lines(config, 11, k, Format.INT8) * config.line_bytes
    assert (layout.unpack_operands(config, lines, 11, k, Format.INT8) == x).all()
    assert layout.operand_granules(config, k, Format.INT8) == 2 * -(-k // 32)


@pytest.mark.parametrize("formats, reason", [
    (("fp16", "fp4"), "some of fp16"), (("bf16",), "include fp16"), (("fp16", "fp16"), "list"),
    ("fp16", "list")])
def test_refused_formats(formats, reason):
    with pytest.raises(ConfigError, match=reason):
        PRESETS["small"].replace(formats=formats)


def test_bytes_need_two_groups():
    config = PRESETS["channel"].replace(formats=["int8", "fp16"])
    assert config.formats == ("fp16", "int8") and config.pass_tokens(Format.INT8) == 16
    with pytest.raises(ConfigError, match="tile.groups"):
        config.replace(tile=Tile(groups=1))


def scaled_by_prose(x, w, scales, group, weights):
    """Binary32 bits by the text: each group alone, times its scale, added in order."""
    total = None
    for g, first in enumerate(range(0, x.shape[1], group)):
        part = slice(first, first + group)
        partial = gemm(x[:, part], w[:, part], 8, Format.FP32, weights=weights)
        with np.errstate(all="ignore"):
            product = partial.view(np.float32) * scales.view(np.float32)[:, g]
            total = product if total is None else total + product
    return np.where(np.isnan(total), np.uint32(0x7FC00000), total.view(np.uint32))


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_scales_of_groups(seed, weights):
    rng = np.random.default_rng(seed)
    for k, group in ((1, 32), (96, 32), (100, 32), (70, 64), (65, 65)):
        x, w = random_bits(rng, (3, k), Format.FP16), random_bits(rng, (5, k), weights)
        scales = rng.normal(size=(5, -(-k // group))).astype(np.float32).view(np.uint32)
        scales = np.where(rng.random(scales.shape) < 0.2, rng.choice(
            [0, 1 << 31, 0x7F800000, 0x7FC12345], scales.shape), scales).astype(np.uint32)
        expected = scaled_by_prose(x, w, scales, group, weights)
        for output, narrow in ((Format.FP32, lambda y: y), (Format.FP16, rule.fp32_to_fp16)):
            got = gemm(x, w, 8, output, weights=weights, scales=scales, scale_group=group)
            assert (got == narrow(expected)).all()


def test_zeros_of_scaled_groups():
    """-0 stays where every product is -0, and is lost where one is +0."""
    x, one = np.full((1, 64), 0x3C00, np.uint16), np.ones((1, 64), np.uint8)
    for scales, expected in (([1 << 31, 1 << 31], 1 << 31), ([1 << 31, 0], 0), ([0, 1 << 31], 0)):
        got = gemm(x, one, 8, Format.FP32, weights=Format.INT8, scale_group=32,
                   scales=np.array([scales], np.uint32))
        assert got == expected
    row = gemm(x, one, 8, Format.FP32, weights=Format.INT8, scales=np.array([1 << 31], np.uint32))
    assert row == 1 << 31


def test_one_scale_each():
    x, w = np.zeros((1, 64), np.uint16), np.zeros((2, 64), np.uint8)
    with pytest.raises(ValueError, match="3 scales a row for 64 elements in groups of 32"):
        gemm(x, w, 8, weights=Format.INT8, scales=np.zeros((2, 3), np.uint32), scale_group=32)


@pytest.mark.parametrize("groups", [1, 3])
def test_layout_of_scales(seed, groups):
    config, rng = PRESETS["channel"], np.random.default_rng(seed)
    scales = rng.integers(0, 1 << 32, (13, groups)).astype(np.uint32)
    data = layout.pack_scales(config, scales)
    assert layout.scale_lines(config, 13, groups) == -(-data.size // config.line_bytes)
    assert (layout.unpack_scales(config, data, 13, groups) == scales).all()
    n, g = int(rng.integers(13)), int(rng.integers(groups))
    assert data.view("<u4")[(n // 8 * groups + g) * 8 + n % 8] == scales[n, g]
    assert layout.scale_groups(config, 129, 2, Format.INT8) == 3
    assert layout.scale_elements(config, 4, Format.INT8) == 128


def test_added_to_what_lies_there(seed):
    """The sum to it, or the first product to it and then the others."""
    rng = np.random.default_rng(seed)
    x, w = random_bits(rng, (4, 70), Format.FP16), random_bits(rng, (6, 70), Format.INT8)
    prior = rng.normal(size=(4, 6)).astype(np.float32).view(np.uint32)
    plain = gemm(x, w, 8, Format.FP32, weights=Format.INT8)
    got = gemm(x, w, 8, Format.FP32, weights=Format.INT8, prior=prior)
    assert (got == rule.fp32_add(prior, plain)).all()
    scales, total = rng.normal(size=(6, 3)).astype(np.float32).view(np.uint32), prior
    for g, first in enumerate((0, 32, 64)):
        part = slice(first, first + 32)
        sums = gemm(x[:, part], w[:, part], 8, Format.FP32, weights=Format.INT8)
        product = rule.fp32_multiply(sums, scales[None, :, g])
        total = rule.fp32_add(total, product)
    got = gemm(x, w, 8, Format.FP32, weights=Format.INT8, prior=prior, scales=scales,
               scale_group=32)
    assert (got == total).all()
