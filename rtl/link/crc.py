# SPDX-License-Identifier: BSD-2-Clause
"""The CRC of a frame, a byte a clock."""

from amaranth.hdl import Cat, Const, Value

from logicpim.spec.link import CRC_POLYNOMIAL

START = 0xFFFFFFFF


def crc_step(register: Value, byte: Value) -> Value:
    """The 32 bits of the register after another byte; each is a sum of bits of both."""
    # The step is linear: what each bit of register and byte alone would leave behind.
    index = register[:8] ^ byte
    terms = [[] for _ in range(32)]
    for bit in range(8):
        value = 1 << bit
        for _ in range(8):
            value = value >> 1 ^ (CRC_POLYNOMIAL if value & 1 else 0)
        for place in range(32):
            if value >> place & 1:
                terms[place].append(index[bit])
    rest = Cat(register[8:], Const(0, 8))
    return Cat(Cat(*bits).xor() ^ rest[place] for place, bits in enumerate(terms))
