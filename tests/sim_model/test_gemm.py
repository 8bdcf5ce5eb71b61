# SPDX-License-Identifier: BSD-2-Clause
"""The fast GEMM against the rule in fractions, and the promises on batch, tiling and memory."""

import tracemalloc

import numpy as np
import pytest

from logicpim.sim.model import gemm as module
from logicpim.sim.model.gemm import gemm
from logicpim.spec.isa import Format

TEMPERS = ["any", "finite", "normal", "near", "wide", "cancel", "subnormal", "zeros",
           "special"]


@pytest.mark.parametrize("temper", TEMPERS)
@pytest.mark.parametrize("depth", [4, 8, 16, 32])
def test_against_the_prose(oracle, stimulus, depth, temper):
    m, n, k = stimulus.rng.integers(1, [4, 5, 6 * depth])
    x, w = stimulus.bits((m, k), temper), stimulus.bits((n, k), temper)
    for fmt in (Format.FP16, Format.FP32):
        got = gemm(x, w, depth, fmt)
        assert got.dtype == (np.uint16 if fmt == Format.FP16 else np.uint32)
        assert got.tolist() == oracle.gemm(x, w, depth, fmt == Format.FP16).tolist()


@pytest.mark.parametrize("k", [1, 3, 7, 8, 9, 31, 32, 33, 40, 64, 65])
def test_reductions_around_a_beat(oracle, stimulus, k):
    x, w = stimulus.bits((2, k), "finite"), stimulus.bits((3, k), "finite")
    assert gemm(x, w, 8, Format.FP32).tolist() == oracle.gemm(x, w, 8, False).tolist()


@pytest.mark.parametrize("temper", TEMPERS)
def test_against_the_steps(by_rule, stimulus, temper):
    """More elements than the fractions could do, in chunks of every size."""
    for depth in (1, 2, 4, 8, 16, 32):
        m, n, k = stimulus.rng.integers(1, [20, 40, 20 * depth])
        x, w = stimulus.bits((m, k), temper), stimulus.bits((n, k), temper)
        assert (gemm(x, w, depth, Format.FP32) == by_rule(x, w, depth)).all()


@pytest.mark.parametrize("name, value", [("_CHUNK", 1), ("_CHUNK", 700), ("_TOKENS", 3),
                                         ("_WEIGHTS", 1), ("_WEIGHTS", 999), ("_ROWS", 5)])
def test_chunks_do_not_matter(monkeypatch, by_rule, stimulus, name, value):
    x, w = stimulus.bits((10, 150), "special"), stimulus.bits((13, 150), "finite")
    expected = by_rule(x, w, 8)
    monkeypatch.setattr(module, name, value)
    assert (gemm(x, w, 8, Format.FP32) == expected).all()


def test_the_largest_terms_fit(oracle):
    for depth in (8, 16, 32):
        for sign in (0, 0x8000):
            x = np.full((2, 5 * depth), 0x7BFF, np.uint16)
            w = np.full((1, 5 * depth), 0x7BFF | sign, np.uint16)
            got = gemm(x, w, depth, Format.FP32)
            assert got.tolist() == oracle.gemm(x, w, depth, False).tolist()
            assert (gemm(x, w, depth) == 0x7C00 | sign).all()


@pytest.mark.parametrize("temper", ["finite", "special"])
def test_a_token_alone_has_the_bits_it_has_in_a_batch(stimulus, temper):
    x, w = stimulus.bits((9, 333), temper), stimulus.bits((40, 333), temper)
    batch = gemm(x, w, 8)
    for token in range(9):
        assert (gemm(x[token:token + 1], w, 8) == batch[token]).all()


@pytest.mark.parametrize("temper", ["finite", "special"])
def test_rows_may_be_dealt_in_any_way(stimulus, temper):
    x, w = stimulus.bits((3, 333), temper), stimulus.bits((41, 333), temper)
    whole = gemm(x, w, 8)
    cuts = np.sort(stimulus.rng.integers(0, 42, 5))
    parts = [gemm(x, part, 8) for part in np.split(w, cuts)]
    assert (np.concatenate(parts, axis=1) == whole).all()
    order = stimulus.rng.permutation(41)
    assert (gemm(x, w[order], 8) == whole[:, order]).all()


def test_zeros_behind_the_reduction_change_nothing(stimulus):
    x, w = stimulus.bits((3, 50), "finite"), stimulus.bits((4, 50), "finite")
    longer = [np.pad(a, ((0, 0), (0, 77))) for a in (x, w)]
    assert (gemm(x, w, 8) == gemm(*longer, 8)).all()


def test_the_order_of_beats_matters(stimulus):
    """Else the tests above would prove little."""
    x, w = stimulus.bits((4, 512), "normal"), stimulus.bits((8, 512), "normal")
    order = np.arange(512).reshape(64, 8)[stimulus.rng.permutation(64)].reshape(-1)
    assert (gemm(x, w, 8, Format.FP32) != gemm(x[:, order], w[:, order], 8, Format.FP32)).any()


def test_nothing_to_add_gives_plus_zero():
    none = np.zeros((2, 0), np.uint16)
    assert gemm(none, none, 8, Format.FP32).tolist() == [[0, 0], [0, 0]]
    assert gemm(np.zeros((0, 5), np.uint16), np.zeros((3, 5), np.uint16), 8).shape == (0, 3)
    minus = np.full((1, 9), 0x8000, np.uint16)
    assert gemm(minus, np.full((1, 9), 0x3C00, np.uint16), 8, Format.FP32) == 0


def test_operands_stay_untouched_and_need_not_be_contiguous(stimulus):
    x, w = stimulus.bits((40, 6), "finite").T, stimulus.bits((5, 80), "finite")[:, ::2]
    before = x.copy(), w.copy()
    assert (gemm(x, w, 8) == gemm(np.ascontiguousarray(x), np.ascontiguousarray(w), 8)).all()
    assert (x == before[0]).all() and (w == before[1]).all()


def test_memory_of_a_large_one(stimulus):
    x, w = stimulus.bits((8, 4096), "normal"), stimulus.bits((1024, 4096), "normal")
    tracemalloc.start()
    gemm(x, w, 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.parametrize("x, w, error", [
    (np.zeros((2, 3), np.float16), np.zeros((2, 3), np.uint16), TypeError),
    (np.zeros((2, 3), np.uint16), np.zeros((2, 4), np.uint16), ValueError),
    (np.zeros(3, np.uint16), np.zeros((2, 3), np.uint16), ValueError),
])
def test_refuses(x, w, error):
    with pytest.raises(error):
        gemm(x, w, 8)


@pytest.mark.parametrize("count", [64, pytest.param(1024, marks=pytest.mark.full)])
def test_products_of_every_pattern(stimulus, count):
    """K = 1: the product itself, which binary32 holds; a zero is +0."""
    every = np.arange(1 << 16, dtype=np.uint16)
    for _ in range(count // 64):
        w = stimulus.bits(64, "any")
        with np.errstate(invalid="ignore"):
            product = np.multiply.outer(every.view(np.float16).astype(np.float32),
                                        w.view(np.float16).astype(np.float32)) + np.float32(0)
        expected = np.where(np.isnan(product), np.uint32(0x7FC00000), product.view(np.uint32))
        assert (gemm(every[:, None], w[:, None], 8, Format.FP32) == expected).all()
