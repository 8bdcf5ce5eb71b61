"""The KV cache: whole granules, each once, wherever sequences come and go."""

import dataclasses

import numpy as np
import pytest

from logicpim.driver.kv_cache import HeadForm, KvCache, append, load
from logicpim.driver.memory import Memory
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.errors import CapacityError
from logicpim.spec.presets import PRESETS

CHANNEL = PRESETS["channel"]
SMALL = PRESETS["small"].replace(
    channels=2, dram=dataclasses.replace(PRESETS["small"].dram, rows=256, ranks=2))
FORMS = [(CHANNEL, 128, 128), (CHANNEL, 576, 512), (CHANNEL, 80, 33), (SMALL, 8, 8), (SMALL, 7, 19)]


@pytest.mark.parametrize("config, head_dim, value_dim", FORMS)
def test_form(config, head_dim, value_dim):
    """Extents cover a context, double and begin at whole granules of weights; pieces at extents."""
    form = HeadForm(config, head_dim, value_dim)
    assert sum(wide for _, wide, _ in form.panels) == value_dim
    assert max(wide for _, wide, _ in form.panels) <= config.transposed_columns
    extents = form.extents(3 * form.piece)
    for (first, size), (after, _) in zip(extents, extents[1:], strict=False):
        assert first + size == after and size == max(extents[0][1], min(first, form.piece // 4))
    starts = {first for first, _ in extents}
    assert {0, form.piece, 2 * form.piece} <= starts
    assert not any(first % config.granule_elements for first in starts)
    assert form.extents(1) == extents[:1]


@pytest.mark.parametrize("config, head_dim, value_dim", FORMS)
@pytest.mark.parametrize("bundles", [1, 2])
def test_granules(config, head_dim, value_dim, bundles):
    """A token is as many granules as its elements fill, none of them another's."""
    form = HeadForm(config, head_dim, value_dim)
    cache = KvCache(config, Memory(config), bundles)
    each = form.key_words + sum(words for *_, words in form.panels)
    seen = set()
    for number in range(2):
        heads = cache.heads(form, 2, number, 0, 1)
        cache.grow(heads, 70)
        for head in heads:
            for token in range(70):
                at, data = head.granules(token, np.full(head_dim, 0x3C00, np.uint16),
                                         np.full(value_dim, 0x4000, np.uint16))
                assert data.shape == (each, config.granule_bytes) == (len(at), data.shape[1])
                mine = {(head.channel, int(g)) for g in at}
                assert len(mine) == each and not mine & seen
                seen |= mine
                values = data.view("<u2")
                assert (values == 0x3C00).sum() == head_dim
                assert (values == 0x4000).sum() == value_dim


@pytest.mark.parametrize("config, head_dim, value_dim", FORMS)
def test_appended_is_loaded(config, head_dim, value_dim, seed):
    """Token by token through the host port, or at once: the same bytes."""
    rng = np.random.default_rng(seed)
    form, context = HeadForm(config, head_dim, value_dim), 75
    bits = [rng.integers(0, 1 << 16, (context, wide), np.uint16) for wide in (head_dim, value_dim)]
    held = []
    for first in (0, 40, context):
        device = ReferenceDevice(config)
        cache = KvCache(config, Memory(config), 2)
        heads = cache.heads(form, 1, 0, 0, 1)
        cache.grow(heads, 10)
        cache.grow(heads, context)
        load(device, heads[0], *(b[:first] for b in bits))
        for token in range(first, context):
            append(device, [(heads[0], token, *(b[token] for b in bits))])
        held.append(device.dram(heads[0].channel)[:1 << 20])
    assert np.array_equal(held[0], held[1]) and np.array_equal(held[0], held[2])


def test_come_and_go(seed):
    """Extents never overlap, never leave their set behind what was there, and all come back."""
    rng = np.random.default_rng(seed)
    memory = Memory(SMALL)
    for space in range(SMALL.dram.bundles):
        memory.place(30 + 20 * space, 24, space)
    form = HeadForm(SMALL, 7, 19)
    for bundles in (1, 2):
        cache = KvCache(SMALL, memory, bundles)
        whole, alive, refused = cache.free_bytes, [], 0
        for number in range(300):
            kind = rng.integers(0, 4)
            if kind < 2 or not alive:
                alive.append((cache.heads(form, 3, number, int(rng.integers(4)), 4), 0))
            at = rng.integers(len(alive))
            heads, tokens = alive[at]
            if kind == 3:
                cache.release(heads)
                del alive[at]
                continue
            before = cache.free_bytes
            try:
                cache.grow(heads, tokens + 40)
                alive[at] = heads, tokens + 40
            except CapacityError as error:
                assert "KV cache is full" in str(error) and "\n" not in str(error)
                assert cache.free_bytes == before
                refused += 1
                cache.release(heads)
                del alive[at]
            taken = {}
            for heads, tokens in alive:
                for head in heads:
                    assert [(e.first, e.tokens) for e in head.extents] == form.extents(tokens)
                    assert head.space < SMALL.dram.bundles - bundles
                    first = memory.first_row(head.channel, head.space, bundles)
                    for e in head.extents:
                        assert e.start >= first * bundles * SMALL.dram.columns
                        end = e.start + form.extent_words(e.tokens)
                        assert end <= bundles * SMALL.dram.words_per_bundle
                        taken.setdefault((head.channel, head.space), []).append((e.start, end))
            words = 0
            for runs in taken.values():
                runs.sort()
                assert all(a[1] <= b[0] for a, b in zip(runs, runs[1:], strict=False))
                words += sum(end - start for start, end in runs)
            assert cache.free_bytes == whole - words * SMALL.word_bytes
        assert refused
        for heads, _ in alive:
            cache.release(heads)
        assert cache.free_bytes == whole and all(len(r._free) == 1 for r in cache._runs.values())


def test_heads_are_dealt():
    """Heads of a layer over the channels in turn, the next layer and sequence elsewhere."""
    config = CHANNEL.replace(channels=4)
    cache, form = KvCache(config, Memory(config), 1), HeadForm(CHANNEL, 16, 16)
    found = [[(h.channel, h.space) for h in cache.heads(form, 2, number, layer, 3)]
             for number in range(2) for layer in range(2)]
    assert {c for c, _ in found[0] + found[2]} == {0, 1, 2, 3}
    assert found[0] != found[1]
    many = [cache.heads(form, 4, n, layer, 3)[0] for n in range(3) for layer in range(3)]
    assert {h.space for h in many} == {0, 1, 2}


def test_wide_head_needs_buffers():
    with pytest.raises(CapacityError, match="input_buffer_bytes"):
        HeadForm(PRESETS["small"], 2000, 8)
