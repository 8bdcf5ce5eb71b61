# SPDX-License-Identifier: BSD-2-Clause
"""Dispatcher and collector: to all channels of a set in one clock, one completion for all."""

import random
from collections import deque

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from logicpim.rtl.control.dispatcher import Collector, Dispatcher
from logicpim.rtl.stream import connect
from logicpim.spec.isa import Opcode, Status
from logicpim.spec.presets import PRESETS

CHANNELS = 4
STACK = PRESETS["small"].replace(stack=True, channels=CHANNELS)


class Pair(wiring.Component):
    """What an operation goes through, and what its completions go through."""

    def __init__(self, config):
        self.dispatcher, self.collector = Dispatcher(config), Collector(config, depth=8)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dispatcher, m.submodules.collector = self.dispatcher, self.collector
        connect(m, self.dispatcher.o, self.collector.i)
        return m


def operations(rng, number):
    """(tag, status, set, whether its operands are dealt)."""
    for tag in range(number):
        chosen = sum(1 << c for c in rng.sample(range(CHANNELS), rng.randint(1, CHANNELS)))
        refused = rng.random() < 0.2
        status = rng.choice((Status.BAD_OPCODE, Status.BAD_CHANNELS)) if refused else Status.OK
        yield tag, status, (0 if status == Status.BAD_CHANNELS else chosen), rng.random() < 0.5


def test_random_operations(seed):
    rng = random.Random(seed)
    program = list(operations(rng, 60))
    dut, waiting = Pair(STACK), deque(program)
    front, back = dut.dispatcher, dut.collector
    given = [deque() for _ in range(CHANNELS)]   # (tag, status) that a channel has yet to complete
    ends, dealt, seen = {}, [], []

    async def bench(ctx):
        offered, idle = None, 0
        while len(seen) < len(program):
            if offered is None and waiting and rng.random() < 0.7:
                offered = waiting.popleft()
                tag, status, chosen, dealing = offered
                for name, value in (("opcode", Opcode.GEMM), ("tag", tag), ("status", status),
                                    ("dealt", dealing)):
                    ctx.set(front.i.payload[name], value)
                ctx.set(front.chosen, chosen)
            ctx.set(front.i.valid, offered is not None)
            ready = rng.getrandbits(CHANNELS) | rng.getrandbits(CHANNELS)
            ctx.set(front.ready, ready)
            ctx.set(front.dealt.ready, rng.random() < 0.6)
            for index, done in enumerate(back.done):
                here = bool(given[index]) and rng.random() < 0.5 or bool(ctx.get(done.valid))
                ctx.set(done.valid, here)
                if here:
                    ctx.set(done.payload.tag, given[index][0][0])
                    ctx.set(done.payload.status, given[index][0][1])
            ctx.set(back.o.ready, rng.random() < 0.6)

            valid = ctx.get(front.valid)
            assert valid & ~ready == 0
            taken = offered is not None and ctx.get(front.i.ready)
            completed = [bool(ctx.get(done.valid) and ctx.get(done.ready)) for done in back.done]
            if taken:
                tag, status, chosen, dealing = offered
                good = status == Status.OK
                assert valid == (chosen if good else 0)
                assert ctx.get(front.refused) == (0 if good else chosen)
                assert ctx.get(front.dealt.valid) == (good and dealing)
                if good and dealing:
                    assert ctx.get(front.dealt.ready)
                    assert ctx.get(front.dealt.payload.channels) == chosen
                    dealt.append(tag)
                statuses = [rng.choice((Status.OK,) * 5 + (Status.DATA_ERROR,))
                            for _ in range(CHANNELS)]
                own = [s for c, s in enumerate(statuses) if good and chosen >> c & 1]
                ends[tag] = Status.DATA_ERROR if Status.DATA_ERROR in own else status
                offered = None
            else:
                assert valid == 0 and ctx.get(front.refused) == 0 == ctx.get(front.dealt.valid)
            if ctx.get(back.o.valid) and ctx.get(back.o.ready):
                tag, status = ctx.get(back.o.payload.tag), ctx.get(back.o.payload.status)
                seen.append((tag, status))
                idle = 0
                own = program[tag][2] if program[tag][1] == Status.OK else 0
                assert [bool(own >> c & 1) for c in range(CHANNELS)] == completed
            else:
                assert not any(completed)
            idle += 1
            assert idle < 2000
            await ctx.tick()
            for index in range(CHANNELS):
                if completed[index]:
                    given[index].popleft()
                    ctx.set(back.done[index].valid, 0)
                if taken and valid >> index & 1:
                    given[index].append((max(ends), statuses[index]))

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert [tag for tag, _ in seen] == list(range(len(program)))
    assert all(status == ends[tag] for tag, status in seen)
    assert not any(given) and dealt
    assert Status.DATA_ERROR in {status for _, status in seen}
