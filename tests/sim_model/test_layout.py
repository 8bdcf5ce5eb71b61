# SPDX-License-Identifier: BSD-2-Clause
"""Layouts: there and back, and every element at the byte that the text says."""

import numpy as np
import pytest

from logicpim.sim.model import layout
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
