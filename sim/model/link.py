# SPDX-License-Identifier: BSD-2-Clause
"""The serial link: frames found in a damaged stream, and what a board answers to each."""

import zlib

import numpy as np

from logicpim.spec.device import Counter, Device, Region
from logicpim.spec.isa import Buffer
from logicpim.spec.link import (
    COMPLETION,
    COUNT,
    CRC_BYTES,
    END,
    ESC,
    ESC_END,
    ESC_ESC,
    HEADER,
    IDENTITY,
    INSTRUCTION_BYTES,
    TARGET,
    VERSION,
    Line,
    Outcome,
    Request,
    pack,
    read_granules,
    size,
    unpack,
)


def escape(frame: bytes) -> bytes:
    """A frame with its CRC, as it goes over the line."""
    frame += zlib.crc32(frame).to_bytes(CRC_BYTES, "little")
    body = frame.replace(bytes([ESC]), bytes([ESC, ESC_ESC]))
    return bytes([END]) + body.replace(bytes([END]), bytes([ESC, ESC_END])) + bytes([END])


class Deframer:
    """Finds sound frames in what comes over a line, from any point of it on.

    Parameters
    ----------
    most : int
        Bytes of the longest frame, its CRC included; a longer one is none.
    """

    def __init__(self, most: int = 1 << 16):
        self.most = most
        self._pending = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that ``data`` completes, without their CRCs; damaged ones are dropped."""
        *ended, rest = (self._pending + data).split(bytes([END]))
        self._pending = rest[-2 * self.most - 2:]  # longer ones are no frames, cut or not
        return [frame for raw in ended if (frame := _sound(raw)) is not None
                and len(frame) + CRC_BYTES <= self.most]


def _sound(raw: bytes) -> bytes | None:
    """A frame without escapes and CRC, or None."""
    parts = raw.split(bytes([ESC]))
    known = {ESC_END: END, ESC_ESC: ESC}
    if any(part[:1] == b"" or part[0] not in known for part in parts[1:]):
        return None
    frame = parts[0] + b"".join(bytes([known[p[0]]]) + p[1:] for p in parts[1:])
    body, crc = frame[:-CRC_BYTES], frame[-CRC_BYTES:]
    if len(frame) <= CRC_BYTES or zlib.crc32(body).to_bytes(CRC_BYTES, "little") != crc:
        return None
    return body



class BoardModel(Line):
    """The far end of a line: what a board does to what comes, over any device.

    It answers at once and takes as many instructions as come, so that their completions are in the
    answer to the same RUN.

    Parameters
    ----------
    device : Device
        Of one channel.
    frame_bytes, clock_khz : int
        As the board has them.

    Attributes
    ----------
    served : int
        Requests that had an effect.
    """

    name, baud, patience = "the model of a board", 1_000_000, 0.0

    def __init__(self, device: Device, frame_bytes: int = 1024, clock_khz: int = 50_000):
        self.device, self.frame_bytes, self.clock_khz = device, frame_bytes, clock_khz
        self.served = 0
        self._deframer, self._current, self._last = Deframer(frame_bytes), None, b""
        self._fresh, self._out = 1, b""

    def write(self, data: bytes) -> None:
        for frame in self._deframer.feed(data):
            if len(frame) > size(HEADER):
                self._out += self._answer(frame)

    def read(self, seconds: float) -> bytes:
        data, self._out = self._out, b""
        return data

    def _answer(self, frame: bytes) -> bytes:
        head, kind, body = frame[:size(HEADER)], frame[size(HEADER)], frame[size(HEADER) + 1:]
        if kind != Request.HELLO:
            if self._current is None or head[:2] != self._current[:2] \
                    or head[2] not in (self._current[2], (self._current[2] + 1) % 256):
                self._last = escape(head + bytes([Outcome.STRANGER]))
                return self._last
            if head == self._current:
                return self._last
        self._current = head
        self.served += 1
        answer, outcome = self._serve(kind, body)
        self._last = escape(head + answer + bytes([outcome]))
        return self._last

    def _serve(self, kind: int, body: bytes) -> tuple[bytes, Outcome]:
        config = self.device.config
        if kind == Request.HELLO:
            return pack(IDENTITY, version=VERSION, fresh=self._fresh,
                        frame_bytes=self.frame_bytes, clock_khz=self.clock_khz,
                        digest=int(config.digest, 16)), Outcome.OK
        if kind == Request.RUN:
            return self._run(body)
        if kind not in (Request.READ, Request.WRITE, Request.WRITE_MASKED) \
                or len(body) < size(TARGET):
            return b"", Outcome.MALFORMED
        target = unpack(TARGET, body)
        region, address, body = target["region"], target["address"], body[size(TARGET):]
        width = config.granule_bytes
        if kind == Request.READ:
            if len(body) != size(COUNT) or body[0] > read_granules(self.frame_bytes, width):
                return b"", Outcome.MALFORMED
            granules = [self._granule(region, address + i) for i in range(body[0])]
            bad = any(g is None for g in granules)
            return (b"".join(bytes(width) if g is None else g.tobytes() for g in granules),
                    Outcome.REFUSED if bad else Outcome.OK)
        outcome, masked = Outcome.OK, width // 8 if kind == Request.WRITE_MASKED else 0
        each = width + masked
        for at in range(0, len(body) - each + 1, each):
            bits = np.unpackbits(np.frombuffer(body[at:at + masked], np.uint8),
                                 bitorder="little").astype(bool) if masked else slice(None)
            if not self._put(region, address + at // each, bits, body[at + masked:at + each]):
                outcome = Outcome.REFUSED
        return b"", Outcome.MALFORMED if len(body) % each else outcome

    def _run(self, body: bytes) -> tuple[bytes, Outcome]:
        whole = len(body) // INSTRUCTION_BYTES
        words = [int.from_bytes(body[i * INSTRUCTION_BYTES:][:INSTRUCTION_BYTES], "little")
                 for i in range(whole)]
        self._fresh &= not words
        done = self.device.execute({0: words})[0] if words else []
        if len(body) % INSTRUCTION_BYTES:
            return b"", Outcome.MALFORMED
        return bytes([whole]) + b"".join(
            pack(COMPLETION, tag=c.tag, status=c.status) for c in done), Outcome.OK

    def _granule(self, region: int, address: int) -> np.ndarray | None:
        """A view of a granule of a memory, or a copy of a counter; None if there is none."""
        device, config = self.device, self.device.config
        if region == Region.DRAM and address < config.dram.granules:
            return device.dram(0).reshape(-1, config.granule_bytes)[address]
        lines = {Region.INPUT: config.input_lines, Region.TEMP: config.temp_lines}
        if region in lines and address < lines[region] * config.tile.tokens:
            line, slot = divmod(address, config.tile.tokens)
            buffer = Buffer.INPUT if region == Region.INPUT else Buffer.TEMP
            return device.read_buffer(0, buffer, line, config.line_bytes).reshape(
                -1, config.granule_bytes)[slot]
        if region == Region.REGISTERS and address < len(Counter):
            value = device.counters(0).get(Counter(address).name.lower(), 0)
            return np.frombuffer(value.to_bytes(config.granule_bytes, "little"), np.uint8)
        return None

    def _put(self, region: int, address: int, bits, data: bytes) -> bool:
        """Write bytes of a granule; whether there is such."""
        self._fresh &= region != Region.DRAM
        granule = self._granule(region, address)
        if granule is None:
            return False
        if region == Region.REGISTERS:
            self.device.clear_counters()
            return True
        config = self.device.config
        new, cell = granule.copy(), 2 * config.tile.rows
        new[bits] = np.frombuffer(data, np.uint8)[bits]
        if region == Region.DRAM:
            granule[:] = new
            return True
        if not isinstance(bits, slice):
            parts = bits.reshape(-1, cell)
            if (parts.any(axis=1) & ~parts.all(axis=1)).any():
                return False  # buffers are written in whole cells
        line, slot = divmod(address, config.tile.tokens)
        buffer = Buffer.INPUT if region == Region.INPUT else Buffer.TEMP
        whole = self.device.read_buffer(0, buffer, line, config.line_bytes)
        whole.reshape(-1, config.granule_bytes)[slot] = new
        self.device.write_buffer(0, buffer, line, whole)
        return True
