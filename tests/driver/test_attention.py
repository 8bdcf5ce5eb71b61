# SPDX-License-Identifier: BSD-2-Clause
"""Decode attention: near plain arithmetic, the same bits on any channels."""

import numpy as np
import pytest

from logicpim.driver.attention import AttentionKernel, place
from logicpim.driver.kernel import Kernels
from logicpim.driver.memory import Memory, load
from logicpim.driver.stats import Stats
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.errors import CapacityError
from logicpim.spec.presets import PRESETS

SMALL, CHANNEL = PRESETS["small"], PRESETS["channel"]


def run(config, q, k, v, bundles=1):
    """Results, and what they cost; q [heads, group, size], k and v [heads, context, size]."""
    device = ReferenceDevice(config)
    heads = place(Memory(config), *k.shape, bundles)
    for head, keys, values in zip(heads, k, v, strict=True):
        load(device, head.keys, keys)
        load(device, head.values, np.ascontiguousarray(values.T))
    stats = Stats()
    y = AttentionKernel(Kernels(device)).run(heads, q, float(np.float32(q.shape[2] ** -0.5)), stats)
    return y, stats


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float16).view(np.uint16) for shape in shapes]


@pytest.mark.parametrize("config, bundles", [(SMALL, 2), (CHANNEL, 4)])
@pytest.mark.parametrize("heads, group, context, size", [
    (1, 1, 1, 1), (2, 3, 9, 5), (4, 2, 30, 8), (5, 4, 17, 12)])
def test_near_float64(config, bundles, heads, group, context, size, seed):
    bits = draw(seed, (heads, group, size), (heads, context, size), (heads, context, size))
    y, stats = run(config, *bits, bundles)
    q, k, v = (b.view(np.float16).astype(float) for b in bits)
    scores = np.exp(q @ k.transpose(0, 2, 1) * size ** -0.5)
    exact = scores / scores.sum(axis=2, keepdims=True) @ v
    # Weights rounded to 11 bits each.
    assert np.abs(y - exact).max() < 1e-3 * np.abs(v).max()
    assert stats.programs == 1 and stats.weight_bytes == 4 * heads * context * size


def test_channels_change_no_bit(seed):
    bits = draw(seed, (5, 3, 8), (5, 20, 8), (5, 20, 8))
    one, more = (run(SMALL.replace(channels=c), *bits)[0] for c in (1, 4))
    assert np.array_equal(one, more)


def test_context_too_long():
    bits = draw(1, (1, 2, 4), (1, 400, 4), (1, 400, 4))
    with pytest.raises(CapacityError, match="shorten the context"):
        run(SMALL, *bits)
