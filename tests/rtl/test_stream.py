# SPDX-License-Identifier: BSD-2-Clause
"""Queue, skid buffer and connect: order, fullness, the refusal of streams that differ."""

import random

import pytest
from amaranth.hdl import Module, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In
from amaranth.sim import Simulator

from logicpim.rtl.stream import Queue, SkidBuffer, connect

PAIR = data.StructLayout({"low": unsigned(3), "high": signed(5)})
OTHER = data.StructLayout({"low": unsigned(5), "high": unsigned(3)})


@pytest.mark.parametrize("depth", [2, 3, 8])
def test_queue(seed, depth):
    """What goes in comes out in order, with its fields; the level counts."""
    rng, queue = random.Random(seed), Queue(PAIR, depth=depth)
    put, got, full = [], [], []

    async def bench(ctx):
        for _ in range(400):
            value = {"low": rng.randrange(8), "high": rng.randrange(-16, 16)}
            valid, ready = rng.random() < 0.6, rng.random() < 0.5
            ctx.set(queue.i.payload, value)
            ctx.set(queue.i.valid, valid)
            ctx.set(queue.o.ready, ready)
            *_, taken, there, out, level = await ctx.tick().sample(
                queue.i.ready, queue.o.valid, queue.o.payload, queue.level)
            assert level == len(put) - len(got)
            full.append(level == depth)
            assert not (taken and level == depth)
            if valid and taken:
                put.append((value["low"], value["high"]))
            if there and ready:
                got.append((out.low, out.high))

    simulator = Simulator(queue)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert got == put[:len(got)] and len(got) > 100 and any(full)


def test_queue_refuses_depth():
    with pytest.raises(ValueError, match="at least 2"):
        Queue(PAIR, depth=1)


def test_skid_buffer(seed):
    """A payload a clock in order; neither side sees the other's in the same clock."""
    rng, buffer = random.Random(seed), SkidBuffer(PAIR)
    put, got = [], []

    async def bench(ctx):
        for clock in range(400):
            value = {"low": rng.randrange(8), "high": rng.randrange(-16, 16)}
            always = clock < 50
            for side, high in ((buffer.i.valid, always or rng.random() < 0.6),
                               (buffer.o.ready, always or rng.random() < 0.6)):
                before = ctx.get(buffer.i.ready), ctx.get(buffer.o.valid)
                ctx.set(side, high)
                assert before == (ctx.get(buffer.i.ready), ctx.get(buffer.o.valid))
            held = len(put) - len(got)
            assert before == (held != 2, held != 0)
            ctx.set(buffer.i.payload, value)
            *_, valid, ready, taken, there, out = await ctx.tick().sample(
                buffer.i.valid, buffer.o.ready, buffer.i.ready, buffer.o.valid, buffer.o.payload)
            if valid and taken:
                put.append((value["low"], value["high"]))
            if there and ready:
                got.append((out.low, out.high))
            assert not always or (len(put), len(got)) == (clock + 1, clock)

    simulator = Simulator(buffer)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert got == put[:len(got)] and len(got) > 150


class Sink(wiring.Component):
    def __init__(self, shape):
        super().__init__({"i": In(stream.Signature(shape))})

    def elaborate(self, platform):
        return Module()


def test_connect_refuses_other_shapes():
    """Both are eight bits wide, which is all that Amaranth compares."""
    queue = Queue(PAIR, depth=2)
    wiring.connect(Module(), queue.o, Sink(OTHER).i)
    with pytest.raises(TypeError, match="different payloads"):
        connect(Module(), queue.o, Sink(OTHER).i)
    with pytest.raises(TypeError, match="not a stream"):
        connect(Module(), queue.o, Sink(OTHER))
    connect(Module(), queue.o, Sink(PAIR).i)
    sink = Sink(PAIR)
    connect(Module(), wiring.flipped(sink.i), Sink(PAIR).i)
