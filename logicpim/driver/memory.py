# SPDX-License-Identifier: BSD-2-Clause
"""Where weight matrices lie: rows dealt over the channels, each matrix in one memory space."""

from dataclasses import dataclass, field, replace

import numpy as np

from ..sim.model import layout
from ..spec.config import Config
from ..spec.device import Device
from ..spec.errors import CapacityError, LogicPimError
from ..spec.isa import FIELDS, Format
from .quantise import quantise


@dataclass(frozen=True)
class Piece:
    """The rows of a matrix that one channel holds, from bundle word ``address`` of it on."""

    channel: int
    first_row: int
    rows: int
    address: int


@dataclass(frozen=True)
class Matrix:
    """A weight matrix [n, k] in DRAM; its pieces cover the rows in ascending order.

    Its words are dealt over ``2 ** interleave`` memory spaces from ``space`` on. ``scales``
    (binary32 patterns, uint32 [n, G]), if there are any, do not lie in DRAM: they go to the input
    buffer with the operands. Each is that of ``scale_group`` words of a row, or, if that is 0, of
    the whole row. If ``transposed``, it lies as [k, n], and what pieces are said to hold of its
    rows are columns there, at most ``config.transposed_columns`` each. If ``spread``, each channel
    of a stack has room for as many rows as the first, from the same address on, so that one
    instruction is for all.
    """

    n: int
    k: int
    space: int
    pieces: tuple[Piece, ...]
    format: Format = Format.FP16
    interleave: int = 0
    scales: np.ndarray | None = field(default=None, compare=False, repr=False)
    scale_group: int = 0
    transposed: bool = False
    spread: bool = False

    @property
    def groups(self) -> int:
        """Scales of a row, 0 without."""
        return 0 if self.scales is None else self.scales.shape[1]


class Memory:
    """Allocates matrices in the memory spaces of a device.

    A matrix's blocks of ``tile.rows`` rows are dealt over the channels in contiguous slices, the
    first channels taking one block more where they do not divide. In a stack, where one instruction
    is for all, each channel has as much room as the first, from the same address on. A matrix over
    several spaces begins at the same row in all of them. Nothing is ever freed.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config):
        self.config = config
        self._used = np.zeros((config.channels, config.dram.bundles), np.int64)

    def place(self, n: int, k: int, space: int, bundles: int = 1,
              fmt: Format = Format.FP16, unit: int = 0) -> Matrix:
        """Room for a matrix [n, k] in the memory spaces ``space .. space + bundles - 1``.

        All channels but the last one with rows hold a multiple of ``unit`` of them, if that is
        given, instead of ``tile.rows``. Raises CapacityError if there is no room.
        """
        config = self.config
        unit = unit or config.tile.rows
        blocks, more = divmod(-(-n // unit), config.channels)
        if config.stack:
            blocks, more = blocks + bool(more), 0
            used = self._used[:, space:space + bundles]
            used[:] = used.max(axis=0, initial=0)
        words = unit // config.tile.rows * layout.granules_for(config, k, fmt)
        pieces, row = [], 0
        for channel in range(config.channels):
            mine = blocks + (channel < more)
            if mine:
                address = self._take(f"a {n} x {k} matrix", channel, space, bundles, mine * words)
            if mine and row < n:
                pieces.append(Piece(channel, row, min(mine * unit, n - row), address))
                row += pieces[-1].rows
        return Matrix(n, k, space, tuple(pieces), fmt, bundles.bit_length() - 1,
                      spread=config.stack)

    def place_in(self, channel: int, n: int, k: int, space: int, bundles: int = 1,
                 fmt: Format = Format.FP16) -> Matrix:
        """Likewise, all of it in one channel."""
        need = -(-n // self.config.tile.rows) * layout.granules_for(self.config, k, fmt)
        address = self._take(f"a {n} x {k} matrix", channel, space, bundles, need)
        return Matrix(n, k, space, (Piece(channel, 0, n, address),), fmt, bundles.bit_length() - 1)

    def place_transposed(self, n: int, k: int, space: int, bundles: int = 1,
                         fmt: Format = Format.FP16) -> tuple[Matrix, ...]:
        """Room for a matrix that lies as [k, n], cut into matrices of one piece a channel."""
        config, matrices = self.config, []
        most = config.transposed_columns
        for first in range(0, n, most * config.channels):
            wide, pieces = min(n - first, most * config.channels), []
            for channel, row in enumerate(range(0, wide, most)):
                rows = min(most, wide - row)
                address = self._take(f"a {k} x {n} matrix", channel, space, bundles,
                                     layout.weight_words(config, k, rows, fmt))
                pieces.append(Piece(channel, row, rows, address))
            matrices.append(Matrix(wide, k, space, tuple(pieces), fmt, bundles.bit_length() - 1,
                                   transposed=True))
        return tuple(matrices)

    def _take(self, what: str, channel: int, space: int, bundles: int, need: int) -> int:
        """First of so many words of a channel, which are then used."""
        config, dram = self.config, self.config.dram
        if bundles not in (1, 2, 4) or space % bundles or space + bundles > dram.bundles:
            raise CapacityError(f"a matrix cannot lie in {bundles} bundles from space {space} on: "
                                f"{config.name} has {dram.bundles} bundles, and a set of 1, 2 or "
                                f"4 starts at a multiple of its size")
        used = self._start(channel, space, bundles)
        if used * bundles + need > bundles * dram.words_per_bundle:
            free = (dram.words_per_bundle - used) * bundles * config.word_bytes
            raise CapacityError(
                f"{what} needs {need * config.word_bytes} bytes in space {space} "
                f"of channel {channel}, where {free} of "
                f"{bundles * dram.words_per_bundle * config.word_bytes} are free: take more "
                f"channels (channels=...) or a larger DRAM (dram.rows=...)")
        if bundles > 1:
            need = -(-need // (bundles * dram.columns)) * dram.columns
        self._used[channel, space:space + bundles] = used + need
        return space * dram.words_per_bundle + used

    def first_row(self, channel: int, space: int, bundles: int = 1) -> int:
        """First row that is free in all of some bundles."""
        used = int(self._used[channel, space:space + bundles].max())
        return -(-used // self.config.dram.columns)

    def _start(self, channel: int, space: int, bundles: int) -> int:
        """First free word of a bundle; of several bundles, at the start of a row."""
        if bundles == 1:
            return int(self._used[channel, space])
        return self.first_row(channel, space, bundles) * self.config.dram.columns


def load(device: Device, matrix: Matrix, w_bits: np.ndarray) -> None:
    """Put the patterns (uint16 or uint8 [n, k]) of a matrix in place, by the back door.

    What channels of a stack have beyond their rows, which they read with the others', is zeroed.
    """
    config = device.config
    if matrix.spread:
        first = matrix.pieces[0]
        w_bits = np.pad(w_bits, ((0, first.rows * config.channels - len(w_bits)), (0, 0)))
        matrix = replace(matrix, pieces=tuple(
            replace(first, channel=c, first_row=c * first.rows) for c in range(config.channels)))
    for piece in matrix.pieces:
        rows = w_bits[piece.first_row:piece.first_row + piece.rows]
        stored = rows.T if matrix.transposed else rows
        data = layout.pack_weights(config, stored, matrix.format).reshape(-1, config.word_bytes)
        at = layout.word_addresses(config, piece.address, len(data), matrix.interleave)
        device.dram(piece.channel).reshape(-1, config.word_bytes)[at] = data


def load_quantised(device: Device, matrix: Matrix, values: np.ndarray, group: int = 0) -> Matrix:
    """Put float values [n, k] in place, quantised to the matrix' format of 8 bits.

    Parameters
    ----------
    group : int
        Elements of K that share a scale, see :func:`scale_words`; 0: a whole row.

    Returns
    -------
    The matrix with its scales.
    """
    words = scale_words(device.config, group, matrix.format)
    w_bits, scales = quantise(values, matrix.format, group or None)
    load(device, matrix, w_bits)
    return replace(matrix, scales=scales, scale_group=words)


def scale_words(config: Config, group: int, fmt: Format) -> int:
    """Weight words that hold ``group`` elements of a row; refused where there is no such."""
    each = layout.scale_elements(config, 1, fmt)
    most = (1 << FIELDS["scale_group"].width) - 1
    if group % each or group > most * each:
        raise LogicPimError(f"a scale for {group} elements is not possible: a multiple of {each}, "
                            f"the {fmt.name} elements of a row in a word, up to {most * each}")
    return group // each
