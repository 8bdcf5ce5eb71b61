# SPDX-License-Identifier: BSD-2-Clause
"""The error bound of docs/arithmetic.md: it holds, and is nearly attained."""

from fractions import Fraction

import numpy as np
import pytest

from logicpim.sim.model import arithmetic as rule
from logicpim.sim.model.gemm import gemm
from logicpim.spec.isa import BYTE_FORMATS, WEIGHT_FORMATS, Format

V = Fraction(1, 1 << 24)


def exact_and_bound(x_bits, w_bits, depth):
    """The exact sum, and the bound on the FP32 result's distance from it."""
    products = [Fraction(float(a)) * Fraction(float(b)) for a, b in
                zip(x_bits.view(np.float16), w_bits.view(np.float16), strict=True)]
    sizes = [abs(p) for p in products]
    beats = [sizes[k:k + depth] for k in range(0, len(sizes), depth)]
    roundings = (-(-len(beats) // 4) + 2) * V
    truncation = (depth - 1) * sum(max(beat) for beat in beats) / (1 << 26)
    return sum(products), roundings / (1 - roundings) * sum(sizes) + truncation


def attained(x, w, depth):
    """Error of the FP32 result as a fraction of its bound; 0 where both are 0."""
    exact, bound = exact_and_bound(x, w, depth)
    result, = gemm(x[None], w[None], depth, Format.FP32).view(np.float32)[0].tolist()
    error = abs(Fraction(result) - exact)
    return float(error / bound) if bound else float(error)


def losing_beat():
    """1 * 1, four products just below two last bits, three just below one: all that can be lost.

    The sum is 2**26 + 4 last bits, a tie that goes down.
    """
    x = np.array([1.0] + 4 * [2047 * 2.0 ** -23] + 3 * [2047 * 2.0 ** -24], np.float16)
    w = np.array([1.0] + 7 * [2047 * 2.0 ** -24], np.float16)
    return x.view(np.uint16), w.view(np.uint16)


@pytest.mark.parametrize("depth", [4, 8, 32])
@pytest.mark.parametrize("temper, typical", [("finite", 1), ("normal", 0.1), ("near", 0.1),
                                             ("wide", 1), ("cancel", 1), ("subnormal", 0.1)])
def test_random(stimulus, depth, temper, typical):
    for k in (1, 8, 100, 1000):
        for _ in range(5):
            fraction = attained(stimulus.bits(k, temper), stimulus.bits(k, temper), depth)
            assert fraction <= (typical if k == 1000 else 1)


def test_one_beat_attains_its_bound():
    x, w = losing_beat()
    exact, _ = exact_and_bound(x, w, 8)
    unit = Fraction(1, 1 << 26)
    bound = 7 * unit + V * (1 + 4 * unit)
    result, = gemm(x[None], w[None], 8, Format.FP32).view(np.float32)[0].tolist()
    assert 0.999 * bound < exact - Fraction(result) <= bound


def test_one_element_attains_the_bound():
    """64 beats a lane: the losing one, then 2**-24 each time, lost in a tie."""
    x, w = np.zeros((2, 64, 4, 8), np.uint16)
    x[0], w[0] = losing_beat()
    x[1:, :, 0], w[1:, :, 0] = 0x0C00, 0x0C00  # 2**-12
    assert 0.97 < attained(x.reshape(-1), w.reshape(-1), 8) <= 1


def test_half_precision(stimulus):
    for temper in ("normal", "near", "subnormal"):
        for k in (1, 8, 300):
            x, w = stimulus.bits((4, k), temper), stimulus.bits((4, k), temper)
            single, half = gemm(x, w, 8, Format.FP32), gemm(x, w, 8, Format.FP16)
            for m, n in np.ndindex(4, 4):
                exact, bound = exact_and_bound(x[m], w[n], 8)
                y = Fraction(float(single.view(np.float32)[m, n]))
                bound += max(abs(y) / (1 << 11), Fraction(1, 1 << 25))
                assert abs(Fraction(float(half.view(np.float16)[m, n])) - exact) <= bound


def test_against_binary64(stimulus):
    """A whole matrix, the sums exact to binary64; figures of the text at K = 4096."""
    x, w = stimulus.bits((4, 4096), "normal"), stimulus.bits((64, 4096), "normal")
    a, b = x.view(np.float16).astype(np.float64), w.view(np.float16).astype(np.float64)
    sizes = np.abs(a[:, None] * b[None])
    largest = sizes.reshape(4, 64, -1, 8).max(axis=-1).sum(axis=-1)
    error = np.abs(gemm(x, w, 8, Format.FP32).view(np.float32) - a @ b.T)
    assert (error <= 7.8e-6 * sizes.sum(axis=-1) + 1.1e-7 * largest).all()
    assert error.max() > 0


def numbers(bits, fmt):
    """Exact values of finite patterns."""
    operand = rule.decode(bits, fmt)
    return [Fraction(-int(s) if sign else int(s)) * Fraction(2) ** (int(e) - 137)
            for sign, e, s in zip(operand.sign, operand.exponent, operand.significand,
                                  strict=True)]


def bound_of_any_format(x, w, depth, weights):
    """The exact sum and the bound, where operands may be BF16 and weights anything."""
    least = Fraction(1, 1 << 126)

    def counted(value):
        return max(abs(value), least) if value else value
    sizes = [abs(a * b) for a, b in zip(x, w, strict=True)]
    largest = [counted(a) * counted(b) for a, b in zip(x, w, strict=True)]
    beats = range(0, len(x), depth)
    lanes, last = (8, 3) if weights in BYTE_FORMATS else (4, 2)
    roundings = (-(-len(beats) // lanes) + last) * V
    truncation = (depth - 1) * sum(max(largest[k:k + depth]) for k in beats) / (1 << 26)
    exact = sum(a * b for a, b in zip(x, w, strict=True))
    return exact, (roundings / (1 - roundings) * sum(sizes) + truncation
                   + Fraction(len(beats), 1 << 150))


def patterns(rng, count, fmt, temper):
    """Finite patterns: any number, small ones, or subnormals with a few that bring them up."""
    bits = rng.integers(0, 256 if fmt in BYTE_FORMATS else 1 << 16, count)
    if fmt == Format.BF16:
        exponent = {"any": rng.integers(64, 190, count), "low": rng.integers(0, 4, count),
                    "mixed": rng.choice([0, 0, 0, 1, 120, 180], count)}[temper]
        bits = bits & 0x807F | exponent << 7
    bits = bits.astype(np.uint8 if fmt in BYTE_FORMATS else np.uint16)
    operand = rule.decode(bits, fmt)
    return np.where(operand.exponent == rule.SPECIAL, 0, bits).astype(bits.dtype)


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
@pytest.mark.parametrize("temper, others", [("any", "any"), ("low", "mixed"), ("mixed", "mixed")])
def test_other_formats(seed, weights, temper, others):
    """BF16 operands with subnormals and products that underflow, against weights of each format."""
    rng = np.random.default_rng(seed)
    for k in (1, 8, 77, 400):
        for _ in range(8):
            x = patterns(rng, k, Format.BF16, temper)
            w = patterns(rng, k, weights, others)
            exact, bound = bound_of_any_format(numbers(x, Format.BF16), numbers(w, weights), 8,
                                               weights)
            y, = gemm(x[None], w[None], 8, Format.FP32, inputs=Format.BF16,
                      weights=weights).view(np.float32)[0].tolist()
            assert abs(Fraction(y) - exact) <= bound


def test_a_subnormal_that_leads_its_beat_needs_the_wider_bound():
    """2**-133 times 2**127 has the exponent of 2**-126 times 2**127: what lies below is lost."""
    x = np.array([0x0001] + 7 * [0x3F80], np.uint16)                 # 2**-133, seven times 1
    w = np.array([0x7F00] + 7 * [(1 - 25 + 127) << 7 | 0x7F], np.uint16)
    values = numbers(x, Format.BF16), numbers(w, Format.BF16)
    exact, bound = bound_of_any_format(*values, 8, Format.BF16)
    y, = gemm(x[None], w[None], 8, Format.FP32, inputs=Format.BF16,
              weights=Format.BF16).view(np.float32)[0].tolist()
    error = abs(Fraction(y) - exact)
    sizes = [abs(a * b) for a, b in zip(*values, strict=True)]
    narrow = 3 * V / (1 - 3 * V) * sum(sizes) + 7 * max(sizes) / (1 << 26)
    assert narrow < error <= bound


@pytest.mark.parametrize("group", [32, 128, 1000])
@pytest.mark.parametrize("temper", ["normal", "near"])
def test_scaled_groups(stimulus, temper, group):
    """INT8 weights: the sums of the groups have eight lanes; then G roundings at most."""
    rng, depth, k = stimulus.rng, 8, 1000
    groups = -(-k // group)
    x, w = stimulus.bits(k, temper), rng.integers(-128, 128, k).astype(np.int8)
    scales = rng.normal(size=groups).astype(np.float32)
    exact = bound = 0
    products = [Fraction(float(a)) * int(b) for a, b in zip(x.view(np.float16), w, strict=True)]
    h = groups * V / (1 - groups * V)
    for g, scale in enumerate(Fraction(float(s)) for s in scales):
        part = products[g * group:(g + 1) * group]
        beats = [[abs(p) for p in part[i:i + depth]] for i in range(0, len(part), depth)]
        roundings = (-(-len(beats) // 8) + 3) * V
        inner = (roundings / (1 - roundings) * sum(map(abs, part))
                 + (depth - 1) * sum(max(beat) for beat in beats) / (1 << 26))
        exact += scale * sum(part)
        bound += abs(scale) * ((1 + h) * inner + h * abs(sum(part)))
    got = gemm(x[None], w.view(np.uint8)[None], depth, Format.FP32, weights=Format.INT8,
               scales=scales.view(np.uint32)[None], scale_group=group)
    assert abs(Fraction(float(got.view(np.float32)[0, 0])) - exact) <= bound
