# SPDX-License-Identifier: BSD-2-Clause
"""The driver on a stack: one program for all channels, the bits of one channel."""

from dataclasses import replace

import numpy as np
import pytest

from logicpim.driver.experts import ExpertRunner
from logicpim.driver.ffn import FfnJob, FfnKernels
from logicpim.driver.kernel import Job, Kernels
from logicpim.driver.memory import Memory, load, load_quantised
from logicpim.driver.network import load_ffn, place
from logicpim.driver.quantise import quantise
from logicpim.llm.checkpoint import Checkpoint
from logicpim.llm.config import load_config
from logicpim.llm.decoder import NumpyExperts
from logicpim.sim.model.activation import activate
from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.model.gemm import gemm
from logicpim.spec.errors import CapacityError
from logicpim.spec.functions import Function
from logicpim.spec.isa import Format
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"].replace(formats=("fp16", "int8"))


def stack_of(channels, **changes):
    return SMALL.replace(name="stack", channels=channels, stack=True, **changes)


TIGHT = {"input_buffer_bytes": 256, "temp_buffer_bytes": 256}  # 8 lines each
WIDE = {"input_buffer_bytes": 1 << 14, "temp_buffer_bytes": 1 << 14}


class Counting(ReferenceDevice):
    """Full of noise; keeps the programs and what is written by the host."""

    def __init__(self, config):
        super().__init__(config)
        self.programs, self.written = [], 0
        noise = np.random.default_rng(3)
        for channel in range(config.channels):
            self.dram(channel)[:] = noise.integers(0, 256, config.capacity_bytes, np.uint8)

    def execute_stack(self, program):
        self.programs.append(program)
        return super().execute_stack(program)

    def write_buffer(self, channel, buffer, line, data):
        self.written += data.size
        super().write_buffer(channel, buffer, line, data)


def patterns(rng, *shape):
    return rng.standard_normal(shape).astype(np.float16).view(np.uint16)


@pytest.mark.parametrize("channels", [2, 4, 32])
def test_same_room_everywhere(channels, seed):
    """Each channel has as much room as the first, from the same address on; padding is zero."""
    config, rng = stack_of(channels), np.random.default_rng(seed)
    memory, device, unit = Memory(config), Counting(config), config.granule_elements
    memory.place_in(1, 9, 9, 0)
    for n, k in [(1, 9), (90, 21), (300, 8), (16, 16)]:
        matrix, w_bits = memory.place(n, k, 0, unit=unit), patterns(rng, n, k)
        load(device, matrix, w_bits)
        first = matrix.pieces[0]
        assert {p.address for p in matrix.pieces} == {first.address}
        assert [p.rows for p in matrix.pieces[:-1]] == [first.rows] * (len(matrix.pieces) - 1)
        assert sum(p.rows for p in matrix.pieces) == n
        assert len(matrix.pieces) == 1 or first.rows % unit == 0
        rows = -(-first.rows // config.tile.rows) * config.tile.rows
        for channel in range(channels):
            words = rows // config.tile.rows * -(-k // unit) * config.word_bytes
            held = device.dram(channel)[first.address * config.word_bytes:][:words]
            assert held.any() == (channel < len(matrix.pieces))


@pytest.mark.parametrize("channels, changes", [(2, {}), (4, TIGHT), (32, TIGHT)])
def test_products(channels, changes, seed):
    """Any size, K beyond a slice, weights of 8 bits with scales; one instruction for all."""
    rng, config = np.random.default_rng(seed), stack_of(channels, **changes)
    device, memory = Counting(config), Memory(config)
    jobs, wanted, depth = [], [], config.tile.depth
    for m, n, k in [(1, 1, 1), (3, 9, 7), (9, 70, 17), (5, 33, 90), (2, 3, 120), (17, 300, 30)]:
        x = patterns(rng, m, k)
        w, values = patterns(rng, n, k), rng.standard_normal((n, k))
        matrix = memory.place(n, k, n % 2)
        load(device, matrix, w)
        narrow = load_quantised(device, memory.place(n, k, 0, fmt=Format.INT8), values, 32)
        jobs += [Job(x, (matrix, matrix)), Job(x, (narrow,))]
        w8, scales = quantise(values, Format.INT8, 32)
        wanted += [[gemm(x, w, depth, Format.FP32)] * 2, [gemm(
            x, w8, depth, Format.FP32, weights=Format.INT8, scales=scales, scale_group=32)]]
    for found, expected in zip(Kernels(device).run(jobs), wanted, strict=True):
        for y, each in zip(found, expected, strict=True):
            assert np.array_equal(y, each)
    assert any(insn.dealt and len(on) == channels for p in device.programs for insn, on in p)
    for program in device.programs:  # nothing twice
        assert len({replace(insn, tag=0) for insn, _ in program}) == len(program)


def test_transposed(seed):
    """Its columns go to single channels, which have the operands whole."""
    rng, config = np.random.default_rng(seed), stack_of(4)
    device, memory = Counting(config), Memory(config)
    x, w = patterns(rng, 3, 30), patterns(rng, 70, 30)
    matrices = memory.place_transposed(70, 30, 0)
    for matrix, first in zip(matrices, range(0, 70, matrices[0].n), strict=True):
        load(device, matrix, w[first:first + matrix.n])
    parts, = Kernels(device).run([Job(x, matrices)])
    expected = gemm(x, w, config.tile.depth, Format.FP32)
    assert np.array_equal(np.concatenate(parts, axis=1), expected)


def test_too_deep():
    config = stack_of(2, **TIGHT)
    x, matrix = np.zeros((1, 8 * 8 * 2 + 1), np.uint16), Memory(config).place(1, 129, 0)
    with pytest.raises(CapacityError, match="K = 129 needs 9 operand lines, .* has 8"):
        Kernels(ReferenceDevice(config)).run([Job(x, (matrix,))])


def network(config, weights, xs, fmt=Format.FP16):
    device, (hidden, inner) = Counting(config), weights[2].shape
    ffn = place(Memory(config), hidden, inner, 0, 2, fmt)
    load_ffn(device, ffn, *weights)
    kernels = FfnKernels(Kernels(device), Function.SILU)
    jobs = [FfnJob(x, ffn) for x in xs]
    ys = kernels.run(jobs)
    programs = list(device.programs)
    return ys, kernels.inner(jobs), device, programs


@pytest.mark.parametrize("channels", [2, 4, 32])
@pytest.mark.parametrize("hidden, inner", [(1, 1), (21, 27), (40, 80), (150, 104)])
def test_network(channels, hidden, inner, seed):
    """One program from tokens to results; the bits of one channel."""
    rng = np.random.default_rng(seed)
    weights = [patterns(rng, inner, hidden), patterns(rng, inner, hidden),
               patterns(rng, hidden, inner)]
    xs = [patterns(rng, m, hidden) for m in (1, 5, 2)]
    ys, hs, device, programs = network(stack_of(channels, **WIDE), weights, xs)
    for x, y, h in zip(xs, ys, hs, strict=True):
        gate, up = (gemm(x, w, SMALL.tile.depth, Format.FP32) for w in weights[:2])
        expected = activate(Function.SILU, gate, up, input_format=Format.FP32)
        assert np.array_equal(h, expected)
        expected = gemm(expected, weights[2], SMALL.tile.depth, Format.FP32)
        assert np.array_equal(y.view(np.uint32), expected)
    on, = {tuple(on) for program in programs for _, on in program}
    assert len(programs) == 1 and len(on) <= channels
    # The host writes each token's patterns once: its lines, and what fills the last slice.
    lines = sum(-(-len(x) // 2) for x in xs) * (-(-hidden // 8) + channels)
    assert device.written <= 2 * lines * SMALL.line_bytes


@pytest.mark.parametrize("channels", [2, 4])
def test_network_of_bytes(channels, seed):
    """Operands for weights of 8 bits come in whole words of these."""
    rng = np.random.default_rng(seed)
    weights = [rng.integers(0, 256, shape, np.uint8) for shape in ((56, 21), (56, 21), (21, 56))]
    x = patterns(rng, 3, 21)
    (y,), *_ = network(stack_of(channels), weights, [x], Format.INT8)
    gate, up = (gemm(x, w, 4, Format.FP32, weights=Format.INT8) for w in weights[:2])
    h = activate(Function.SILU, gate, up, input_format=Format.FP32)
    assert np.array_equal(y.view(np.uint32),
                          gemm(h, weights[2], 4, Format.FP32, weights=Format.INT8))


def test_network_in_turns(seed):
    """What does not fit the slices together runs in several programs."""
    rng = np.random.default_rng(seed)
    weights = [patterns(rng, 30, 16), patterns(rng, 30, 16), patterns(rng, 16, 30)]
    xs = [patterns(rng, m, 16) for m in (3, 9)]
    wide, _, _, one = network(stack_of(4), weights, xs)
    narrow, _, _, more = network(stack_of(4, **TIGHT), weights, xs)
    assert len(one) < len(more)
    assert all(np.array_equal(a, b) for a, b in zip(wide, narrow, strict=True))


@pytest.mark.parametrize("m", [3, 4])
@pytest.mark.parametrize("temp", [1 << 10, 1 << 11])
def test_network_in_panels(m, temp, seed):
    """As many tokens as a pass serves in one program, gate and up a panel at a time."""
    rng, inner = np.random.default_rng(seed), 300
    weights = [patterns(rng, inner, 16), patterns(rng, inner, 16), patterns(rng, 16, inner)]
    x = patterns(rng, m, 16)
    (y,), (h,), _, one = network(stack_of(4, **WIDE), weights, [x])
    found, inside, _, programs = network(stack_of(4, temp_buffer_bytes=temp), weights, [x])
    assert len(one) == len(programs) == 1
    assert len(programs[0]) > len(one[0])
    assert np.array_equal(found[0], y) and np.array_equal(inside[0], h)


def test_an_expert_of_mixtral_in_panels():
    """24 tokens in one program on the paper's stack; its lines stay within the buffers."""
    config = PRESETS["paper"]
    ffn = place(Memory(config), 4096, 14336, 0, 4)
    kernels = FfnKernels(Kernels(ReferenceDevice(config)))
    for m, parts in ((8, [8]), (24, [24]), (32, [24, 8])):
        units = list(kernels._units(0, FfnJob(np.zeros((m, 4096), np.uint16), ffn)))
        assert [unit.m for unit in units] == parts
        for unit in units:
            assert unit.input_lines <= config.input_lines
            assert unit.temp_lines <= config.temp_lines


@pytest.mark.parametrize("functions", [True, False])
def test_experts(make_model, functions, seed):
    """A layer's experts: the same bits on one channel, on four, and on a stack of four or 32."""
    folder = make_model()
    config = load_config(folder)
    checkpoint = Checkpoint(folder, config)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((13, 21)).astype(np.float32)
    indices = np.array([rng.permutation(4)[:2] for _ in range(13)])
    weights = rng.random((13, 2)).astype(np.float32)
    base, found = replace(PRESETS["small"], functions=functions), []
    for changes in ({}, {"channels": 4}, {"channels": 4, "stack": True},
                    {"channels": 32, "stack": True}):
        runner = ExpertRunner(ReferenceDevice(base.replace(**changes)), config, checkpoint)
        found.append(runner(1, x, indices, weights))
        if changes:
            assert runner.total().programs == (1 + (not changes.get("stack") or not functions))
    assert all(np.array_equal(found[0], each) for each in found)
    exact = NumpyExperts(config, checkpoint)(1, x, indices, weights)
    assert np.abs(found[0] - exact).max() < 4e-3 * np.abs(exact).max()
