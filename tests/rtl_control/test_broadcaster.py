# SPDX-License-Identifier: BSD-2-Clause
"""The broadcaster: every line in the order of its use, from where it lies, never one too many."""

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from logicpim.rtl.control.broadcaster import Broadcaster, LineGather
from logicpim.sim.model import layout
from logicpim.spec.isa import BYTE_FORMATS, Format
from logicpim.spec.presets import PRESETS

CHANNELS = 4
STACK = PRESETS["small"].replace(stack=True, channels=CHANNELS, formats=("fp16", "int8"))
GONE = 2000     # clocks without a line, after which something has been lost
SOON = 12       # clocks until a line is asked for, once a job is begun and all have room


@dataclass
class Job:
    """A dealt GEMM."""

    channels: tuple[int, ...]
    m: int
    n: int
    k: int
    fmt: Format
    line: int
    dealt: int

    def walk(self, config):
        """(channel, line) in the order of use: pass, row block, k word, group of tokens."""
        tokens = config.tile.tokens
        words = layout.operand_lines(config, 1, self.k, self.fmt)
        first = 0
        for at in range(0, self.m, config.pass_tokens(self.fmt)):
            groups = -(-min(config.pass_tokens(self.fmt), self.m - at) // tokens)
            for _ in range(-(-self.n // config.tile.rows)):
                for word in range(words):
                    for group in range(groups):
                        yield (self.channels[word // self.dealt],
                               self.line + (first + group) * self.dealt + word % self.dealt)
            first += groups


@dataclass
class Channel:
    """What a channel has begun, holds and has used."""

    jobs: deque = field(default_factory=deque)      # [job, lines that it has yet to use], in order
    begun: int = 0                                  # of these
    lines: deque = field(default_factory=deque)
    held: int = 0                                   # lines asked for and not used


def random_jobs(rng, number):
    for _ in range(number):
        members = tuple(sorted(rng.sample(range(CHANNELS), rng.randint(1, CHANNELS))))
        k, fmt = rng.randint(1, 80), rng.choice(STACK.weight_formats)
        words = layout.operand_lines(STACK, 1, k, fmt)
        dealt = rng.randint(-(-words // len(members)), words + 1)
        yield Job(members, rng.randint(1, 11), rng.randint(1, 13), k, fmt, rng.randrange(9), dealt)


class Pair(wiring.Component):
    """A broadcaster and what brings its lines."""

    def __init__(self, config):
        self.broadcaster, self.gather = Broadcaster(config), LineGather(config)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.broadcaster, m.submodules.gather = self.broadcaster, self.gather
        m.d.comb += self.gather.request.eq(self.broadcaster.request)
        return m


def run(config, jobs, rng, begin=0.3, use=0.5):
    """Clocks until all lines are used; ``begin``, ``use``: a channel's probability in a clock."""
    dut = Pair(config)
    caster, gather = dut.broadcaster, dut.gather
    channels = [Channel() for _ in range(CHANNELS)]
    expected = deque()
    for job in jobs:
        walk = list(job.walk(config))
        expected += [(job, at) for at in walk]
        for member in job.channels:
            channels[member].jobs.append([job, len(walk)])
    clock = 0

    async def submit(ctx):
        for job in jobs:
            for name, value in (("m", job.m), ("n", job.n), ("k", job.k), ("line", job.line),
                                ("stride", job.dealt), ("narrow", job.fmt in BYTE_FORMATS),
                                ("channels", sum(1 << c for c in job.channels))):
                ctx.set(caster.job.payload[name], value)
            ctx.set(caster.job.valid, 1)
            await ctx.tick().until(caster.job.ready)
            ctx.set(caster.job.valid, 0)

    def content(channel, line):
        return channel << 20 | line << 4 | 5

    async def serve(ctx):
        nonlocal clock
        quiet, idle, due, read = 0, 0, deque([None, None]), None
        while expected or any(c.held for c in channels):
            request = ctx.get(caster.request)
            pulses = {"begun": 0, "taken": 0}
            for index, channel in enumerate(channels):
                # Two jobs at most are begun and have lines to use.
                if channel.begun < min(2, len(channel.jobs)) and rng.random() < begin:
                    channel.begun += 1
                    pulses["begun"] |= 1 << index
            quiet, idle = quiet + 1, idle + 1
            if not expected or not all(
                    channels[c].held < config.line_fifo
                    and any(expected[0][0] is job for job, _ in list(channels[c].jobs)
                            [:channels[c].begun]) for c in expected[0][0].channels):
                idle = 0
            for index in range(CHANNELS):
                ctx.set(gather.lines[index], rng.getrandbits(config.line_bits))
            if read:
                ctx.set(gather.lines[read[0]], content(*read))
            read = None
            if request.channels:
                quiet = idle = 0
                job, (owner, line) = expected.popleft()
                assert request.owner == 1 << owner and request.address == line
                assert request.channels == sum(1 << c for c in job.channels)
                for member in job.channels:
                    channel = channels[member]
                    assert any(job is begun for begun, _ in list(channel.jobs)[:channel.begun])
                    channel.held += 1
                    assert channel.held <= config.line_fifo
                read = owner, line
                due.append((request.channels, content(*read)))
            else:
                assert request.owner == 0
                due.append(None)
            valid, line = ctx.get(gather.valid), ctx.get(gather.line)
            arrived = due.popleft()
            assert (valid, valid and line) == (arrived or (0, 0))
            for index, channel in enumerate(channels):
                if valid >> index & 1:
                    channel.lines.append(line)
                if channel.lines and rng.random() < use:
                    channel.lines.popleft()
                    channel.held -= 1
                    pulses["taken"] |= 1 << index
                    channel.jobs[0][1] -= 1
                    if not channel.jobs[0][1]:
                        channel.jobs.popleft()
                        channel.begun -= 1
            ctx.set(caster.begun, pulses["begun"])
            ctx.set(caster.taken, pulses["taken"])
            assert quiet < GONE and idle < SOON, f"nothing asked for, {len(expected)} lines due"
            await ctx.tick()
            clock += 1

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(submit)
    sim.add_testbench(serve)
    sim.run()
    return clock


@pytest.mark.parametrize("begin, use", [(0.3, 0.5), (1, 1), (0.05, 0.1)])
def test_random_jobs(seed, begin, use):
    rng = random.Random(f"{seed} {use}")
    run(STACK, list(random_jobs(rng, 6 if begin < 0.1 else 12)), rng, begin, use)


def test_a_line_a_clock(seed):
    """But for one in 32, and what a job takes to begin."""
    job = Job((0, 1, 3), 2, 400, 15, Format.INT8, 3, 1)
    lines = len(list(job.walk(STACK)))
    clocks = run(STACK, [job], random.Random(seed), 1, 1)
    assert lines * 32 / 31 <= clocks + 10 <= lines * 32 / 31 + 40
