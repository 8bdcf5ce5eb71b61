# SPDX-License-Identifier: BSD-2-Clause
"""The serial link to an FPGA board: its encodings, read by gateware, driver and documentation.

Numbers are little-endian. `docs/fpga.md` says in prose what each side promises.
"""

import abc
import enum
import struct
import time
from dataclasses import dataclass

from .isa import INSTRUCTION_BITS

VERSION = 1
BAUD = 1_000_000
"""Of every board's line; ten bits a byte: 8 data bits, no parity, one stop bit."""

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD
"""Bytes of the framing, those of SLIP (RFC 1055)."""

CRC_POLYNOMIAL = 0xEDB88320
"""CRC-32 of ISO-HDLC, as in Ethernet and zlib: reflected, begun and ended with all ones."""
CRC_RESIDUE = 0xDEBB20E3
"""What its register holds after a frame and the frame's own CRC."""
CRC_BYTES = 4


class Request(enum.IntEnum):
    """What a frame from the host asks for."""

    HELLO = 1
    READ = 2
    WRITE = 3
    WRITE_MASKED = 4
    RUN = 5


class Outcome(enum.IntEnum):
    """Last byte of an answer."""

    OK = 0
    REFUSED = 1
    MALFORMED = 2
    STRANGER = 3

    @property
    def meaning(self) -> str:
        """One line for people."""
        return _MEANINGS[self]


_MEANINGS = {
    Outcome.OK: "done",
    Outcome.REFUSED: "the host port answered a granule with an error",
    Outcome.MALFORMED: "the body is not what the request needs; what came before its end is done",
    Outcome.STRANGER: "no such session, or neither the last request nor the one after it",
}


@dataclass(frozen=True)
class Part:
    """A field of a frame: its name, its code in :mod:`struct`, its meaning."""

    name: str
    code: str
    meaning: str

    @property
    def size(self) -> int:
        return struct.calcsize("<" + self.code)


HEADER = (
    Part("session", "H", "number that the host chose in its HELLO"),
    Part("sequence", "B", "one more than in the request before, modulo 256"),
)
"""Begins every frame, both ways."""
TARGET = (
    Part("region", "B", "region of the host port"),
    Part("address", "I", "first granule in it"),
)
"""Begins the body of READ, WRITE and WRITE_MASKED."""
COUNT = (Part("count", "B", "granules"),)
"""Ends the body of a READ."""
IDENTITY = (
    Part("version", "B", "of this protocol"),
    Part("fresh", "B", "1 while nothing can have written the DRAM since configuration"),
    Part("frame_bytes", "H", "most bytes of a frame, CRC included, framing not"),
    Part("clock_khz", "I", "clock of the channel"),
    Part("digest", "Q", "of the configuration, its first hexadecimal digits the uppermost"),
)
"""Body of the answer to a HELLO."""
COMPLETION = (
    Part("tag", "H", "of the instruction"),
    Part("status", "B", "how it ended"),
)
"""Each in the answer to a RUN, after a byte that tells how many instructions were taken."""

INSTRUCTION_BYTES = INSTRUCTION_BITS // 8


def size(parts: tuple[Part, ...]) -> int:
    """Bytes of some fields."""
    return sum(part.size for part in parts)


def pack(parts: tuple[Part, ...], **values: int) -> bytes:
    """Fields by name."""
    return struct.pack("<" + "".join(p.code for p in parts), *(values[p.name] for p in parts))


def unpack(parts: tuple[Part, ...], data: bytes) -> dict[str, int]:
    """The fields at the start of ``data``."""
    values = struct.unpack_from("<" + "".join(p.code for p in parts), data)
    return dict(zip((p.name for p in parts), values, strict=True))


REQUEST_OVERHEAD = size(HEADER) + 1 + CRC_BYTES
"""Bytes of a request beside its body: header, kind, CRC."""
ANSWER_OVERHEAD = size(HEADER) + 1 + CRC_BYTES
"""Bytes of an answer beside its body: header, outcome, CRC."""


def read_granules(frame_bytes: int, granule_bytes: int) -> int:
    """Most granules of one READ."""
    return min(255, (frame_bytes - ANSWER_OVERHEAD) // granule_bytes)


def write_granules(frame_bytes: int, granule_bytes: int, masked: bool = False) -> int:
    """Most granules of one WRITE or WRITE_MASKED."""
    each = granule_bytes + (granule_bytes // 8 if masked else 0)
    return (frame_bytes - REQUEST_OVERHEAD - size(TARGET)) // each


def run_instructions(frame_bytes: int) -> int:
    """Most instructions of one RUN."""
    return (frame_bytes - REQUEST_OVERHEAD) // INSTRUCTION_BYTES


class Line(abc.ABC):
    """A serial line to a board: bytes out, bytes in, either of which may get lost or damaged.

    Attributes
    ----------
    name : str
        For messages.
    baud : int
        Bits a second, ten of them a byte.
    patience : float
        Seconds that an answer may take beside those of its bytes on the line.
    """

    name: str
    baud: int
    patience: float

    @abc.abstractmethod
    def write(self, data: bytes) -> None:
        """Send."""

    @abc.abstractmethod
    def read(self, seconds: float) -> bytes:
        """What has come, as soon as there is something; nothing if that takes too long."""

    def now(self) -> float:
        """Seconds by the clock that :meth:`read` waits by."""
        return time.monotonic()

    def close(self) -> None:
        """Give the line back."""
