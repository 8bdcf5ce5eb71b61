# SPDX-License-Identifier: BSD-2-Clause
"""Gated networks in one program: near plain arithmetic, the same on any device that fits them."""

from dataclasses import replace

import numpy as np
import pytest

from logicpim.driver.ffn import FfnJob, FfnKernels, blocks
from logicpim.driver.kernel import Kernels
from logicpim.driver.memory import Memory
from logicpim.driver.network import load_ffn, place
from logicpim.driver.stats import Stats
from logicpim.sim.model.activation import activate
from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.model.gemm import gemm
from logicpim.spec.errors import CapacityError
from logicpim.spec.functions import Function
from logicpim.spec.isa import Format
from logicpim.spec.presets import PRESETS

SMALL, CHANNEL = PRESETS["small"], PRESETS["channel"]


class Counting(ReferenceDevice):
    """Counts programs and bytes read."""

    def __init__(self, config):
        super().__init__(config)
        self.programs = self.read = 0

    def execute(self, programs):
        self.programs += 1
        return super().execute(programs)

    def read_buffer(self, channel, buffer, line, size):
        self.read += size
        return super().read_buffer(channel, buffer, line, size)


def matrices(rng, hidden, inner):
    """gate, up, down as FP16 patterns."""
    return [(rng.normal(0, 1, shape) * shape[1] ** -0.5).astype(np.float16).view(np.uint16)
            for shape in ((inner, hidden), (inner, hidden), (hidden, inner))]


def run(config, weights, xs, function=Function.SILU, kind=Counting, bundles=1):
    device, memory = kind(config), Memory(config)
    hidden, inner = weights[2].shape
    ffn = place(memory, hidden, inner, 0, bundles)
    load_ffn(device, ffn, *weights)
    stats = Stats()
    y = FfnKernels(Kernels(device), function).run([FfnJob(x, ffn) for x in xs], stats)
    return y, device, stats


def patterns(rng, *shape):
    return rng.normal(0, 1, shape).astype(np.float16).view(np.uint16)


@pytest.mark.parametrize("config, bundles", [(SMALL, 1), (SMALL, 2), (CHANNEL, 4)])
@pytest.mark.parametrize("m, hidden, inner", [(1, 1, 1), (3, 21, 27), (2, 24, 80), (9, 40, 33)])
def test_one_channel_is_the_models_bits(config, bundles, m, hidden, inner, seed):
    rng = np.random.default_rng(seed)
    weights, x = matrices(rng, hidden, inner), patterns(rng, m, hidden)
    for function in (Function.SILU, Function.SWIGLU):
        (y,), device, stats = run(config, weights, [x], function, bundles=bundles)
        depth = config.tile.depth
        gate, up = (gemm(x, w, depth, Format.FP32) for w in weights[:2])
        h = activate(function, gate, up, input_format=Format.FP32)
        assert (y.view(np.uint32) == gemm(h, weights[2], depth, Format.FP32)).all()
        assert stats.programs == device.programs and stats.weight_bytes == 6 * hidden * inner
        assert stats.macs == 3 * m * hidden * inner


def test_near_float64(seed):
    rng = np.random.default_rng(seed)
    weights, x = matrices(rng, 100, 150), patterns(rng, 5, 100)
    gate, up, down = (w.view(np.float16).astype(float) for w in weights)
    value = x.view(np.float16).astype(float)
    g = value @ gate.T
    exact = (g / (1 + np.exp(-g)) * (value @ up.T)) @ down.T
    (y,), *_ = run(CHANNEL, weights, [x])
    # One rounding of the activations to 11 bits, in a sum of 150.
    assert np.abs(y - exact).max() < 1e-3 * np.abs(exact).max()


@pytest.mark.parametrize("channels", [2, 4])
def test_channels(channels, seed):
    """A channel's part is that of its rows; the parts are added in order."""
    rng = np.random.default_rng(seed)
    hidden, inner, m = 21, 37, 5
    weights, x = matrices(rng, hidden, inner), patterns(rng, m, hidden)
    (y,), *_ = run(SMALL.replace(channels=channels), weights, [x])
    expected = np.full((m, hidden), -0.0, np.float32)
    for piece in Memory(SMALL.replace(channels=channels)).place(inner, hidden, 0).pieces:
        rows = slice(piece.first_row, piece.first_row + piece.rows)
        part = [weights[0][rows], weights[1][rows], weights[2][:, rows]]
        expected += run(SMALL, part, [x])[0][0]
    assert np.array_equal(y.view(np.uint32), expected.view(np.uint32))


def test_buffers_change_no_bit(seed):
    """What does not fit together runs in turn; only the last results leave the device."""
    rng = np.random.default_rng(seed)
    weights = matrices(rng, 16, 40)
    xs = [patterns(rng, m, 16) for m in (3, 8, 1)]
    tight = SMALL.replace(input_buffer_bytes=256, temp_buffer_bytes=1024)
    wide, device, _ = run(SMALL, weights, xs)
    narrow, other, _ = run(tight, weights, xs)
    assert device.programs < other.programs
    assert all(np.array_equal(a, b) for a, b in zip(wide, narrow, strict=True))
    assert device.read == sum(-(-len(x) // 2) for x in xs) * 16 // 4 * SMALL.line_bytes
    with pytest.raises(CapacityError, match="enlarge them"):
        run(SMALL.replace(input_buffer_bytes=128), weights, xs)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("m", [3, 4, 7])
def test_panels_change_no_bit(channels, m, seed):
    """Of tokens for whose gate and up there is no room at once; channels of unequal rows."""
    rng = np.random.default_rng(seed)
    weights, x = matrices(rng, 16, 90), patterns(rng, m, 16)
    base = SMALL.replace(channels=channels, temp_buffer_bytes=1 << 14)
    wide, one, _ = run(base, weights, [x])
    tight, other, _ = run(base.replace(temp_buffer_bytes=2048 // channels), weights, [x])
    assert np.array_equal(wide[0], tight[0])
    assert one.programs == 1 and other.programs == -(-m // 4)


@pytest.mark.parametrize("m", [1, 8, 32])
@pytest.mark.parametrize("k", [16, 500, 4096])
@pytest.mark.parametrize("inner", [1, 15, 16, 17, 448, 1000])
def test_blocks(inner, k, m):
    """Each begins at a granule; together they are all; deep ones leave little for the end."""
    parts = blocks(CHANNEL, inner, k, m)
    assert [first for first, _ in parts] == [sum(n for _, n in parts[:i])
                                             for i in range(len(parts))]
    assert sum(n for _, n in parts) == inner
    assert all(first % CHANNEL.granule_elements == 0 for first, _ in parts)
    if k == 16:
        assert len(parts) == 1
    if k == 4096:
        assert parts[-1][1] <= CHANNEL.granule_elements
        # A block's activation (9 clocks for 8 elements) while the next streams 64 weights a clock.
        for (_, n), (_, behind) in zip(parts, parts[1:], strict=False):
            assert m * -(-n // 8) * 9 <= -(-behind // 8) * 8 * k // 64 * -(-m // 8)


def test_any_format_of_weights(seed):
    """8-bit weights: a group's operand lines are padded to whole words."""
    config = SMALL.replace(formats=("fp16", "int8"))
    rng = np.random.default_rng(seed)
    weights = [rng.integers(0, 256, shape, np.uint8) for shape in ((27, 21), (27, 21), (21, 27))]
    x, memory, device = patterns(rng, 3, 21), Memory(config), ReferenceDevice(config)
    ffn = place(memory, 21, 27, 0, fmt=Format.INT8)
    load_ffn(device, ffn, *weights)
    y, = FfnKernels(Kernels(device), Function.RELU).run([FfnJob(x, ffn)])
    gate, up = (gemm(x, w, 4, Format.FP32, weights=Format.INT8) for w in weights[:2])
    h = activate(Function.RELU, gate, up, input_format=Format.FP32)
    assert (y.view(np.uint32) == gemm(h, weights[2], 4, Format.FP32, weights=Format.INT8)).all()
    assert replace(ffn.gate).format == Format.INT8
