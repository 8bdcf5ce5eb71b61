# SPDX-License-Identifier: BSD-2-Clause
"""The AMBA side of a channel or stack: memory map and control registers, as one table each.

Gateware, C header, SystemRDL and documentation read these tables.
"""

import enum
from dataclasses import dataclass, field

from .config import Config
from .device import Counter, Region
from .isa import INSTRUCTION_BITS

BOUNDARY = 4096
"""No AXI burst crosses a multiple of this, so each window begins at one."""


@dataclass(frozen=True)
class Window:
    """A region in the byte address space of the AXI4 port: ``[base, base + size)``."""

    region: Region
    base: int
    size: int

    @property
    def end(self) -> int:
        return self.base + self.size


def memory_map(config: Config) -> tuple[Window, ...]:
    """Windows of the AXI4 port of a channel, DRAM first, each at a multiple of its size."""
    windows, at = [], 0
    for region, size in ((Region.DRAM, config.capacity_bytes),
                         (Region.INPUT, config.input_buffer_bytes),
                         (Region.TEMP, config.temp_buffer_bytes)):
        step = max(size, BOUNDARY)
        base = -(-at // step) * step
        windows.append(Window(region, base, size))
        at = base + step
    return tuple(windows)


def address_bits(config: Config) -> int:
    """Width of a byte address of the AXI4 port."""
    return (memory_map(config)[-1].end - 1).bit_length()


class Access(enum.Enum):
    """What software may do with a register: read, write, both, or write ones to clear bits."""

    RO = "r"
    WO = "w"
    RW = "rw"
    W1C = "rw1c"

    @property
    def readable(self) -> bool:
        return self is not Access.WO

    @property
    def writable(self) -> bool:
        return self is not Access.RO


@dataclass(frozen=True)
class BitField:
    """Bits ``[lsb, lsb + width)`` of a register."""

    name: str
    lsb: int
    width: int
    meaning: str
    access: Access | None = None  # where it is not its register's

    @property
    def mask(self) -> int:
        return ((1 << self.width) - 1) << self.lsb


@dataclass(frozen=True)
class Register:
    """``count`` words of 32 bits from byte ``offset`` on."""

    name: str
    offset: int
    access: Access
    meaning: str
    fields: tuple[BitField, ...] = field(default=())
    count: int = 1


WORD_BITS = 32
"""Data width of the AXI4-Lite port."""
IDENTITY = int.from_bytes(b"LPIM", "big")
INSTRUCTION_WORDS = INSTRUCTION_BITS // WORD_BITS
INTERRUPTS = (
    BitField("completion", 0, 1, "a completion waits to be read", Access.RO),
    BitField("ready", 1, 1, "the instruction queue has room", Access.RO),
    BitField("idle", 2, 1, "no instruction is queued, running or waiting to be read", Access.RO),
    BitField("fault", 3, 1, "an access to an AXI4 port was answered with an error", Access.W1C),
)

REGISTERS = {r.name: r for r in (
    Register("identity", 0x000, Access.RO, "`LPIM` in ASCII, the first letter uppermost",
             (BitField("value", 0, 32, "0x4c50494d"),)),
    Register("digest", 0x004, Access.RO, "first 32 bits of the configuration's digest",
             (BitField("value", 0, 32, "as the C header has it"),)),
    Register("status", 0x008, Access.RO, "state of the queues", (
        BitField("ready", 0, 1, "the instruction queue has room"),
        BitField("completion", 1, 1, "a completion waits to be read"),
        BitField("busy", 2, 1, "an instruction was queued whose completion is not yet read"),
        BitField("instructions", 16, 16, "instructions queued whose completions are not read"))),
    Register("irq_enable", 0x00c, Access.RW, "causes that raise `irq`", tuple(
        BitField(f.name, f.lsb, f.width, f.meaning) for f in INTERRUPTS)),
    Register("irq_pending", 0x010, Access.W1C, "causes that hold now, enabled or not", INTERRUPTS),
    Register("completion", 0x014, Access.RO,
             "the oldest completion; reading it takes it from the queue", (
                 BitField("tag", 0, 16, "tag of the instruction"),
                 BitField("status", 16, 8, "how it ended, as in the table of statuses"),
                 BitField("valid", 31, 1, "there was one; else the word is 0"))),
    Register("instruction", 0x020, Access.WO,
             "the descriptor, lowest word first; writing the last word queues it",
             (BitField("value", 0, 32, "32 bits of the descriptor"),), INSTRUCTION_WORDS),
)}
"""Below :data:`COUNTERS_BASE`; what is not listed here does not exist."""

COUNTERS_BASE = 0x1000
"""From here on the native ``REGISTERS`` region: granule *i*, 64 bits, at ``base + 8 * i``. In a
stack that of channel 0; those of the others follow, as many bytes apart."""
COUNTERS_STRIDE = 8


def control_registers(config: Config) -> dict[str, Register]:
    """The registers below :data:`COUNTERS_BASE` by name; a stack has ``channels`` besides."""
    if not config.stack:
        return REGISTERS
    words = -(-config.channels // WORD_BITS)
    bits = BitField("value", 0, min(config.channels, WORD_BITS), "a bit a channel, all at reset")
    return REGISTERS | {"channels": Register(
        "channels", 0x018, Access.RW, "the set of channels that instructions queued from now on "
        "are for, the first 32 in the first word", (bits,), words)}


def control_bits(config: Config) -> int:
    """Width of a byte address of the AXI4-Lite port."""
    return (COUNTERS_BASE * (1 + (config.channels if config.stack else 1)) - 1).bit_length()


def counter_offset(counter: Counter, channel: int = 0) -> int:
    """Byte offset of the lower half of a counter."""
    return COUNTERS_BASE * (1 + channel) + COUNTERS_STRIDE * counter
