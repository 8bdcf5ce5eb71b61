"""Decode attention: near plain arithmetic; the same bits wherever the cache lies, in company."""

import dataclasses

import numpy as np
import pytest

from logicpim.driver.attention import AttentionKernel, Request
from logicpim.driver.kernel import Kernels
from logicpim.driver.kv_cache import HeadForm, KvCache, append, load
from logicpim.driver.memory import Memory
from logicpim.driver.stats import Stats
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.errors import CapacityError
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"].replace(dram=dataclasses.replace(PRESETS["small"].dram, rows=512))
CHANNEL = PRESETS["channel"]


class Batch:
    """Sequences of random keys, values and queries; ``sizes`` are (heads, group, key, value)."""

    def __init__(self, seed, contexts, sizes, sinks=False):
        rng = np.random.default_rng(seed)
        self.contexts, self.sizes = contexts, sizes
        self.heads, group, *wide = sizes
        self.data = [[tuple(rng.standard_normal(shape).astype(np.float16) for shape in (
            (group, wide[0]), (context, wide[0]), (context, wide[1]))) for _ in range(self.heads)]
            for context in contexts]
        self.sinks = 2 * rng.standard_normal(group) if sinks else None
        self.scale = float(np.float32(wide[0] ** -0.5))

    def run(self, config, bundles=1, only=None, before=(), stats=None):
        """Results by sequence and head; ``before`` are contexts that came first and went, ``only``
        the sequences that run. Old data is everywhere."""
        device = ReferenceDevice(config)
        device.dram(0)[:1 << 22] = 0xFF  # not a number
        cache, form = KvCache(config, Memory(config), bundles), HeadForm(config, *self.sizes[2:])
        gone = [cache.heads(form, 1, 0, 0, 1) for _ in before]
        for heads, context in zip(gone, before, strict=True):
            cache.grow(heads, context)
        for heads in gone[::2]:
            cache.release(heads)
        requests = []
        for number, (context, data) in enumerate(zip(self.contexts, self.data, strict=True)):
            if only is not None and number not in only:
                continue
            heads = cache.heads(form, self.heads, number, 0, 1)
            for head, (q, k, v) in zip(heads, data, strict=True):
                q, k, v = (x.view(np.uint16) for x in (q, k, v))
                loaded = context // 2
                cache.grow([head], max(1, loaded))
                load(device, head, k[:loaded], v[:loaded])
                cache.grow([head], context)
                append(device, [(head, t, k[t], v[t]) for t in range(loaded, context)])
                requests.append(Request(head, context, q, self.scale, self.sinks))
        return AttentionKernel(Kernels(device)).run(requests, stats)

    def exact(self):
        """Likewise in float64."""
        found = []
        for q, k, v in (head for data in self.data for head in data):
            q, k, v = (x.astype(float) for x in (q, k, v))
            scores = q @ k.T * self.scale
            top = scores.max(axis=1, keepdims=True)
            shares = np.exp(scores - top)
            total = shares.sum(axis=1, keepdims=True)
            if self.sinks is not None:
                total += np.exp(self.sinks[:, None] - top)
            found.append(shares / total @ v)
        return found


def judge(found, exact):
    for y, e in zip(found, exact, strict=True):
        # Weights rounded to 11 bits each.
        assert y.dtype == np.float32 and np.abs(y - e).max() < 1e-3 * max(1, np.abs(e).max()) + 2e-4


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("config, bundles", [(SMALL, 2), (CHANNEL, 4)])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 3, 9, 5), (1, 16, 8, 40), (5, 4, 17, 12)])
def test_near_float64(config, bundles, sizes, sinks, seed):
    batch, stats = Batch(seed, [1, 9, 30, 129], sizes, sinks), Stats()
    judge(batch.run(config, bundles, stats=stats), batch.exact())
    heads, group, *wide = sizes
    assert stats.weight_bytes == 2 * heads * sum(batch.contexts) * sum(wide)
    assert stats.macs == stats.weight_bytes // 2 * group


@pytest.mark.parametrize("contexts", [[128], [129], [300, 20, 256, 400]])
def test_longer_than_the_buffers(contexts, seed):
    """Cut into pieces of 128 tokens here; as far as it fits, no scores are read."""
    batch, stats = Batch(seed, contexts, (2, 5, 12, 9)), Stats()
    assert HeadForm(SMALL, 12, 9).piece == 128
    judge(batch.run(SMALL, 2, stats=stats), batch.exact())
    assert (stats.programs == 1) == (contexts == [128])


def test_company_and_place_change_no_bit(seed):
    for sinks in (False, True):
        batch = Batch(seed, [31, 200, 5, 77], (2, 3, 9, 20), sinks)
        first = np.array(batch.run(SMALL, 1))
        for config, more in ((SMALL, {"bundles": 2, "before": [60, 8, 300, 90, 17]}),
                             (SMALL.replace(channels=4), {"bundles": 1})):
            assert np.array_equal(first, batch.run(config, **more))
        for number in range(4):
            assert np.array_equal(first[2 * number:2 * number + 2],
                                  batch.run(SMALL, only=[number], before=[100, 3, 40]))


def test_context_without_room(seed):
    device, form = ReferenceDevice(SMALL), HeadForm(SMALL, 4, 4)
    cache = KvCache(SMALL, Memory(SMALL), 2)
    head, = cache.heads(form, 1, 0, 0, 1)
    cache.grow([head], 8)
    for tokens in (0, 9):
        with pytest.raises(CapacityError, match=f"context of {tokens} tokens: from 1 to the 8"):
            AttentionKernel(Kernels(device)).run(
                [Request(head, tokens, np.zeros((1, 4), np.uint16), 1.0)])
