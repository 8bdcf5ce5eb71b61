# SPDX-License-Identifier: BSD-2-Clause
"""Further ways of the GEMM module: groups of scales, adding to what lies there, W[K, N]."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from logicpim.sim.model import layout
from logicpim.spec.isa import Format

_location = importlib.util.spec_from_file_location(
    "gemm_bench", Path(__file__).with_name("gemm_bench.py"))
bench = importlib.util.module_from_spec(_location)
_location.loader.exec_module(bench)
MIXED, SHAPES, SMALL, Work = bench.MIXED, bench.SHAPES, bench.SMALL, bench.Work
random_bits, random_scales, run = bench.random_bits, bench.random_scales, bench.run


@pytest.mark.parametrize("m", [1, pytest.param(3, marks=pytest.mark.full)])
def test_small_groups_of_scales(seed, m):
    """A word a group: blocks nearer than the sums that they add to each other; so where the first
    waits for what it is to be added to."""
    rng = np.random.default_rng(seed)
    config = MIXED.replace(formats=("fp16", "int8"))
    works = []
    for weights in (Format.INT8, Format.FP16, Format.INT8):
        x, w = random_bits(rng, (m, 70)), random_bits(rng, (5, 70), weights)
        groups = layout.scale_groups(config, 70, 1, weights)
        works.append(Work(config, x, w, Format.FP32, 40 * len(works), 40 * len(works), rng,
                          weights=weights, scales=random_scales(rng, (5, groups), 0),
                          scale_line=90 + 16 * len(works), scale_group=1,
                          accumulate=len(works) == 2))
    run(rng, config, works)


@pytest.mark.parametrize("config", [
    SMALL, pytest.param(SHAPES["deep"], marks=pytest.mark.full), MIXED],
    ids=["small", "deep", "mixed"])
def test_accumulates(seed, config):
    """Each job on the results of the one before, which may be on their way: short ones in a row
    behind a long one, and such that fill the drain."""
    rng = np.random.default_rng(seed)
    works, most, source = [], config.tile.max_tokens, 0
    one, long, many = (1, 1, 1), (most, config.tile.rows, 8), (most, 9, 9)
    for m, n, k in (one, many, many, long, one, one, one):
        works.append(Work(config, random_bits(rng, (m, k)), random_bits(rng, (n, k)), Format.FP32,
                          source, 0, rng, accumulate=len(works) > 1))
        source += layout.operand_lines(config, m, k)
    run(rng, config, works)


WIDE = SMALL.replace(tile=replace(SMALL.tile, groups=4), input_buffer_bytes=1 << 13)


def transposed(rng, config, sizes, **more):
    """Jobs with W[K, N] of such sizes, one behind the other."""
    works, source, result = [], 0, 0
    for i, (m, n, k) in enumerate(sizes):
        fmt = config.output_formats[i % len(config.output_formats)]
        works.append(Work(config, random_bits(rng, (m, k)), random_bits(rng, (n, k)), fmt, source,
                          result, rng, transpose=i % 5 != 4, **more))
        source += layout.operand_lines(config, m, k)
        result += layout.line_count(config, m, n, fmt)
    return works


@pytest.mark.parametrize("stalls", [{}, {"beat_stall": 0.3, "read_stall": 0.3, "job_stall": 0.5}])
def test_transposed(seed, stalls):
    """Any N and K, NaNs in the padding; every fifth is stored as usual."""
    rng = np.random.default_rng(seed)
    most, widest = WIDE.tile.tokens, WIDE.transposed_columns
    sizes = [(1, 1, 1), (2, 5, 4), (most, widest, 5), (1, 9, 8), (2, 7, 13), (most, widest, 33),
             *((int(rng.integers(1, most + 1)), int(rng.integers(1, widest + 1)),
                int(rng.integers(1, 40))) for _ in range(4))]
    run(rng, WIDE, transposed(rng, WIDE, sizes), **stalls)


@pytest.mark.parametrize("n", [4, 16])
def test_transposed_weights_stream(seed, n):
    """A beat a clock, however often an accumulator is met again."""
    rng = np.random.default_rng(seed)
    events, _ = run(rng, WIDE, transposed(rng, WIDE, [(2, n, 60)] * 2))
    active = events["active"]
    assert len(active) == 2 * 60 // 4 * 2 * -(-n // 8)
    assert active[-1] - active[0] == len(active) - 1


def test_transposed_beside_bytes(seed):
    """Accumulated, and between jobs of 8-bit weights."""
    rng = np.random.default_rng(seed)
    works = transposed(rng, MIXED, [(2, 8, 21), (4, 7, 6), (3, 5, 9)])
    works[1].accumulate, works[1].fmt = True, Format.FP32
    works[1].result, works[2].result = 0, 30
    x, w = random_bits(rng, (2, 40)), random_bits(rng, (5, 40), Format.INT8)
    works.insert(1, Work(MIXED, x, w, Format.FP32, 60, 60, rng, weights=Format.INT8))
    run(rng, MIXED, works)
