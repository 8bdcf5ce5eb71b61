# SPDX-License-Identifier: BSD-2-Clause
"""The error-correcting code of stored words: Hsiao's (72, 64), as the columns of its matrix.

Each part of 64 data bits has eight check bits: check bit ``r`` is the parity of the data bits
whose column has bit ``r`` set. ``docs/integrity.md`` has the rule and its sources.
"""

from itertools import combinations

PART_BITS = 64
"""Data bits that one code word protects."""
CHECK_BITS = 8
"""Check bits of a code word."""


def _columns() -> tuple[int, ...]:
    """All 56 of weight three, in order of their value, then the eight rotations of 00011111.

    Odd weights alone: two errors then have a syndrome of even weight, which no single error has.
    Each row has 26 ones, the least there can be, so that every parity is as fast as the others.
    """
    three = sorted(sum(1 << bit for bit in bits) for bits in combinations(range(CHECK_BITS), 3))
    mask = (1 << CHECK_BITS) - 1
    five = [(0x1F << turn | 0x1F >> CHECK_BITS - turn) & mask for turn in range(CHECK_BITS)]
    return (*three, *five)


COLUMNS = _columns()
"""The syndrome of an error in each data bit; that of check bit ``r`` is ``1 << r``."""
ROWS = tuple(sum((column >> row & 1) << bit for bit, column in enumerate(COLUMNS))
             for row in range(CHECK_BITS))
"""The data bits of each check bit, as masks."""
