# SPDX-License-Identifier: BSD-2-Clause
"""The generated Verilog as a device: one Verilated model a channel, channels in threads."""

import copy
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from logicpim.rtl.tsv.lanes import groups, lane_count, links
from logicpim.sim.dram.checker import TraceChecker
from logicpim.sim.dram.trace import TRACE_DTYPE
from logicpim.spec.config import Config
from logicpim.spec.device import Counter, Device, LaneRegister, Region
from logicpim.spec.errors import CapacityError, LogicPimError
from logicpim.spec.isa import FIELDS, INSTRUCTION_BITS, Buffer, Completion, Instruction, Status

from .binding import NO_PAUSES, ChannelModel, Job, Outcome, Pauses, Requests
from .build import model_library
from .timeline import Recording

_CLOCKS = 1 << 16  # of one call into the library: between calls Python sees Ctrl-C and traces
_REGIONS = {Buffer.INPUT: Region.INPUT, Buffer.TEMP: Region.TEMP}


class DeviceFault(RuntimeError):
    """The hardware broke a promise: a fault of LogicPIM's, not of its user."""


class VerilatorDevice(Device):
    """The channels of a configuration as Verilated models, each with a functional DRAM.

    Time passes only while something is asked of a channel. Every DRAM command is judged by the
    protocol checker, and a fault of any kind raises :class:`DeviceFault`.

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

    Attributes
    ----------
    cycles : dict
        By channel: logic clocks of the last :meth:`execute`, from the first instruction
        accepted to the last completed.
    """

    timed = True

    def __init__(self, config: Config, *, trace: bool = False, check: bool = True, seed: int = 0,
                 pauses: Pauses = NO_PAUSES, idle_limit: int = 100_000, top=None):
        self.config, self.check, self.pauses = config, check, pauses
        self.cycles: dict[int, int] = {}
        self._keep, self._seed, self._idle_limit = trace, seed, idle_limit
        # Channels are equal: one library serves any number of them.
        self._library = model_library(config.replace(channels=1, host="native"), top)
        self._models: dict[int, ChannelModel] | None = {}
        self._checkers = {c: TraceChecker(config, c) for c in range(config.channels)}
        self._traces: dict[int, list[np.ndarray]] = {c: [] for c in range(config.channels)}
        self._recordings = {c: Recording() for c in range(config.channels)}
        self._stop = threading.Event()

    def dram(self, channel: int) -> np.ndarray:
        return self._model(channel).memory

    def write_buffer(self, channel: int, buffer: Buffer, line: int, data: np.ndarray) -> None:
        if data.dtype != np.uint8:
            raise TypeError(f"buffers take bytes (uint8), not {data.dtype}")
        self._host_access(channel, buffer, line, data.reshape(-1), True)

    def read_buffer(self, channel: int, buffer: Buffer, line: int, size: int) -> np.ndarray:
        return self._host_access(channel, buffer, line, np.broadcast_to(np.uint8(0), size), False)

    def host(self, channel: int, requests: Requests) -> None:
        """Put requests through the host port and fill in their responses."""
        self._run(channel, Job(self.config, (), requests, self.pauses, self._idle_limit))

    def execute(self, programs: Mapping[int, Sequence[Instruction | int]],
                traffic: Mapping[int, Requests] | None = None) -> dict[int, list[Completion]]:
        """As in :class:`Device`; ``traffic`` goes through the host ports at the same time."""
        traffic, jobs = traffic or {}, {}
        for channel, program in programs.items():
            words = [insn.encode() if isinstance(insn, Instruction) else int(insn)
                     for insn in program]
            if any(not 0 <= word < 1 << INSTRUCTION_BITS for word in words):
                raise LogicPimError(f"a raw instruction is not a number of {INSTRUCTION_BITS} bits")
            self._model(channel)
            jobs[channel] = words, Job(self.config, words, traffic.get(channel), self.pauses,
                                       self._idle_limit)
        self._run_all({channel: job for channel, (_, job) in jobs.items()})
        return {channel: self._completions(channel, *job) for channel, job in jobs.items()}

    def counters(self, channel: int) -> dict[str, int]:
        answers = self._registers(channel, np.arange(len(Counter)), write=False)
        values = answers[:, :8].copy().view("<u8")[:, 0]
        named = {counter.name.lower(): int(values[counter]) for counter in Counter}
        if self._keep:
            self._recordings[channel].samples.append((self.clocks(channel), named))
        return named

    def clear_counters(self) -> None:
        for channel in range(self.config.channels):
            self._registers(channel, np.zeros(1, int), write=True)

    def clocks(self, channel: int) -> int:
        """Logic clocks of the channel since reset."""
        return self._model(channel).state.clock

    def trace(self, channel: int) -> np.ndarray:
        """The DRAM commands of a channel since reset or :meth:`clear_trace`.

        Empty unless the device was made with ``trace=True``.
        """
        self._model(channel)
        kept = self._traces[channel]
        kept[:] = [np.concatenate([np.zeros(0, TRACE_DTYPE), *kept])]
        return kept[0]

    def recording(self, channel: int) -> Recording:
        """Instructions and readings of the counters, kept as :meth:`trace` is."""
        return self._recordings[channel]

    def clear_trace(self) -> None:
        """Forget the commands kept so far, and the instructions."""
        for kept in self._traces.values():
            kept.clear()
        self._recordings = {c: Recording() for c in self._recordings}

    def idle(self, channel: int, clocks: int) -> None:
        """Let time pass."""
        model = self._model(channel)
        while clocks > 0:
            model.idle(min(clocks, _CLOCKS))
            self._judge(channel, model)
            clocks -= _CLOCKS

    def inject(self, channel: int, granule: int, bit: int) -> None:
        """Invert a stored bit of a granule; with ``ecc`` its check bits are above its data."""
        bits = self.config.stored_bits
        if not (0 <= granule < self.config.dram.granules and 0 <= bit < bits):
            raise LogicPimError(f"bit {bit} of granule {granule} does not exist: a granule has "
                                f"{bits} bits, the channel {self.config.dram.granules} granules")
        self._model(channel).inject(granule, bit)

    def disturb(self, channel: int, bits: int) -> int:
        """Invert so many random bits of each part of 64 (and 8) as it is read, from now on.

        Returns the parts disturbed so far. Needs ``ecc``, which has parts.
        """
        return self._model(channel).disturb(bits)

    def wrong_granules(self, channel: int) -> int:
        """Stored granules whose check bits are not those of their data."""
        return self._model(channel).wrong_granules

    def stick(self, channel: int, link: str, lane: int, level: int | None) -> None:
        """Make a lane of a link (as in :func:`~logicpim.rtl.tsv.lanes.links`) stuck at 0 or 1, or
        sound again. Needs ``lane_repair``."""
        if not self.config.lane_repair or link not in links(self.config):
            raise LogicPimError(f"there are no lanes {link!r}: lane_repair=true, links are "
                                f"{', '.join(links(self.config))}")
        if not 0 <= lane < lane_count(self.config, link):
            raise LogicPimError(f"lane {lane} does not exist: {link} has "
                                f"{lane_count(self.config, link)}, counted from 0")
        self._model(channel).stick(list(links(self.config)).index(link), lane, level)

    def test_lanes(self, channel: int) -> tuple[int, int]:
        """Run the lane test; returns (groups with a dead lane repaired, groups beyond repair)."""
        self._registers(channel, np.array([LaneRegister.TEST]), write=True)
        low, high = self._registers(channel, np.array([LaneRegister.TEST]),
                                    write=False)[0, :4].copy().view("<u2")
        return int(low), int(high)

    def lane_groups(self, channel: int) -> list[tuple[int, bool, bool]]:
        """Of each group of lanes: the lane left out, whether it is dead, whether more are."""
        at = LaneRegister.GROUPS + np.arange(len(groups(self.config)))
        values = self._registers(channel, at, write=False)[:, :4].copy().view("<u4")[:, 0]
        return [(int(v) & 0xFFFF, bool(v >> 16 & 1), bool(v >> 17 & 1)) for v in values]

    def close(self) -> None:
        for model in (self._models or {}).values():
            model.close()
        self._models = None

    def _model(self, channel: int) -> ChannelModel:
        if self._models is None:
            raise RuntimeError("the device is closed")
        if not 0 <= channel < self.config.channels:
            raise LogicPimError(f"channel {channel} does not exist: {self.config.name} has "
                                f"{self.config.channels}, counted from 0")
        if channel not in self._models:
            self._models[channel] = ChannelModel(self._library, self.config,
                                                 self._seed * 64 + channel)
        return self._models[channel]

    def _run_all(self, jobs: dict[int, Job]) -> None:
        self._stop.clear()
        if len(jobs) < 2:
            for channel, job in jobs.items():
                self._run(channel, job)
            return
        with ThreadPoolExecutor(min(len(jobs), len(os.sched_getaffinity(0)))) as pool:
            try:
                list(pool.map(self._run, jobs.keys(), jobs.values()))
            except BaseException:
                self._stop.set()
                raise

    def _run(self, channel: int, job: Job) -> None:
        model, outcome = self._model(channel), Outcome.MORE
        model.begin()
        while outcome is Outcome.MORE and not self._stop.is_set():
            outcome = model.run(job, _CLOCKS)
            self._judge(channel, model)
        if outcome is Outcome.STUCK:
            state = model.state
            raise DeviceFault(f"channel {channel} is stuck at clock {state.clock}, no progress for "
                              f"{self._idle_limit} clocks: {job.progress}; the last of "
                              f"{state.commands} DRAM commands was {state.last_command} at command "
                              f"clock {state.last.clock}")

    def _judge(self, channel: int, model: ChannelModel) -> None:
        """Raise on a fault of the functional DRAM or a breach of the protocol."""
        state, wanted = model.state, self._keep or self.check
        if state.faults:
            raise DeviceFault(f"channel {channel}: {state.first_fault.decode()} "
                              f"({state.faults} faults in all)")
        trace = model.take_trace(wanted)
        if self._keep:
            self._traces[channel].append(trace)
        if self.check:
            checker = self._checkers[channel]
            found = checker.feed(trace)
            probe = copy.copy(checker)
            probe.violations = []
            if found := found or probe.finish(2 * state.clock):
                raise DeviceFault(f"DRAM protocol violated: {found[0]} ({len(found)} violations)")

    def _completions(self, channel: int, words: list[int], job: Job) -> list[Completion]:
        tags = [FIELDS["tag"].of(word) for word in words]
        if job.tags.tolist() != tags:
            raise DeviceFault(f"channel {channel}: completions with tags {job.tags.tolist()} "
                              f"for instructions with tags {tags}")
        clocks = job.done_clocks[-1:] - job.issue_clocks[:1]
        self.cycles[channel] = int(clocks.sum())
        statuses = job.statuses.tolist()
        if unknown := set(statuses) - set(Status):
            raise DeviceFault(f"channel {channel}: a completion with status {max(unknown)}, which "
                              f"there is not")
        if self._keep:
            self._recordings[channel].instructions += zip(
                words, statuses, job.issue_clocks.tolist(), job.done_clocks.tolist(), strict=True)
        return [Completion(tag, Status(s)) for tag, s in zip(tags, statuses, strict=True)]

    def _host_access(self, channel, buffer, line, data, write) -> np.ndarray:
        config, granule = self.config, self.config.granule_bytes
        buffer = Buffer(buffer)
        lines = config.temp_lines if buffer is Buffer.TEMP else config.input_lines
        if data.size % granule:
            raise LogicPimError(f"{data.size} bytes are not whole granules of {granule} bytes")
        if line < 0 or line * config.line_bytes + data.size > lines * config.line_bytes:
            raise CapacityError(f"{data.size} bytes from line {line} do not fit the "
                                f"{buffer.name.lower()} buffer of {lines * config.line_bytes} "
                                f"bytes")
        n = data.size // granule
        addresses = line * config.tile.tokens + np.arange(n)
        return self._ask(channel, _REGIONS[buffer], addresses, data.reshape(n, granule),
                         write).reshape(-1)

    def _registers(self, channel, addresses, write) -> np.ndarray:
        data = np.zeros((len(addresses), self.config.granule_bytes), np.uint8)
        return self._ask(channel, Region.REGISTERS, addresses, data, write)

    def _ask(self, channel, region, addresses, data, write) -> np.ndarray:
        requests = Requests(np.full(len(addresses), write), np.full(len(addresses), region),
                            addresses, data)
        self.host(channel, requests)
        if requests.errors.any():
            raise DeviceFault(f"channel {channel} refused a host access to {region.name}")
        return requests.answers
