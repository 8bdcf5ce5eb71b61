# SPDX-License-Identifier: BSD-2-Clause
"""The error bound of docs/arithmetic.md: it holds, and is nearly attained."""

from fractions import Fraction

import numpy as np
import pytest

from logicpim.sim.model.gemm import gemm
from logicpim.spec.isa import Format

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
