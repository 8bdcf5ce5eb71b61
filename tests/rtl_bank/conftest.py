# SPDX-License-Identifier: BSD-2-Clause
"""A bench around controller, TSV interface and DRAM model; it judges every run it makes."""

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Component
from amaranth.sim import Simulator

from logicpim.rtl.bank.controller import DramController
from logicpim.rtl.bank.order import HostOrder
from logicpim.rtl.signatures import Activity
from logicpim.rtl.stream import connect
from logicpim.rtl.tsv.interface import TsvInterface
from logicpim.sim.dram.checker import check_trace
from logicpim.sim.dram.model import DramModel
from logicpim.sim.dram.pysim import dram_process
from logicpim.sim.model.layout import word_addresses
from logicpim.spec.dram import DramCommand


class Pair(Component):
    """Controller, TSV interface and the order of host accesses, connected."""

    def __init__(self, config):
        self.dram, self.tsv = DramController(config), TsvInterface(config)
        self.order = HostOrder(config, 64)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dram, m.submodules.tsv = self.dram, self.tsv
        m.submodules.order = self.order
        connect(m, self.order.o, self.dram.host)
        m.d.comb += [self.order.o_done.eq(self.dram.host_done),
                     self.order.o_part.eq(self.dram.host_part),
                     self.order.o_rdata.eq(self.tsv.host_rdata)]
        wiring.connect(m, self.dram.strobes, self.tsv.strobes)
        return m


@dataclass
class Job:
    """A bundle job; ``data`` are the words it writes, None for a read."""

    address: int
    words: int
    data: list | None = None
    interleave: int = 0

    def addresses(self, config):
        return word_addresses(config, self.address, self.words, self.interleave).tolist()


@dataclass
class Host:
    """A host access: a read where ``data`` is None. ``after`` is its earliest clock."""

    address: int
    data: int | None = None
    mask: int = 0
    after: int = 0


@dataclass
class Result:
    """What happened: clocks of events, data that came out, samples of each clock."""

    words: list = field(default_factory=list)
    host_data: list = field(default_factory=list)
    job_done: list = field(default_factory=list)
    host_start: list = field(default_factory=list)
    host_done: list = field(default_factory=list)
    activity: list = field(default_factory=list)
    path: list = field(default_factory=list)
    refreshes: int = 0
    trace: np.ndarray = None

    @property
    def host_latency(self):
        return [b - a for a, b in zip(self.host_start, self.host_done, strict=True)]


class Bench:
    """Runs jobs and host accesses against the DRAM model.

    Parameters
    ----------
    config, seed
    gap : float
        Chance in each clock that a driver with something to offer does not offer it yet.
    stall : callable
        (random, clock) -> whether the consumer of beats stalls in this clock.
    pause : int
        Clocks between two words to write at least.
    """

    def __init__(self, config, seed, *, gap=0.0, stall=lambda rng, clock: False, pause=0):
        self.config, self.gap, self.stall, self.pause = config, gap, stall, pause
        self.rng = random.Random(seed)
        memory = np.random.default_rng(seed).integers(0, 256, config.capacity_bytes, np.uint8)
        self.model = DramModel(config, memory, seed)

    def word(self, memory, address):
        size = self.config.word_bytes
        return int.from_bytes(memory[address * size:(address + 1) * size].tobytes(), "little")

    def run(self, jobs=(), hosts=(), *, limit=20000, clocks=0, starve=False):
        """Simulate until all is done (and ``clocks`` have passed); returns a :class:`Result`.

        ``starve``: stop after ``clocks`` and do not insist on the jobs.
        """
        config, start, result = self.config, self.model.memory.copy(), Result()
        top = Pair(config)
        dram, tsv, order = top.dram, top.tsv, top.order
        data = [word for job in jobs for word in job.data or ()]
        wanted = [a for j in jobs if j.data is None for a in j.addresses(config)]

        async def drive(ctx):
            queues = {"job": list(jobs), "host": list(hosts), "words": list(data)}
            ports = {"job": dram.job, "host": order.i, "words": tsv.words}
            beats, ready = [], False
            sampled = ctx.tick().sample(
                dram.job.ready, order.i.ready, tsv.words.ready, tsv.beats.valid,
                tsv.beats.payload, dram.job_done, order.done, order.rdata,
                dram.activity, dram.event_refresh, dram.bus.path)
            offered = dict.fromkeys(ports)
            clock = settled = next_word = 0
            async for (_, _, *readys, beat_valid, beat, job_done, host_done, rdata, activity,
                       refresh, path) in sampled:
                for name, taken in zip(ports, readys, strict=True):
                    if offered[name] is not None and taken:
                        offered[name] = None
                        ctx.set(ports[name].valid, 0)
                    queue = queues[name]
                    may = queue and offered[name] is None and self.rng.random() >= self.gap
                    after = next_word if name == "words" else getattr((queue or [0])[0], "after", 0)
                    if may and after <= clock:
                        offered[name] = queue.pop(0)
                        next_word = clock + self.pause if name == "words" else next_word
                        ctx.set(ports[name].payload, self.payload(offered[name]))
                        ctx.set(ports[name].valid, 1)
                        if name == "host":
                            result.host_start.append(clock)
                if beat_valid and ready:
                    beats.append(beat)
                ready = not self.stall(self.rng, clock)
                ctx.set(tsv.beats.ready, ready)
                if job_done:
                    result.job_done.append(clock)
                if host_done:
                    result.host_done.append(clock)
                    if hosts[len(result.host_done) - 1].data is None:
                        result.host_data.append(rdata)
                result.activity.append(Activity(activity))
                result.path.append(path)
                result.refreshes += refresh
                clock += 1
                done = (len(result.job_done), len(result.host_done), len(beats)) == (
                    len(jobs), len(hosts), 2 * len(wanted))
                settled = settled + 1 if done else 0
                # A host write is done with its WR; its data follows.
                if clock >= clocks and (starve or settled > 1 + config.dram_timing.write_latency):
                    break
                assert clock < limit, f"stuck: {len(result.job_done)} jobs, " \
                    f"{len(result.host_done)} host accesses, {len(beats)} beats"
            result.words = [self.join(*beats[i:i + 2]) for i in range(0, len(beats) - 1, 2)]

        simulator = Simulator(top)
        simulator.add_clock(1e-6)
        simulator.add_process(dram_process(self.model, dram.bus, tsv.bus))
        simulator.add_testbench(drive)
        simulator.run()
        result.trace = self.model.trace
        self.judge(start, jobs, hosts, wanted, result, starve)
        return result

    def payload(self, item):
        if isinstance(item, Job):
            return {"address": item.address, "words": item.words,
                    "write": item.data is not None, "interleave": item.interleave}
        if isinstance(item, Host):
            return {"write": item.data is not None, "address": item.address,
                    "data": item.data or 0, "mask": item.mask}
        return item

    def join(self, *beats):
        """The word of two beats, by the text of beat_stream."""
        half = self.config.tile.depth * 16
        mask, word = (1 << half) - 1, 0
        for row in range(self.config.tile.rows):
            for h, beat in enumerate(beats):
                word |= (beat >> row * half & mask) << (2 * row + h) * half
        return word

    def judge(self, start, jobs, hosts, wanted, result, starve):
        """Protocol, path, and every bit that was read or written.

        Jobs and host accesses of one run must not touch the same granules where one writes.
        """
        model, config = self.model, self.config
        assert model.faults == []
        end = 2 * len(result.path)
        assert [str(v) for v in check_trace(model.trace, config, end_clock=end)] == []
        assert result.words == [self.word(start, a) for a in wanted][:len(result.words)]
        assert starve or len(result.words) == len(wanted)
        expect, size, reads = start.copy(), config.granule_bytes, []
        for job in jobs:
            for address, word in zip(job.addresses(config), job.data or (), strict=False):
                at = address * config.word_bytes
                expect[at:at + config.word_bytes] = np.frombuffer(
                    word.to_bytes(config.word_bytes, "little"), np.uint8)
        for access in hosts:
            granule = expect[access.address * size:(access.address + 1) * size]
            if access.data is None:
                reads.append(int.from_bytes(granule.tobytes(), "little"))
            else:
                new = np.frombuffer(access.data.to_bytes(size, "little"), np.uint8)
                change = np.array([access.mask >> i & 1 for i in range(size)], bool)
                granule[change] = new[change]
        assert result.host_data == (reads[:len(result.host_data)] if starve else reads)
        if not starve:
            np.testing.assert_array_equal(model.memory, expect)
        self.judge_path(result)

    def judge_path(self, result):
        """Each command finds its bundle with the one who commands: no bundle has two owners."""
        org = self.config.dram
        for record in self.model.records:
            command, clock = DramCommand(record.command), record.clock // 2
            if command in (DramCommand.REFAB, DramCommand.ALL_PRE):
                continue
            bundle = record.bank if command.is_bundle else org.lane_of(
                record.rank, record.bank_group, record.bank)[0]
            assert result.path[clock] >> bundle & 1 == command.is_bundle, record


@pytest.fixture
def bench(seed):
    """Makes a :class:`Bench` with the test's seed."""
    def make(config, **options):
        return Bench(config, seed, **options)
    make.Job, make.Host = Job, Host
    return make
