"""Matrices in DRAM: every row once, no two in one place, and one line where there is no room."""

import numpy as np
import pytest

from logicpim.driver.memory import Memory, load
from logicpim.sim.model import layout
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.errors import CapacityError
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("n", [1, 3, 4, 5, 33, 100])
def test_rows_dealt(channels, n):
    config = SMALL.replace(channels=channels)
    matrix = Memory(config).place(n, 9, 1)
    row = 0
    for piece in matrix.pieces:
        assert piece.first_row == row and piece.rows > 0
        row += piece.rows
    assert row == n
    blocks = [-(-p.rows // config.tile.rows) for p in matrix.pieces]
    blocks += [0] * (channels - len(blocks))
    assert max(blocks) - min(blocks) <= 1
    assert all(p.rows % config.tile.rows == 0 for p in matrix.pieces[:-1])


def test_no_overlap_and_back(seed):
    random = np.random.default_rng(seed)
    config = SMALL.replace(channels=2)
    memory, device = Memory(config), ReferenceDevice(config)
    held = []
    for i in range(12):
        n, k = random.integers(1, 40, 2)
        w_bits = random.integers(0, 1 << 16, (n, k), np.uint16)
        matrix = memory.place(int(n), int(k), i % config.dram.bundles)
        load(device, matrix, w_bits)
        held.append((matrix, w_bits))
    for matrix, w_bits in held:
        for piece in matrix.pieces:
            assert piece.address // config.dram.words_per_bundle == matrix.space
            data = device.dram(piece.channel)[piece.address * config.word_bytes:]
            found = layout.unpack_weights(config, data, piece.rows, matrix.k)
            assert np.array_equal(found, w_bits[piece.first_row:piece.first_row + piece.rows])


def test_full_to_the_last_word():
    memory = Memory(SMALL)
    words = SMALL.dram.words_per_bundle
    n, k = SMALL.tile.rows * (words // 4), 4 * SMALL.granule_elements
    assert memory.place(n, k, 0).pieces[0].address == 0
    with pytest.raises(CapacityError, match="needs 64 bytes in space 0 of channel 0, where 0 of"):
        memory.place(1, 1, 0)
    with pytest.raises(CapacityError):
        memory.place(n + 1, k, 1)
    assert memory.place(n, k, 1).pieces[0].address == words


@pytest.mark.parametrize("n", [1, 8, 9, 40])
def test_transposed(n, seed):
    """Columns in turn, no more in a piece than an instruction takes; back as they were put."""
    random = np.random.default_rng(seed)
    config = SMALL.replace(channels=2)
    device, w = ReferenceDevice(config), random.integers(0, 1 << 16, (n, 13), np.uint16)
    matrices = Memory(config).place_transposed(n, 13, 0)
    assert sum(m.n for m in matrices) == n
    first = 0
    for matrix in matrices:
        load(device, matrix, w[first:first + matrix.n])
        first += matrix.n
    first = 0
    for matrix in matrices:
        for piece in matrix.pieces:
            assert piece.rows <= config.transposed_columns
            data = device.dram(piece.channel)[piece.address * config.word_bytes:]
            found = layout.unpack_weights(config, data, 13, piece.rows).T
            assert np.array_equal(found, w[first + piece.first_row:][:piece.rows])
        first += matrix.n
