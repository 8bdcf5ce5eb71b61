# SPDX-License-Identifier: BSD-2-Clause
"""Layouts: there and back, and every element at the byte that the text says."""

import numpy as np
import pytest

from logicpim.driver.memory import Memory, load
from logicpim.sim.model import layout
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.config import Config, Tile
from logicpim.spec.dram import Organisation
from logicpim.spec.isa import Format
from logicpim.spec.presets import PRESETS

UNEVEN = Config(name="uneven", tile=Tile(tokens=4, rows=8, depth=16),
                dram=Organisation(bundle_banks=8))
CONFIGS = [PRESETS["small"], PRESETS["channel"], UNEVEN]
SIZES = [(1, 1), (1, 33), (9, 16), (7, 15), (8, 17), (17, 64), (3, 100)]

each_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
each_size = pytest.mark.parametrize("rows, columns", SIZES)


def at(data, byte, size):
    return int.from_bytes(data[byte:byte + size].tobytes(), "little")


@each_config
@each_size
def test_weights(config, rows, columns, stimulus):
    w = stimulus.bits((rows, columns), "any")
    data = layout.pack_weights(config, w)
    assert data.dtype == np.uint8 and data.ndim == 1
    assert data.size == layout.weight_words(config, rows, columns) * config.word_bytes
    assert (layout.unpack_weights(config, data, rows, columns) == w).all()
    per_word, across = config.granule_elements, -(-columns // config.granule_elements)
    used = set()
    for n in range(rows):
        for k in range(columns):
            word = n // config.tile.rows * across + k // per_word
            byte = (word * config.word_bytes + n % config.tile.rows * config.granule_bytes
                    + k % per_word * 2)
            assert at(data, byte, 2) == w[n, k]
            used |= {byte, byte + 1}
    assert not np.delete(data, list(used)).any()


@each_config
@each_size
@pytest.mark.parametrize("fmt", [Format.FP16, Format.FP32])
def test_lines(config, rows, columns, fmt, stimulus):
    size = 2 if fmt == Format.FP16 else 4
    y = stimulus.rng.integers(0, 1 << 8 * size, (rows, columns), dtype=f"u{size}")
    data = layout.pack_results(config, y, fmt)
    assert data.size == layout.line_count(config, rows, columns, fmt) * config.line_bytes
    back = layout.unpack_results(config, data, rows, columns, fmt)
    assert back.dtype == y.dtype and (back == y).all()
    per_granule = config.granule_bytes // size
    for m in range(rows):
        for n in range(columns):
            line = (m // config.tile.tokens * -(-columns // per_granule) + n // per_granule)
            byte = (line * config.line_bytes + m % config.tile.tokens * config.granule_bytes
                    + n % per_granule * size)
            assert at(data, byte, size) == y[m, n]
    if fmt == Format.FP16:
        assert (layout.pack_operands(config, y) == data).all()
        assert (layout.unpack_operands(config, data, rows, columns) == y).all()


@each_config
@each_size
@pytest.mark.parametrize("fmt", [Format.FP16, Format.FP32])
def test_mask_is_the_cells_with_a_result(config, rows, columns, fmt):
    """A cell is the 16-bit results of one row block of one token."""
    size = 2 if fmt == Format.FP16 else 4
    cell = config.tile.rows * 2
    ones = np.full((rows, columns), (1 << 8 * size) - 1, f"u{size}")
    cells = layout.pack_results(config, ones, fmt).reshape(-1, cell).any(axis=1)
    assert (layout.result_mask(config, rows, columns, fmt) == np.repeat(cells, cell)).all()


def test_surplus_bytes_are_ignored_and_missing_ones_refused(stimulus):
    config = PRESETS["small"]
    w = stimulus.bits((5, 9), "any")
    data = layout.pack_weights(config, w)
    longer = np.concatenate([data, np.full(100, 0xAA, np.uint8)])
    assert (layout.unpack_weights(config, longer, 5, 9) == w).all()
    with pytest.raises(ValueError, match="at least"):
        layout.unpack_weights(config, data[:-1], 5, 9)
    with pytest.raises(TypeError, match="uint16"):
        layout.pack_weights(config, w.astype(np.float32))
    with pytest.raises(TypeError, match="uint32"):
        layout.pack_results(config, w, Format.FP32)


def set_config(ranks):
    return PRESETS["small"].replace(dram=Organisation(
        ranks=ranks, bank_groups=2, banks_per_group=4, rows=8, columns=4, bundle_banks=4))


@pytest.mark.parametrize("ranks, interleave", [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)])
def test_words_of_a_set(ranks, interleave):
    """Row by row over the bundles, each word of the set once, none of another."""
    config, org, size = set_config(ranks), set_config(ranks).dram, 1 << interleave
    for base in range(0, org.bundles, size):
        order = [(base + b) * org.words_per_bundle + row * org.columns + column
                 for row in range(org.rows) for b in range(size) for column in range(org.columns)]
        for first in range(0, len(order), 3):
            words = len(order) - first
            found = layout.word_addresses(config, order[first], words, interleave)
            assert found.tolist() == order[first:]
            assert layout.in_set(config, order[first], words, interleave)
            assert not layout.in_set(config, order[first], words + 1, interleave)


def test_matrices_over_bundles(stimulus):
    """Placed over several bundles and in one, no two share a word; a GEMM finds each."""
    config = set_config(2)
    memory, device, held = Memory(config), ReferenceDevice(config), []
    for space, bundles in ((0, 2), (1, 1), (0, 4), (2, 2), (3, 1), (0, 2), (0, 1)):
        w = stimulus.bits((7, 19), "any")
        matrix = memory.place(7, 19, space, bundles)
        load(device, matrix, w)
        held.append((matrix, w))
    for matrix, w in held:
        piece, = matrix.pieces
        at = layout.word_addresses(config, piece.address, layout.weight_words(config, 7, 19),
                                   matrix.interleave)
        data = device.dram(0).reshape(-1, config.word_bytes)[at].reshape(-1)
        assert (layout.unpack_weights(config, data, 7, 19) == w).all()
