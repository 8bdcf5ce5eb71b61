# SPDX-License-Identifier: BSD-2-Clause
"""The GEMM module against the model: any sizes, stalls on both sides, jobs back to back."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from logicpim.rtl.pim.drain import Drain
from logicpim.sim.model import layout
from logicpim.spec.config import Tile
from logicpim.spec.errors import ConfigError
from logicpim.spec.isa import Format
from logicpim.spec.presets import load_config

_location = importlib.util.spec_from_file_location(
    "gemm_bench", Path(__file__).with_name("gemm_bench.py"))
bench = importlib.util.module_from_spec(_location)
_location.loader.exec_module(bench)
MIXED, SHAPES, SMALL, Work = bench.MIXED, bench.SHAPES, bench.SMALL, bench.Work
jobs, random_bits, random_scales, random_sizes = (
    bench.jobs, bench.random_bits, bench.random_scales, bench.random_sizes)
run, shaped = bench.run, bench.shaped


@pytest.mark.parametrize("stalls", [{}, {"beat_stall": 0.4}, {"read_stall": 0.4},
                                    {"beat_stall": 0.4, "read_stall": 0.4, "job_stall": 0.9}])
def test_random_jobs(seed, stalls):
    rng = np.random.default_rng(seed)
    works = list(jobs(rng, SMALL, random_sizes(rng, SMALL, 4)))
    run(rng, SMALL, works, **stalls)


@pytest.mark.parametrize("shape", [
    "one token", "one group", pytest.param("deep", marks=pytest.mark.full),
    pytest.param("tokens", marks=pytest.mark.full)])
def test_shapes(seed, shape):
    rng = np.random.default_rng(seed)
    config = SHAPES[shape]
    works = list(jobs(rng, config, random_sizes(rng, config, 3)))
    run(rng, config, works, beat_stall=0.1, read_stall=0.1)


def test_small_jobs(seed):
    """One element of everything, and jobs that end while the next one starts."""
    rng = np.random.default_rng(seed)
    sizes = [(1, 1, 1)] * 5 + [(1, 1, 9), (2, 4, 8), (3, 5, 8), (1, 1, 1), (4, 4, 8), (1, 1, 1)]
    run(rng, SMALL, list(jobs(rng, SMALL, sizes)))


@pytest.mark.parametrize("config, m, k", [
    (SMALL, 2, 32), (SMALL, 4, 40), (SHAPES["one group"], 4, 7), (SHAPES["two groups"], 8, 7)],
    ids=["one group streams", "two groups stream", "one group drains", "two groups drain"])
def test_throughput(seed, config, m, k):
    """A beat a clock, or a token a clock where results take longer to drain than to compute."""
    rng = np.random.default_rng(seed)
    count, blocks = 2, 4
    works = list(jobs(rng, config, [(m, blocks // count * config.tile.rows, k)] * count))
    events, done = run(rng, config, works)
    beats = 2 * -(-k // config.granule_elements) * -(-m // config.tile.tokens)
    slower = max(beats, m)
    active = events["active"]
    first, last = active[0], active[-1]
    assert len(active) == beats * blocks
    assert last - first == 2 * beats + (blocks - 2) * slower - 1
    assert len(events["stall_output"]) == last - first + 1 - len(active)
    assert done[-1] - first == beats + (blocks - 1) * slower + m + Drain(config).latency - 2


@pytest.mark.parametrize("formats", [("fp16",), ("fp16", "int8")])
def test_page_is_taken_while_its_last_token_leaves(seed, formats):
    """Two groups of tokens leave a page for which a job of one group waits, and takes at once.

    Its fifth beat adds to what its first one left, when the last token is about to be picked.
    """
    rng = np.random.default_rng(seed)
    config = SMALL.replace(formats=formats, tile=Tile(tokens=4, rows=4, depth=4, groups=2))
    works, lines = [], 0
    for m, k in [(8, 1), (1, 80), (7, 1), (4, 80)]:
        works.append(Work(config, random_bits(rng, (m, k)), random_bits(rng, (17, k)),
                          Format.FP32, lines, lines, rng))
        lines += layout.line_count(config, m, 17, Format.FP32) + layout.operand_lines(config, m, k)
    events, _ = run(rng, config, works)
    assert events["stall_output"]


def test_waits_for_weights(seed):
    rng = np.random.default_rng(seed)
    works = list(jobs(rng, SMALL, [(2, 4, 80)]))
    events, _ = run(rng, SMALL, works, beat_stall=0.5)
    active, stalled = events["active"], events["stall_weights"]
    between = set(range(active[0], active[-1] + 1)) - set(active)
    assert len(between) > 5
    assert between <= set(stalled), "a step waits for its weights alone"


UNEVEN = {"beat_stall": 0.2, "read_stall": 0.2, "job_stall": 0.5}


@pytest.mark.parametrize("formats, stalls", [
    (("fp16", "bf16"), {}), (("fp16", "int8"), UNEVEN), (MIXED.formats, {}),
    pytest.param(MIXED.formats, UNEVEN, marks=pytest.mark.full)])
def test_formats(seed, formats, stalls):
    """Jobs of all formats behind each other, with few tokens and with many."""
    rng = np.random.default_rng(seed)
    config = MIXED.replace(formats=formats)
    works = list(jobs(rng, config, random_sizes(rng, config, 7)))
    run(rng, config, works, **stalls)


@pytest.mark.parametrize("tokens, m", [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (4, 3)])
def test_bytes_of_any_tile(seed, tokens, m):
    rng = np.random.default_rng(seed)
    config = MIXED.replace(formats=("fp16", "int8"), tile=Tile(tokens=tokens, rows=4, depth=4,
                                                               groups=2))
    sizes = [(m, int(rng.integers(1, 10)), k) for k in (1, 8, 9, 16, 17, 45)]
    sizes += [(1, 40, 3), (m, 30, 1)]       # many blocks in the drain, each with its scales
    run(rng, config, list(jobs(rng, config, sizes)))


@pytest.mark.parametrize("m, group", [(1, None), (2, 4), (1, 2), (3, 4)])
def test_bytes_deliver_their_bandwidth(seed, m, group):
    """A beat a clock; if reshaped, a clock more for each line of scales behind the first."""
    rng = np.random.default_rng(seed)
    config = MIXED.replace(formats=("fp16", "int8"))
    x, w = random_bits(rng, (m, 160), Format.FP16), random_bits(rng, (12, 160), Format.INT8)
    work, lines = Work(config, x, w, Format.FP32, 0, 0, rng, weights=Format.INT8), 0
    if group:
        groups = layout.scale_groups(config, 160, group, Format.INT8)
        work.scales, lines = random_scales(rng, (12, groups), 0), layout.scale_lines(
            config, 12, groups)
        work.scale_group, work.scale_line = group, 100
    events, _ = run(rng, config, [work])
    active, beats = events["active"], 2 * 160 // (2 * config.granule_elements) * 3
    reshaped = m <= config.tile.tokens // 2
    assert len(active) == beats * (1 if reshaped else 2)
    assert active[-1] - active[0] == len(active) - 1 + (max(0, lines - 1) if reshaped else 0)


OPERATIONS_A_BYTE = [1, 2, 4, 8, *(pytest.param(n, marks=pytest.mark.full) for n in (16, 32))]


@pytest.mark.parametrize("tokens", OPERATIONS_A_BYTE)
def test_tokens_are_operations_a_byte(seed, tokens):
    """Each weight of 16 bits is used for ``tile.tokens`` multiply-adds, and all else follows."""
    channel = load_config("channel", [f"tile.tokens={tokens}"])
    assert 2 * channel.tile.macs / channel.beat_bytes == tokens
    assert channel.input_lines * tokens * channel.granule_bytes == channel.input_buffer_bytes
    rng = np.random.default_rng(seed)
    config = shaped(tokens=tokens, rows=2, depth=4, groups=2, banks=2).replace(
        formats=("fp16", "int8"), input_buffer_bytes=1 << 14, temp_buffer_bytes=1 << 14)
    sizes = [(max(1, m), 3, 19) for m in (tokens // 2, tokens, 2 * tokens)]
    run(rng, config, list(jobs(rng, config, sizes)))


@pytest.mark.parametrize("rows, depth, reason", [
    (8, 4, "tile.rows 8 must divide tile.depth 4"), (3, 8, "tile.rows must be a power of two"),
    (8, 64, "tile.depth must be a power of two from 4 to 32")])
def test_illegal_tiles(rows, depth, reason):
    with pytest.raises(ConfigError, match=reason):
        shaped(tokens=2, rows=rows, depth=depth, groups=2, banks=8)
