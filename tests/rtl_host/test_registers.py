# SPDX-License-Identifier: BSD-2-Clause
"""The AXI4-Lite registers: what each access does and answers, by the table."""

import pytest
from amaranth.sim import Simulator

from logicpim.rtl.host.ports import DECERR, OKAY, SLVERR
from logicpim.rtl.host.registers import AxiLiteRegisters
from logicpim.spec.host import (
    COUNTERS_BASE,
    IDENTITY,
    INSTRUCTION_WORDS,
    INTERRUPTS,
    REGISTERS,
    Access,
    control_bits,
    counter_offset,
)
from logicpim.spec.isa import Status
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]
STACK = SMALL.replace(stack=True, channels=4)
OFFSET = {name: register.offset for name, register in REGISTERS.items()}
BIT = {field.name: field.mask for field in INTERRUPTS}


class Port:
    """The host's side, one access at a time, and what stands behind the window."""

    def __init__(self, dut):
        self.dut, self.asked = dut, []

    async def write(self, ctx, offset, value, strb=15, together=True):
        dut = self.dut
        ctx.set(dut.w.payload, {"data": value, "strb": strb})
        ctx.set(dut.aw.payload.addr, offset)
        ctx.set(dut.w.valid, 1)
        if not together:
            await ctx.tick().repeat(3)
        ctx.set(dut.aw.valid, 1)
        await ctx.tick().until(dut.aw.ready & dut.w.ready)
        ctx.set(dut.aw.valid, 0)
        ctx.set(dut.w.valid, 0)
        ctx.set(dut.b.ready, 1)
        resp, = await ctx.tick().sample(dut.b.payload.resp).until(dut.b.valid)
        ctx.set(dut.b.ready, 0)
        return resp

    async def read(self, ctx, offset):
        dut = self.dut
        ctx.set(dut.ar.payload.addr, offset)
        ctx.set(dut.ar.valid, 1)
        await ctx.tick().until(dut.ar.ready)
        ctx.set(dut.ar.valid, 0)
        ctx.set(dut.r.ready, 1)
        answer, = await ctx.tick().sample(dut.r.payload).until(dut.r.valid)
        ctx.set(dut.r.ready, 0)
        return answer.resp, answer.data

    async def window(self, ctx):
        """Granule i holds i in both halves, shifted; above 20 there is none."""
        dut = self.dut
        while True:
            ctx.set(dut.window.ready, 1)
            _, _, valid, request = await ctx.tick().sample(dut.window.valid, dut.window.payload)
            if not valid:
                continue
            ctx.set(dut.window.ready, 0)
            channel = (request.channel,) if dut.config.stack else ()
            self.asked.append((*channel, request.write, request.address))
            await ctx.tick().repeat(2)
            value = 0 if request.write else (request.address + 7) << 32 | request.address + 3
            ctx.set(dut.answer, {"data": value, "error": request.address > 20})
            ctx.set(dut.answered, 1)
            await ctx.tick()
            ctx.set(dut.answered, 0)


def simulate(bench, config=SMALL):
    dut = AxiLiteRegisters(config)
    port = Port(dut)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def run(ctx):
        await bench(ctx, dut, port)
    sim.add_testbench(run)
    sim.add_testbench(port.window, background=True)
    sim.run()


def test_every_address():
    """What is nowhere is DECERR; what may not be read or written is SLVERR."""
    known = {r.offset + 4 * i: r for r in REGISTERS.values() for i in range(r.count)}

    async def bench(ctx, dut, port):
        ctx.set(dut.instruction.ready, 1)
        for offset in (*range(0, 0x60, 4), 0xffc):
            register = known.get(offset)
            resp, value = await port.read(ctx, offset)
            if register is None or not register.access.readable:
                assert (resp, value) == (SLVERR if register else DECERR, 0), hex(offset)
            else:
                assert resp == OKAY, hex(offset)
            want = (DECERR if register is None else OKAY if register.access.writable else SLVERR)
            assert await port.write(ctx, offset, 0) == want, hex(offset)
            if want == OKAY:
                for strobes in (0, 1, 7, 14):
                    assert await port.write(ctx, offset, 0, strobes) == SLVERR, hex(offset)
        assert port.asked == []
        assert await port.read(ctx, OFFSET["identity"]) == (OKAY, IDENTITY)
        assert await port.read(ctx, OFFSET["digest"]) == (OKAY, int(SMALL.digest[:8], 16))

    simulate(bench)


def test_table_is_sound():
    taken = set()
    for register in REGISTERS.values():
        words = {register.offset + 4 * i for i in range(register.count)}
        assert not words & taken and max(words) < COUNTERS_BASE < 1 << control_bits(SMALL)
        taken |= words
        bits = 0
        for field in register.fields:
            assert not bits & field.mask and field.mask < 1 << 32
            bits |= field.mask
    assert REGISTERS["instruction"].count == INSTRUCTION_WORDS == 8
    assert REGISTERS["completion"].access is Access.RO


def test_instruction_and_completion():
    """A descriptor is queued with its last word, refused where there is no room; counts agree."""
    words = [0x01010101 * (i + 1) for i in range(INSTRUCTION_WORDS)]
    whole = sum(word << 32 * i for i, word in enumerate(words))

    async def bench(ctx, dut, port):
        taken = []

        async def send(ready):
            ctx.set(dut.instruction.ready, ready)
            for i, word in enumerate(words[:-1]):
                assert await port.write(ctx, OFFSET["instruction"] + 4 * i, word) == OKAY
                assert not ctx.get(dut.instruction.valid)
            ctx.set(dut.w.payload, {"data": words[-1], "strb": 15})
            ctx.set(dut.aw.payload.addr, OFFSET["instruction"] + 28)
            ctx.set(dut.aw.valid, 1)
            ctx.set(dut.w.valid, 1)
            taken.append((ctx.get(dut.instruction.valid), ctx.get(dut.instruction.payload)))
            return await port.write(ctx, OFFSET["instruction"] + 28, words[-1])

        assert await send(0) == SLVERR and taken == [(0, whole)]
        assert await port.read(ctx, OFFSET["status"]) == (OKAY, 0)
        assert await send(1) == OKAY and taken[1] == (1, whole)
        assert await port.read(ctx, OFFSET["status"]) == (OKAY, 1 << 16 | 5)
        assert await port.read(ctx, OFFSET["completion"]) == (OKAY, 0)
        assert not ctx.get(dut.completion.ready)
        ctx.set(dut.completion.valid, 1)
        ctx.set(dut.completion.payload, {"tag": 0xabcd, "status": Status.ZERO_SIZE})
        assert await port.read(ctx, OFFSET["status"]) == (OKAY, 1 << 16 | 7)
        done = await port.read(ctx, OFFSET["completion"])
        ctx.set(dut.completion.valid, 0)
        assert done == (OKAY, 1 << 31 | Status.ZERO_SIZE << 16 | 0xabcd)
        assert await port.read(ctx, OFFSET["status"]) == (OKAY, 1)

    simulate(bench)


@pytest.mark.parametrize("name", BIT)
def test_interrupts(name):
    """Each cause is seen pending and raises irq if enabled; the fault stays until cleared."""
    async def bench(ctx, dut, port):
        def cause(on):
            if name == "completion":
                ctx.set(dut.completion.valid, on)
            elif name == "ready":
                ctx.set(dut.instruction.ready, on)
            elif name == "fault":
                ctx.set(dut.fault, on)

        always = BIT["idle"]
        cause(1)
        await ctx.tick()
        if name == "fault":
            cause(0)
        await ctx.tick()
        assert not ctx.get(dut.irq)
        assert await port.read(ctx, OFFSET["irq_pending"]) == (OKAY, always | BIT[name])
        assert await port.write(ctx, OFFSET["irq_enable"], 15 & ~always & ~BIT[name]) == OKAY
        assert not ctx.get(dut.irq)
        assert await port.write(ctx, OFFSET["irq_enable"], BIT[name], together=False) == OKAY
        assert await port.read(ctx, OFFSET["irq_enable"]) == (OKAY, BIT[name])
        assert ctx.get(dut.irq)
        assert await port.write(ctx, OFFSET["irq_pending"], 15 & ~BIT[name]) == OKAY
        assert ctx.get(dut.irq)
        assert await port.write(ctx, OFFSET["irq_pending"], 15) == OKAY
        cause(0)
        await ctx.tick()
        assert ctx.get(dut.irq) == (name == "idle")

    simulate(bench)


def test_window():
    async def bench(ctx, dut, port):
        for index in (0, 5, 20):
            at = COUNTERS_BASE + 8 * index
            assert await port.read(ctx, at) == (OKAY, index + 3)
            assert await port.read(ctx, at + 4) == (OKAY, index + 7)
        assert (await port.read(ctx, COUNTERS_BASE + 8 * 21))[0] == DECERR
        assert await port.write(ctx, COUNTERS_BASE + 8, 0) == OKAY
        assert await port.write(ctx, COUNTERS_BASE + 8 * 30, 0) == DECERR
        assert await port.write(ctx, COUNTERS_BASE + 12, 0) == SLVERR
        assert await port.write(ctx, COUNTERS_BASE + 8, 0, 3) == SLVERR
        assert port.asked == [(0, 0), (0, 5), (0, 20), (0, 21), (1, 1), (1, 30)]

    simulate(bench)


def test_reads_and_writes_do_not_wait_for_each_other():
    """With a response of one kind not taken, the other kind goes on."""
    async def bench(ctx, dut, port):
        ctx.set(dut.ar.valid, 1)
        await ctx.tick().until(dut.ar.ready)
        for value in (3, 5):
            assert await port.write(ctx, OFFSET["irq_enable"], value) == OKAY
        ctx.set(dut.ar.valid, 0)
        assert ctx.get(dut.r.valid) and ctx.get(dut.r.payload.data) == IDENTITY
        ctx.set(dut.r.ready, 1)
        await ctx.tick()
        ctx.set(dut.w.payload, {"data": 9, "strb": 15})
        ctx.set(dut.aw.valid, 1)
        ctx.set(dut.w.valid, 1)
        await ctx.tick().until(dut.aw.ready)
        for _ in range(2):
            assert await port.read(ctx, OFFSET["irq_enable"]) == (OKAY, 9)
        assert ctx.get(dut.b.valid) and ctx.get(dut.b.payload.resp) == OKAY

    simulate(bench)


def test_an_answer_that_waits_is_left_alone():
    """While a read's answer waits, a write through the window; and the other way round."""
    async def bench(ctx, dut, port):
        ctx.set(dut.ar.payload.addr, OFFSET["identity"])
        ctx.set(dut.ar.valid, 1)
        await ctx.tick().until(dut.ar.ready)
        ctx.set(dut.ar.valid, 0)
        assert await port.write(ctx, COUNTERS_BASE, 0) == OKAY
        assert ctx.get(dut.r.valid) and ctx.get(dut.r.payload.resp) == OKAY
        assert ctx.get(dut.r.payload.data) == IDENTITY

        ctx.set(dut.r.ready, 1)
        await ctx.tick()
        ctx.set(dut.r.ready, 0)
        ctx.set(dut.w.payload, {"data": 0, "strb": 1})   # refused: not whole
        ctx.set(dut.aw.payload.addr, COUNTERS_BASE)
        ctx.set(dut.aw.valid, 1)
        ctx.set(dut.w.valid, 1)
        await ctx.tick().until(dut.aw.ready & dut.w.ready)
        ctx.set(dut.aw.valid, 0)
        ctx.set(dut.w.valid, 0)
        assert await port.read(ctx, COUNTERS_BASE + 8) == (OKAY, 1 + 3)
        assert ctx.get(dut.b.valid) and ctx.get(dut.b.payload.resp) == SLVERR
    simulate(bench)


@pytest.mark.parametrize("config", [STACK, STACK.replace(channels=64)], ids=["4", "64"])
def test_set_of_channels(config):
    """All at reset; what is written is read, and no more bits than there are channels."""
    first, words = 0x18, -(-config.channels // 32)
    whole = (1 << min(config.channels, 32)) - 1

    async def bench(ctx, dut, port):
        for value in (whole, 0, 0x12345679 & whole):
            for i in range(words):
                assert await port.read(ctx, first + 4 * i) == (OKAY, whole), i
                assert await port.write(ctx, first + 4 * i, value, 7) == SLVERR
                assert await port.write(ctx, first + 4 * i, value | 0xffffffff & ~whole) == OKAY
                assert await port.read(ctx, first + 4 * i) == (OKAY, value)
                assert ctx.get(dut.channels) >> 32 * i & whole == value
                assert await port.write(ctx, first + 4 * i, whole) == OKAY
        if words == 1:
            assert (await port.read(ctx, first + 4))[0] == DECERR
            assert await port.write(ctx, first + 4, 0) == DECERR
        assert port.asked == []

    simulate(bench, config)


def test_windows_of_channels():
    """Each channel has its window; below and above them there is none."""
    async def bench(ctx, dut, port):
        for channel in (3, 0, 2, 1):
            at = counter_offset(7, channel)
            assert await port.read(ctx, at) == (OKAY, 7 + 3)
            assert await port.read(ctx, at + 4) == (OKAY, 7 + 7)
            assert await port.write(ctx, at, 0) == OKAY
            assert port.asked[-2:] == [(channel, 0, 7), (channel, 1, 7)]
            assert (await port.read(ctx, counter_offset(21, channel)))[0] == DECERR
        seen = len(port.asked)
        for at in (0x5000, 0x6008, 0x7ff8, 0x800, 0x018 + 4):
            assert (await port.read(ctx, at))[0] == DECERR, hex(at)
            assert await port.write(ctx, at, 1) == DECERR, hex(at)
        assert len(port.asked) == seen
        assert await port.read(ctx, OFFSET["identity"]) == (OKAY, IDENTITY)

    simulate(bench, STACK)
