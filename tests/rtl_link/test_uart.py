# SPDX-License-Identifier: BSD-2-Clause
"""The serial line: bytes through both ends, clocks that differ, spikes, missing stop bits."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from logicpim.rtl.link.uart import UartReceiver, UartTransmitter


def simulate(top, bench):
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("divisor", [4, 5, 16])
def test_loop(seed, divisor):
    """What one end sends the other receives; a byte takes ten bits and no more than two clocks."""
    m, rng, got = Module(), random.Random(seed), []
    m.submodules.sender = sender = UartTransmitter(divisor=divisor)
    m.submodules.receiver = receiver = UartReceiver(divisor=divisor)
    m.d.comb += receiver.rx.eq(sender.tx)
    data = [rng.randrange(256) for _ in range(10)]

    async def bench(ctx):
        sent = clocks = 0
        while len(got) < len(data):
            ctx.set(sender.i.valid, sent < len(data))
            ctx.set(sender.i.payload, data[min(sent, len(data) - 1)])
            _, _, ready, valid, byte, bad = await ctx.tick().sample(
                sender.i.ready, receiver.valid, receiver.data, receiver.bad)
            sent += ready and sent < len(data)
            clocks += 1
            if valid:
                assert not bad
                got.append(byte)
        assert clocks <= len(data) * (10 * divisor + 2)

    simulate(m, bench)
    assert got == data


async def line(ctx, receiver, levels, got):
    for level in levels:
        ctx.set(receiver.rx, level)
        _, _, valid, byte, bad = await ctx.tick().sample(
            receiver.valid, receiver.data, receiver.bad)
        if valid:
            got.append((byte, bad))


@pytest.mark.parametrize("off", [-0.03, 0.03])
def test_clocks_that_differ(seed, off):
    divisor, rng, got = 25, random.Random(seed), []
    receiver, data = UartReceiver(divisor=divisor), [rng.randrange(256) for _ in range(6)]
    bits = [b for byte in data for b in (0, *(byte >> i & 1 for i in range(8)), 1)]
    length = divisor * (1 + off)
    levels = [bits[int(t / length)] for t in range(int(len(bits) * length))] + [1] * 100

    async def bench(ctx):
        await line(ctx, receiver, levels, got)

    simulate(receiver, bench)
    assert got == [(byte, 0) for byte in data]


def test_spikes_and_missing_stop_bits():
    """A spike is no byte; a byte without its stop bit is told; the next is sound again."""
    divisor, got = 8, []
    receiver = UartReceiver(divisor=divisor)

    def byte(value, stop=1):
        return [b for bit in (0, *(value >> i & 1 for i in range(8)), stop) for b in [bit] * 8]

    levels = [1] * 20 + [0, 0] + [1] * 100 + byte(0x5A, stop=0) + [1] * 30 + byte(0xA5) + [1] * 20

    async def bench(ctx):
        await line(ctx, receiver, levels, got)

    simulate(receiver, bench)
    assert got == [(0x5A, 1), (0xA5, 0)]


def test_too_fast():
    with pytest.raises(ValueError, match="3 clocks"):
        UartReceiver(divisor=3)
