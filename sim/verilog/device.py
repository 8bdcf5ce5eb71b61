# SPDX-License-Identifier: BSD-2-Clause
"""The generated Verilog as a device: a Verilated stack, or a model a channel in threads."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from logicpim.rtl.tsv.lanes import groups, lane_count, links
from logicpim.spec.config import Config
from logicpim.spec.device import Counter, Device, LaneRegister, Region, descriptors, in_turn
from logicpim.spec.errors import CapacityError, LogicPimError
from logicpim.spec.isa import FIELDS, Buffer, Completion, Instruction, Status

from .binding import NO_PAUSES, Job, Pauses, Requests
from .build import model_library
from .models import DeviceFault, Models
from .timeline import Recording

_REGIONS = {Buffer.INPUT: Region.INPUT, Buffer.TEMP: Region.TEMP}


class VerilatorDevice(Device):
    """The channels of a configuration, Verilated, each with a functional DRAM.

    Time passes only while something is asked of a channel, or of the stack that it belongs to.
    Every DRAM command is judged by the protocol checker, and a fault of any kind raises
    :class:`DeviceFault`.

    Parameters
    ----------
    config : Config
    trace : bool
        Whether to keep the DRAM commands for :meth:`trace`, 24 bytes each, and what
        :meth:`recording` has.
    check : bool
        Whether to judge them.
    seed : int
        Of what idle data buses carry and of the pauses.
    pauses : Pauses
        How often the host's side of the ports pauses.
    idle_limit : int
        Clocks without any progress after which a channel counts as stuck.
    top : callable, optional
        Makes the hardware in place of the real channel.
    library : Path, optional
        Is the hardware in place of both, see :func:`~logicpim.sim.verilog.build.built`.

    Attributes
    ----------
    cycles : dict
        By channel: logic clocks of the last :meth:`execute`, from the first instruction
        accepted to the last completed.
    """

    timed = True

    def __init__(self, config: Config, *, trace: bool = False, check: bool = True, seed: int = 0,
                 pauses: Pauses = NO_PAUSES, idle_limit: int = 100_000, top=None,
                 library: Path | None = None):
        self.config, self.pauses = config, pauses
        self.cycles: dict[int, int] = {}
        self._keep, self._idle_limit = trace, idle_limit
        # Channels are equal: one library serves any number of independent ones.
        each = config if config.stack else config.replace(channels=1)
        library = library or model_library(each.replace(host="native"), top)
        self._models = Models(config, library, seed=seed, keep=trace, check=check,
                              idle_limit=idle_limit)
        self._recordings = {c: Recording() for c in range(config.channels)}

    @property
    def simulator_s(self) -> float:
        return self._models.inside.seconds

    def dram(self, channel: int) -> np.ndarray:
        model, number = self._models.at(channel)
        return model.memories[number]

    def write_buffer(self, channel: int, buffer: Buffer, line: int, data: np.ndarray) -> None:
        self.write_buffers(buffer, line, {channel: data})

    def read_buffer(self, channel: int, buffer: Buffer, line: int, size: int) -> np.ndarray:
        return self.read_buffers(buffer, line, {channel: size})[channel]

    def write_buffers(self, buffer: Buffer, line: int, data: Mapping[int, np.ndarray]) -> None:
        if wrong := {each.dtype for each in data.values()} - {np.dtype(np.uint8)}:
            raise TypeError(f"buffers take bytes (uint8), not {wrong.pop()}")
        self._buffer_accesses(buffer, line, data, write=True)

    def read_buffers(self, buffer: Buffer, line: int, sizes: Mapping[int, int]
                     ) -> dict[int, np.ndarray]:
        nothing = {c: np.broadcast_to(np.uint8(0), size) for c, size in sizes.items()}
        return self._buffer_accesses(buffer, line, nothing, write=False)

    def write_dram(self, data: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> None:
        self._ask(Region.DRAM, data, write=True)

    def host(self, channel: int, requests: Requests) -> None:
        """Put requests through the host port and fill in their responses."""
        self._hosts({channel: requests})

    def _hosts(self, requests: Mapping[int, Requests]) -> None:
        """Those of several channels at the same time."""
        for channel in requests:
            self._require_channel(channel)
        if self.config.stack:
            return self._models.run(0, self._job((), requests))
        self._models.run_all({c: self._job((), {0: each}) for c, each in requests.items()})

    def execute(self, programs: Mapping[int, Sequence[Instruction | int]],
                traffic: Mapping[int, Requests] | None = None) -> dict[int, list[Completion]]:
        """As in :class:`Device`; ``traffic`` goes through the host ports at the same time."""
        traffic = traffic or {}
        words = {}
        for channel, program in programs.items():
            self._models.at(channel)
            words[channel] = descriptors(program)
        if self.config.stack:
            return in_turn(words, lambda program: self.execute_stack(program, traffic))
        jobs = {c: self._job(program, {0: traffic[c]} if c in traffic else {})
                for c, program in words.items()}
        self._models.run_all(jobs)
        self.cycles.update(dict.fromkeys(programs, 0))
        return {c: self._completions([{c}] * len(words[c]), words[c], job)
                for c, job in jobs.items()}

    def execute_stack(self, program: Sequence[tuple[Instruction | int, Collection[int]]],
                      traffic: Mapping[int, Requests] | None = None) -> list[Completion]:
        """As in :class:`Device`; ``traffic`` goes through the host ports at the same time."""
        if not self.config.stack:
            return super().execute_stack(program)
        words, sets = self._stack_program(program)
        job = self._job(words, traffic or {}, [sum(1 << c for c in each) for each in sets])
        self._models.run(0, job)
        return self._completions(sets, words, job)

    def counters(self, channel: int) -> dict[str, int]:
        return self.all_counters([channel])[channel]

    def all_counters(self, channels: Collection[int]) -> dict[int, dict[str, int]]:
        answers = self._registers(channels, np.arange(len(Counter)), write=False)
        named = {}
        for channel, each in answers.items():
            values = each[:, :8].copy().view("<u8")[:, 0]
            named[channel] = {c.name.lower(): int(values[c]) for c in Counter}
            if self._keep:
                self._recordings[channel].samples.append((self.clocks(channel), named[channel]))
        return named

    def clear_counters(self) -> None:
        self._registers(range(self.config.channels), np.zeros(1, int), write=True)

    def clocks(self, channel: int) -> int:
        """Logic clocks of the channel since reset."""
        model, number = self._models.at(channel)
        return model.state(number).clock

    def record(self, channel: int, path: Path | None) -> None:
        """Count how often nets change, into a SAIF file that a call without a path finishes.

        Only while instructions are under way, and with a ``library`` that was built for it.
        """
        self._models.at(channel)[0].record(path)

    def trace(self, channel: int) -> np.ndarray:
        """The DRAM commands of a channel since reset or :meth:`clear_trace`.

        Empty unless the device was made with ``trace=True``.
        """
        return self._models.trace(channel)

    def recording(self, channel: int) -> Recording:
        """Instructions and readings of the counters, kept as :meth:`trace` is."""
        return self._recordings[channel]

    def clear_trace(self) -> None:
        """Forget the commands kept so far, and the instructions."""
        self._models.clear_traces()
        self._recordings = {c: Recording() for c in self._recordings}

    def idle(self, channel: int, clocks: int) -> None:
        """Let time pass."""
        self._models.idle(channel, clocks)

    def inject(self, channel: int, granule: int, bit: int) -> None:
        """Invert a stored bit of a granule; with ``ecc`` its check bits are above its data."""
        bits = self.config.stored_bits
        if not (0 <= granule < self.config.dram.granules and 0 <= bit < bits):
            raise LogicPimError(f"bit {bit} of granule {granule} does not exist: a granule has "
                                f"{bits} bits, the channel {self.config.dram.granules} granules")
        model, number = self._models.at(channel)
        model.inject(number, granule, bit)

    def disturb(self, channel: int, bits: int) -> int:
        """Invert so many random bits of each part of 64 (and 8) as it is read, from now on.

        Returns the parts disturbed so far. Needs ``ecc``, which has parts.
        """
        model, number = self._models.at(channel)
        return model.disturb(number, bits)

    def wrong_granules(self, channel: int) -> int:
        """Stored granules whose check bits are not those of their data."""
        model, number = self._models.at(channel)
        return model.wrong_granules(number)

    def stick(self, channel: int, link: str, lane: int, level: int | None) -> None:
        """Make a lane of a link (as in :func:`~logicpim.rtl.tsv.lanes.links`) stuck at 0 or 1, or
        sound again. Needs ``lane_repair``."""
        if not self.config.lane_repair or link not in links(self.config):
            raise LogicPimError(f"there are no lanes {link!r}: lane_repair=true, links are "
                                f"{', '.join(links(self.config))}")
        if not 0 <= lane < lane_count(self.config, link):
            raise LogicPimError(f"lane {lane} does not exist: {link} has "
                                f"{lane_count(self.config, link)}, counted from 0")
        model, number = self._models.at(channel)
        model.stick(number, list(links(self.config)).index(link), lane, level)

    def test_lanes(self, channel: int) -> tuple[int, int]:
        """Run the lane test; returns (groups with a dead lane repaired, groups beyond repair)."""
        test = np.array([LaneRegister.TEST])
        self._registers([channel], test, write=True)
        answer = self._registers([channel], test, write=False)[channel]
        low, high = answer[0, :4].copy().view("<u2")
        return int(low), int(high)

    def lane_groups(self, channel: int) -> list[tuple[int, bool, bool]]:
        """Of each group of lanes: the lane left out, whether it is dead, whether more are."""
        at = LaneRegister.GROUPS + np.arange(len(groups(self.config)))
        answers = self._registers([channel], at, write=False)[channel]
        values = answers[:, :4].copy().view("<u4")[:, 0]
        return [(int(v) & 0xFFFF, bool(v >> 16 & 1), bool(v >> 17 & 1)) for v in values]

    def close(self) -> None:
        self._models.close()

    def _job(self, words, requests, sets=()) -> Job:
        return Job(self.config, words, requests, self.pauses, self._idle_limit, sets)

    def _completions(self, sets: Sequence[Collection[int]], words: list[int], job: Job
                     ) -> list[Completion]:
        channels = sorted(set().union(*sets))
        tags = [FIELDS["tag"].of(word) for word in words]
        if job.tags.tolist() != tags:
            name = "the stack" if self.config.stack else f"channel {channels[0]}"
            raise DeviceFault(f"{name}: completions with tags {job.tags.tolist()} "
                              f"for instructions with tags {tags}")
        clocks = int((job.done_clocks[-1:] - job.issue_clocks[:1]).sum())
        self.cycles.update(dict.fromkeys(channels, clocks))
        statuses = job.statuses.tolist()
        if unknown := set(statuses) - set(Status):
            raise DeviceFault(f"channel {channels[0]}: a completion with status {max(unknown)}, "
                              f"which there is not")
        self._record(words, job, sets)
        return [Completion(tag, Status(s)) for tag, s in zip(tags, statuses, strict=True)]

    def _record(self, words: list[int], job: Job, sets: Sequence[Collection[int]]) -> None:
        """Keep the instructions for the recordings of their channels."""
        if not self._keep:
            return
        times = zip(words, job.statuses.tolist(), job.issue_clocks.tolist(),
                    job.done_clocks.tolist(), strict=True)
        for each, channels in zip(times, sets, strict=True):
            for channel in channels:
                self._recordings[channel].instructions.append(each)

    def _buffer_accesses(self, buffer, line, data, write) -> dict[int, np.ndarray]:
        """Bytes of each channel from a line on, written or read."""
        config, granule = self.config, self.config.granule_bytes
        buffer, tokens = Buffer(buffer), config.tile.tokens
        lines = config.temp_lines if buffer is Buffer.TEMP else config.input_lines
        for size in (each.size for each in data.values()):
            if size % granule:
                raise LogicPimError(f"{size} bytes are not whole granules of {granule} bytes")
            if line < 0 or line * config.line_bytes + size > lines * config.line_bytes:
                raise CapacityError(f"{size} bytes from line {line} do not fit the "
                                    f"{buffer.name.lower()} buffer of "
                                    f"{lines * config.line_bytes} bytes")
        granules = {c: each.reshape(-1, granule) for c, each in data.items()}
        answers = self._ask(_REGIONS[buffer], {
            c: (line * tokens + np.arange(len(each)), each) for c, each in granules.items()}, write)
        return {c: each.reshape(-1) for c, each in answers.items()}

    def _registers(self, channels, addresses, write) -> dict[int, np.ndarray]:
        data = np.zeros((len(addresses), self.config.granule_bytes), np.uint8)
        return self._ask(Region.REGISTERS, dict.fromkeys(channels, (addresses, data)), write)

    def _ask(self, region, accesses, write) -> dict[int, np.ndarray]:
        """Granules (addresses, data) of each channel through the host ports; the answers."""
        requests = {c: Requests(np.full(len(addresses), write), np.full(len(addresses), region),
                                addresses, data)
                    for c, (addresses, data) in accesses.items()}
        self._hosts(requests)
        for channel, each in requests.items():
            if each.errors.any():
                raise DeviceFault(f"channel {channel} refused a host access to {region.name}")
        return {c: each.answers for c, each in requests.items()}
