# SPDX-License-Identifier: BSD-2-Clause
"""The code itself: every error of one bit is corrected, every one of two is detected."""

from itertools import combinations

import numpy as np

from logicpim.sim.model.ecc import Verdict, decode, encode
from logicpim.spec.ecc import CHECK_BITS, COLUMNS, PART_BITS, ROWS

ALL = PART_BITS + CHECK_BITS


def flipped(data, check, bits):
    """Copies of one part [8], [1] with some of its 72 bits inverted: bits [n, errors]."""
    word = np.concatenate([data, check]).repeat(len(bits)).reshape(ALL // 8, -1).T.copy()
    for column in bits.T:
        word[np.arange(len(bits)), column // 8] ^= (1 << column % 8).astype(np.uint8)
    return word[:, :8], word[:, 8:]


def test_columns():
    """What makes it correct one and detect two: columns differ and are odd; rows are balanced."""
    columns = {*COLUMNS, *(1 << row for row in range(CHECK_BITS))}
    assert len(columns) == ALL and all(column.bit_count() % 2 for column in columns)
    assert {row.bit_count() for row in ROWS} == {26}


def test_encode_by_parity(seed):
    """Check bit r is the parity of the data bits under row r, in whole numbers."""
    data = np.random.default_rng(seed).integers(0, 256, (50, 16), np.uint8)
    check = encode(data)
    for i in range(50):
        for part in range(2):
            value = int.from_bytes(data[i, 8 * part:8 * part + 8].tobytes(), "little")
            want = sum(((value & row).bit_count() & 1) << r for r, row in enumerate(ROWS))
            assert check[i, part] == want


def test_all_errors_of_one_and_two_bits(seed):
    """The code is linear: what holds for one word holds for all."""
    data = np.random.default_rng(seed).integers(0, 256, 8, np.uint8)
    check = encode(data)
    assert (decode(data, check)[0] == data).all() and decode(data, check)[1] == Verdict.CLEAN
    one = np.arange(ALL)[:, None]
    got, verdict = decode(*flipped(data, check, one))
    assert (got == data).all() and (verdict == Verdict.CORRECTED).all()
    two = np.array(list(combinations(range(ALL), 2)))
    _, verdict = decode(*flipped(data, check, two))
    assert len(two) == 2556 and (verdict == Verdict.UNCORRECTED).all()


def test_uncorrected_data_pass(seed):
    """What cannot be corrected is left as it is; other parts are corrected beside it."""
    data = np.random.default_rng(seed).integers(0, 256, (1, 32), np.uint8)
    bad = data.copy()
    bad[0, 0] ^= 3
    bad[0, 31] ^= 0x80
    got, verdict = decode(bad, encode(data))
    assert verdict.tolist() == [[Verdict.UNCORRECTED, 0, 0, Verdict.CORRECTED]]
    assert (got[0, :8] == bad[0, :8]).all() and (got[0, 8:] == data[0, 8:]).all()
