# SPDX-License-Identifier: BSD-2-Clause
"""An FPGA board as a :class:`~logicpim.spec.device.Device`: the same calls over a serial line."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from ...sim.model import layout
from ...spec.config import Config
from ...spec.device import Counter, Device, Region
from ...spec.errors import CapacityError, ConfigError, LogicPimError, ToolError
from ...spec.isa import INSTRUCTION_BITS, Buffer, Completion, Instruction, Opcode, Status
from ...spec.link import (
    COMPLETION,
    COUNT,
    INSTRUCTION_BYTES,
    TARGET,
    Line,
    Request,
    pack,
    read_granules,
    run_instructions,
    size,
    unpack,
    write_granules,
)
from .link import Link

_REGIONS = {Buffer.INPUT: Region.INPUT, Buffer.TEMP: Region.TEMP}
_STUCK_POLLS, _STUCK_SECONDS = 1000, 10.0


class FpgaDevice(Device):
    """A channel on a board.

    Opening it resets the channel. The array of :meth:`dram` is a copy on this side of the line:
    what was written to it goes to the board, granules that differ alone, with the next
    :meth:`execute` or :meth:`flush`; what a STORE wrote comes back with the :meth:`execute` that
    ran it. So it holds what the DRAM does whenever that can be told apart.

    Parameters
    ----------
    config : Config
        Of one channel; the board has to hold the same.
    line : Line
        Closed with the device.
    """

    timed = True

    def __init__(self, config: Config, line: Line):
        if config.channels != 1:
            raise ConfigError(f"a board holds one channel, not {config.channels}: channels=1")
        self.config, self._line, self._link = config, line, Link(line)
        self.identity = self._link.hello()
        if self.identity["digest"] != int(config.digest, 16):
            raise ConfigError(f"the board on {line.name} holds configuration "
                              f"{self.identity['digest']:016x}, not {config.digest} "
                              f"({config.name}): give the --config it was built with, or build and "
                              f"load it anew")
        shape = config.dram.granules, config.granule_bytes
        self._memory = np.zeros(config.capacity_bytes, np.uint8)
        self._held = np.zeros(shape, np.uint8)
        # Zero when configured; after that anything may be there.
        self._unknown = np.full(shape[0], not self.identity["fresh"])

    @property
    def link(self) -> Link:
        """The session below."""
        return self._link

    def dram(self, channel: int) -> np.ndarray:
        self._check(channel)
        return self._memory

    def flush(self) -> None:
        """Bring what was written to the array of :meth:`dram` to the board."""
        wanted = self._memory.reshape(self._held.shape)
        changed = np.flatnonzero(self._unknown | (wanted != self._held).any(axis=1))
        for first, last in _runs(changed):
            self._write(Region.DRAM, first, wanted[first:last])
        self._held[changed] = wanted[changed]
        self._unknown[:] = False

    def write_buffer(self, channel: int, buffer: Buffer, line: int, data: np.ndarray) -> None:
        if data.dtype != np.uint8:
            raise TypeError(f"buffers take bytes (uint8), not {data.dtype}")
        region, address, _ = self._lines(channel, buffer, line, data.size)
        self._write(region, address, data.reshape(-1, self.config.granule_bytes))

    def read_buffer(self, channel: int, buffer: Buffer, line: int, size: int) -> np.ndarray:
        region, address, granules = self._lines(channel, buffer, line, size)
        return self._read(region, address, granules).reshape(-1)

    def write_dram(self, data: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> None:
        for channel, (granules, each) in data.items():
            self._check(channel)
            ascending = np.argsort(granules)
            granules, each = granules[ascending], each[ascending]
            for first, last in _runs(granules):
                at = np.searchsorted(granules, first)
                self._write(Region.DRAM, first, each[at:at + last - first])
            self._memory.reshape(self._held.shape)[granules] = self._held[granules] = each
            self._unknown[granules] = False

    def execute(self, programs: Mapping[int, Sequence[Instruction | int]]
                ) -> dict[int, list[Completion]]:
        done = {}
        for channel, program in programs.items():
            self._check(channel)
            words = [insn.encode() if isinstance(insn, Instruction) else int(insn)
                     for insn in program]
            if any(not 0 <= word < 1 << INSTRUCTION_BITS for word in words):
                raise LogicPimError(f"a raw instruction is not a number of {INSTRUCTION_BITS} bits")
            self.flush()
            done[channel] = self._run(words)
            self._fetch_stored(words, done[channel])
        return done

    def counters(self, channel: int) -> dict[str, int]:
        self._check(channel)
        answers = self._read(Region.REGISTERS, 0, len(Counter))
        values = answers[:, :8].copy().view("<u8")[:, 0]
        return {counter.name.lower(): int(values[counter]) for counter in Counter}

    def clear_counters(self) -> None:
        self._write(Region.REGISTERS, 0, np.zeros((1, self.config.granule_bytes), np.uint8))

    def close(self) -> None:
        self._line.close()

    def _check(self, channel: int) -> None:
        if channel != 0:
            raise LogicPimError(f"channel {channel} does not exist: a board has one, number 0")

    def _run(self, words: list[int]) -> list[Completion]:
        """Hand over instructions as there is room, take completions as they come."""
        most, issued, done = run_instructions(self._link.frame_bytes), 0, []
        idle, since = 0, time.monotonic()
        while len(done) < len(words):
            body = b"".join(w.to_bytes(INSTRUCTION_BYTES, "little")
                            for w in words[issued:issued + most])
            answer = self._link.ask(Request.RUN, body, least=1)
            issued += answer[0]
            each = [unpack(COMPLETION, answer[at:])
                    for at in range(1, len(answer), size(COMPLETION))]
            done += [Completion(c["tag"], Status(c["status"])) for c in each]
            idle = 0 if each or answer[0] else idle + 1
            since = time.monotonic() if not idle else since
            if idle > _STUCK_POLLS and time.monotonic() - since > _STUCK_SECONDS:
                raise ToolError(f"the board on {self._line.name} is stuck: {issued} of "
                                f"{len(words)} instructions accepted, {len(done)} completed")
        tags = [Instruction.decode(word).tag for word in words]
        if [c.tag for c in done] != tags:
            raise ToolError(f"the board on {self._line.name} completed other instructions than "
                            f"were asked: tags {[c.tag for c in done]} for {tags}")
        return done

    def _fetch_stored(self, words: list[int], done: list[Completion]) -> None:
        """What STOREs have changed in the DRAM."""
        config, org = self.config, self.config.dram
        changed = [np.zeros(0, np.int64)]
        for word, completion in zip(words, done, strict=True):
            insn = Instruction.decode(word)
            if completion.status == Status.OK and insn.opcode == Opcode.STORE:
                changed.append(layout.word_addresses(config, insn.address, insn.length,
                                                     insn.interleave))
        at = np.unique(np.concatenate(changed))[:, None] * org.bundle_banks
        for first, last in _runs((at + np.arange(org.bundle_banks)).reshape(-1)):
            self._held[first:last] = self._read(Region.DRAM, first, last - first)
            self._memory.reshape(self._held.shape)[first:last] = self._held[first:last]

    def _lines(self, channel: int, buffer: Buffer, line: int, size: int):
        """(region, first granule, granules) of bytes of a buffer."""
        self._check(channel)
        config, buffer = self.config, Buffer(buffer)
        lines = config.temp_lines if buffer is Buffer.TEMP else config.input_lines
        if size % config.granule_bytes:
            raise LogicPimError(f"{size} bytes are not whole granules of {config.granule_bytes} "
                                f"bytes")
        if line < 0 or line * config.line_bytes + size > lines * config.line_bytes:
            raise CapacityError(f"{size} bytes from line {line} do not fit the "
                                f"{buffer.name.lower()} buffer of {lines * config.line_bytes} "
                                f"bytes")
        return _REGIONS[buffer], line * config.tile.tokens, size // config.granule_bytes

    def _write(self, region: Region, address: int, granules: np.ndarray) -> None:
        most = write_granules(self._link.frame_bytes, self.config.granule_bytes)
        for first in range(0, len(granules), most):
            target = pack(TARGET, region=region, address=address + first)
            self._link.ask(Request.WRITE, target + granules[first:first + most].tobytes())

    def _read(self, region: Region, address: int, granules: int) -> np.ndarray:
        width = self.config.granule_bytes
        most, parts = read_granules(self._link.frame_bytes, width), [b""]
        for first in range(0, granules, most):
            count = min(most, granules - first)
            body = pack(TARGET + COUNT, region=region, address=address + first, count=count)
            parts.append(self._link.ask(Request.READ, body, least=count * width))
        return np.frombuffer(b"".join(parts), np.uint8).reshape(granules, width)


def _runs(ascending: np.ndarray) -> list[tuple[int, int]]:
    """[first, last) of each run of consecutive numbers."""
    if not len(ascending):
        return []
    cuts = np.flatnonzero(np.diff(ascending) != 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(ascending, cuts)]
