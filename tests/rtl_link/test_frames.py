# SPDX-License-Identifier: BSD-2-Clause
"""Frames in gateware against the model: both find the same ones in any damaged stream."""

import random
import zlib

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from logicpim.rtl.link.crc import START, crc_step
from logicpim.rtl.link.frames import FrameReceiver, FrameSender
from logicpim.sim.model.link import Deframer, escape
from logicpim.spec.link import CRC_BYTES, CRC_RESIDUE, END, ESC, ESC_END, ESC_ESC

SIZE = 64
SPECIAL = (END, ESC, ESC_END, ESC_ESC, 0)


def run(top, *benches):
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    for bench in benches:
        simulator.add_testbench(bench)
    simulator.run()


def content(rng, most):
    return bytes(rng.choice(SPECIAL) if rng.random() < 0.3 else rng.randrange(256)
                 for _ in range(rng.randrange(1, most + 1)))


def test_crc():
    """The matrix is the CRC of zlib, and ends at the residue behind a frame and its CRC."""
    m, byte, register = Module(), Signal(8), Signal(32)
    result = Signal(32)
    m.d.comb += result.eq(crc_step(register, byte))

    async def bench(ctx):
        text, value = b"123456789", START
        for at, symbol in enumerate(text + zlib.crc32(text).to_bytes(CRC_BYTES, "little")):
            ctx.set(register, value)
            ctx.set(byte, symbol)
            await ctx.delay(1e-7)
            value = ctx.get(result)
            if at == len(text) - 1:
                assert value ^ START == zlib.crc32(text) == 0xCBF43926
        assert value == CRC_RESIDUE

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


def damaged(rng, raw):
    """Bytes flipped, lost, put in, cut; sometimes none."""
    out = bytearray()
    rate = rng.choice([0, 0, 0.02, 0.2])
    for byte in raw:
        kind = rng.random()
        if kind < rate / 3:
            continue
        out.append(byte ^ 1 << rng.randrange(8) if kind < rate * 2 / 3 else byte)
        if rate * 2 / 3 < kind < rate:
            out.append(rng.choice(SPECIAL) if rng.random() < 0.5 else rng.randrange(256))
    return bytes(out)


def test_receiver(seed):
    """Lone, damaged, joined, too long and cut frames: those that the model finds, byte for byte."""
    rng, receiver, got, over = random.Random(seed), FrameReceiver(size=SIZE), [], []
    pieces = [escape(content(rng, SIZE - CRC_BYTES)) for _ in range(40)]
    pieces += [escape(bytes(SIZE - CRC_BYTES)), escape(bytes(SIZE - CRC_BYTES + 1)),
               escape(b"")[1:], bytes([END, ESC, END]), bytes([END] * 3), escape(b"x")[1:],
               escape(b"ab")[:-1] + escape(b"cd")]
    rng.shuffle(pieces)
    stream = b"".join(damaged(rng, piece) for piece in pieces)
    expected = Deframer(SIZE).feed(stream)
    assert len(expected) > 12

    async def feed(ctx):
        model, due = Deframer(SIZE), 0
        for byte in stream:
            ctx.set(receiver.valid, 1)
            ctx.set(receiver.byte, byte)
            await ctx.tick()
            ctx.set(receiver.valid, 0)
            await ctx.tick().repeat(rng.randrange(1, 4))
            due += len(model.feed(bytes([byte])))
            for _ in range(5 * SIZE):  # a frame leaves before the next may come
                if len(got) >= due:
                    break
                await ctx.tick()
        await ctx.tick().repeat(5 * SIZE)
        over.append(True)

    async def take(ctx):
        frame = bytearray()
        while not over:
            ready = rng.random() < 0.8
            ctx.set(receiver.o.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(receiver.o.valid, receiver.o.payload)
            if valid and ready:
                frame.append(payload.data)
                if payload.last:
                    got.append(bytes(frame))
                    frame.clear()

    run(receiver, feed, take)
    assert got == expected


def test_bad_bytes_spoil_a_frame():
    receiver, raw, seen = FrameReceiver(size=SIZE), escape(b"hello"), []

    async def bench(ctx):
        for bad in (False, True, False):
            for at, byte in enumerate(raw):
                ctx.set(receiver.valid, 1)
                ctx.set(receiver.byte, byte)
                ctx.set(receiver.bad, bad and at == 3)
                await ctx.tick()
            ctx.set(receiver.valid, 0)
            await ctx.tick().repeat(2)
            seen.append(ctx.get(receiver.o.valid))
            ctx.set(receiver.o.ready, 1)
            await ctx.tick().repeat(20)
            ctx.set(receiver.o.ready, 0)

    run(receiver, bench)
    assert seen == [1, 0, 1]


@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_sender(seed, stall):
    """Bytes of the line are those of the model, and once more when asked."""
    rng, sender, got = random.Random(seed), FrameSender(size=SIZE), bytearray()
    frames = [content(rng, SIZE) for _ in range(12)] + [bytes([END] * SIZE)]
    twice = [rng.random() < 0.5 for _ in frames]
    done = Signal()

    async def feed(ctx):
        for frame, again in zip(frames, twice, strict=True):
            for at, byte in enumerate(frame):
                ctx.set(sender.i.valid, 1)
                ctx.set(sender.i.payload.data, byte)
                ctx.set(sender.i.payload.last, at == len(frame) - 1)
                await ctx.tick().until(sender.i.ready)
            ctx.set(sender.i.valid, 0)
            while not ctx.get(sender.i.ready):
                await ctx.tick()
            if again:
                ctx.set(sender.again, 1)
                await ctx.tick()
                ctx.set(sender.again, 0)
                await ctx.tick().until(sender.i.ready)
        ctx.set(done, 1)

    async def take(ctx):
        while not ctx.get(done):
            ready = rng.random() >= stall
            ctx.set(sender.o.ready, ready)
            _, _, valid, byte = await ctx.tick().sample(sender.o.valid, sender.o.payload)
            if valid and ready:
                got.append(byte)

    m = Module()
    m.submodules.sender = sender
    m.d.comb += Signal().eq(done)
    run(m, feed, take)
    assert bytes(got) == b"".join(escape(f) * (1 + a) for f, a in zip(frames, twice, strict=True))
