# SPDX-License-Identifier: BSD-2-Clause
"""The golden model of the code over stored words: encode, decode, count; see docs/integrity.md."""

import enum

import numpy as np

from logicpim.spec.ecc import CHECK_BITS, COLUMNS, PART_BITS

PART_BYTES = PART_BITS // 8
_MATRIX = np.array([[column >> row & 1 for row in range(CHECK_BITS)] for column in COLUMNS],
                   np.uint8)


class Verdict(enum.IntEnum):
    """What a part's syndrome says."""

    CLEAN = 0
    CORRECTED = 1
    UNCORRECTED = 2


def _verdicts() -> tuple[np.ndarray, np.ndarray]:
    """By syndrome: the verdict, and the bit (data, then check bits) that is wrong, or -1."""
    verdict = np.full(1 << CHECK_BITS, Verdict.UNCORRECTED, np.uint8)
    wrong = np.full(1 << CHECK_BITS, -1)
    verdict[0] = Verdict.CLEAN
    for bit, column in enumerate((*COLUMNS, *(1 << row for row in range(CHECK_BITS)))):
        verdict[column], wrong[column] = Verdict.CORRECTED, bit
    return verdict, wrong


_VERDICT, _WRONG = _verdicts()


def encode(data: np.ndarray) -> np.ndarray:
    """The check bytes (uint8 [..., n]) of data in bytes (uint8 [..., 8 n])."""
    bits = np.unpackbits(data, axis=-1, bitorder="little")
    bits = bits.reshape(*data.shape[:-1], -1, PART_BITS)
    return np.packbits(bits @ _MATRIX & 1, axis=-1, bitorder="little")[..., 0]


def decode(data: np.ndarray, check: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corrected data, and a :class:`Verdict` for each part.

    Parameters
    ----------
    data : uint8 [..., 8 n]
    check : uint8 [..., n]
    """
    syndrome = encode(data) ^ check
    wrong = _WRONG[syndrome]
    parts = data.reshape(*check.shape, PART_BYTES).copy()
    at = np.nonzero((wrong >= 0) & (wrong < PART_BITS))
    parts[(*at, wrong[at] // 8)] ^= (1 << wrong[at] % 8).astype(np.uint8)
    return parts.reshape(data.shape), _VERDICT[syndrome]
