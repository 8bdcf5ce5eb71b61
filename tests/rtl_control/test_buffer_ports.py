# SPDX-License-Identifier: BSD-2-Clause
"""Movers and host at both buffers, and what the GEMM module is told of them."""

import pytest
from amaranth.sim import Simulator

from logicpim.rtl.control.buffer_ports import BufferPorts
from logicpim.rtl.control.mover import part_bits
from logicpim.spec.config import Tile
from logicpim.spec.isa import Buffer
from logicpim.spec.presets import PRESETS

# Lines of two words.
CONFIG = PRESETS["small"].replace(tile=Tile(tokens=8, rows=4, depth=4), functions=False)
PART = part_bits(CONFIG)


def simulate(bench):
    dut = BufferPorts(CONFIG)

    async def ready(ctx):
        for port in (dut.input_read, dut.input_write, dut.temp_read, dut.temp_write):
            ctx.set(port.ready, 1)
        await bench(ctx, dut)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(ready)
    simulator.run()


@pytest.mark.parametrize("who", ["store", "host"])
@pytest.mark.parametrize("buffer", list(Buffer))
def test_a_part_is_read(who, buffer):
    """The line goes to the buffer, the part is chosen a clock later; only the input buffer's reader
    is told that its line is lost."""
    async def bench(ctx, dut):
        port = dut.store if who == "store" else dut.host_read
        ctx.set(dut.store_select if who == "store" else dut.host_select, buffer)
        ctx.set(dut.input_read.data, 1 | 2 << PART)
        ctx.set(dut.temp_read.data, 3 | 4 << PART)
        for part in (0, 1):
            ctx.set(port.address, 2 * 5 + part)
            ctx.set(port.enable, 1)
            ports = (dut.input_read, dut.temp_read)
            assert [ctx.get(p.enable) for p in ports] == [buffer == 0, buffer == 1]
            assert ctx.get(ports[buffer].address) == 5 and ctx.get(port.ready)
            assert ctx.get(dut.operands.lost) == (buffer == Buffer.INPUT)
            await ctx.tick()
            ctx.set(port.enable, 0)
            assert ctx.get(port.data) == 1 + 2 * buffer + part and not ctx.get(dut.operands.lost)

    simulate(bench)


def test_the_storer_is_before_the_host():
    """Each at a buffer of its own, even: they share a reader."""
    async def bench(ctx, dut):
        ctx.set(dut.store_select, Buffer.TEMP)
        for port in (dut.store, dut.host_read):
            ctx.set(port.enable, 1)
        assert ctx.get(dut.store.ready) and not ctx.get(dut.host_read.ready)
        assert not ctx.get(dut.input_read.enable) and ctx.get(dut.temp_read.enable)

    simulate(bench)


@pytest.mark.parametrize("buffer", list(Buffer))
def test_the_loader_is_before_the_host_and_behind_results(buffer):
    async def bench(ctx, dut):
        ctx.set(dut.load_select, buffer)
        ctx.set(dut.host_select, 1 - buffer)
        for port, data in ((dut.load, 6), (dut.host_write, 7)):
            ctx.set(port.enable, 1)
            ctx.set(port.data, data)
        ctx.set(dut.results.data, 5)
        ports = (dut.input_write, dut.temp_write)
        assert [ctx.get(p.enable) for p in ports] == [buffer == 0, buffer == 1]
        assert ctx.get(ports[buffer].data) == 6
        assert ctx.get(dut.load.ready) and not ctx.get(dut.host_write.ready)
        ctx.set(dut.results.enable, 2)
        assert ctx.get(dut.load.ready) == (buffer == Buffer.INPUT)
        assert ctx.get(dut.temp_write.enable) == 2
        assert ctx.get(dut.temp_write.data) & (1 << len(dut.results.data)) - 1 == 5

    simulate(bench)
