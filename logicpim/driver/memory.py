# SPDX-License-Identifier: BSD-2-Clause
"""Where weight matrices lie: rows dealt over the channels, each matrix in one memory space."""

from dataclasses import dataclass

import numpy as np

from ..sim.model import layout
from ..spec.config import Config
from ..spec.device import Device
from ..spec.errors import CapacityError
from ..spec.isa import Format


@dataclass(frozen=True)
class Piece:
    """The rows of a matrix that one channel holds, from bundle word ``address`` of it on."""

    channel: int
    first_row: int
    rows: int
    address: int


@dataclass(frozen=True)
class Matrix:
    """A weight matrix [n, k] in DRAM; its pieces cover the rows in ascending order."""

    n: int
    k: int
    space: int
    pieces: tuple[Piece, ...]
    format: Format = Format.FP16


class Memory:
    """Allocates matrices in the memory spaces of a device.

    A matrix's blocks of ``tile.rows`` rows are dealt over the channels in contiguous slices, the
    first channels taking one block more where they do not divide. Nothing is ever freed.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config):
        self.config = config
        self._used = np.zeros((config.channels, config.dram.bundles), np.int64)

    def place(self, n: int, k: int, space: int, fmt: Format = Format.FP16) -> Matrix:
        """Room for a matrix [n, k] in memory space ``space``. Raises CapacityError if none."""
        config, dram = self.config, self.config.dram
        blocks, more = divmod(-(-n // config.tile.rows), config.channels)
        words = layout.granules_for(config, k, fmt)
        pieces, row = [], 0
        for channel in range(config.channels):
            mine = blocks + (channel < more)
            used, need = int(self._used[channel, space]), mine * words
            if used + need > dram.words_per_bundle:
                free = (dram.words_per_bundle - used) * config.word_bytes
                raise CapacityError(
                    f"a {n} x {k} matrix needs {need * config.word_bytes} bytes in space {space} "
                    f"of channel {channel}, where {free} of "
                    f"{dram.words_per_bundle * config.word_bytes} are free: take more channels "
                    f"(channels=...) or a larger DRAM (dram.rows=...)")
            if mine:
                rows = min(mine * config.tile.rows, n - row)
                pieces.append(Piece(channel, row, rows, space * dram.words_per_bundle + used))
                row += rows
        for piece in pieces:
            self._used[piece.channel, space] += words * -(-piece.rows // config.tile.rows)
        return Matrix(n, k, space, tuple(pieces), format=fmt)


def load(device: Device, matrix: Matrix, w_bits: np.ndarray) -> None:
    """Put the patterns (uint16 or uint8 [n, k]) of a matrix in place, by the back door."""
    config = device.config
    for piece in matrix.pieces:
        rows = w_bits[piece.first_row:piece.first_row + piece.rows]
        data = layout.pack_weights(config, rows, matrix.format)
        start = piece.address * config.word_bytes
        device.dram(piece.channel)[start:start + data.size] = data
