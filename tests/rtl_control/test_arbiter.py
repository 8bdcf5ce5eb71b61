# SPDX-License-Identifier: BSD-2-Clause
"""The read arbiter: the first reader first, but nobody waits for ever."""

import pytest
from amaranth.sim import Simulator

from logicpim.rtl.control.arbiter import PATIENCE, ReadArbiter
from logicpim.spec.presets import PRESETS

CONFIG = PRESETS["small"]


@pytest.mark.parametrize("waiting", [1, 2])
def test_patience(waiting):
    dut = ReadArbiter(lines=CONFIG.input_lines, bits=CONFIG.line_bits, readers=3)
    granted = [0, 0, 0]

    async def bench(ctx):
        ctx.set(dut.o.ready, 1)
        for index in (0, waiting):
            ctx.set(dut.i[index].enable, 1)
            ctx.set(dut.i[index].address, index)
        for _ in range(4 * (PATIENCE + 1)):
            ready = [ctx.get(port.ready) for port in dut.i]
            enabled = [ctx.get(port.enable) for port in dut.i]
            winners = [i for i in range(3) if ready[i] and enabled[i]]
            assert len(winners) == 1 and ctx.get(dut.o.address) == winners[0]
            assert ctx.get(dut.others) == (winners[0] != 0)
            granted[winners[0]] += 1
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    assert granted[waiting] == 4 and granted[0] == 4 * PATIENCE


@pytest.mark.parametrize("urgent", [False, True])
def test_the_first_is_not_held_up_for_nobody(urgent):
    """Or, if it is urgent, for anybody."""
    dut = ReadArbiter(lines=CONFIG.input_lines, bits=CONFIG.line_bits, readers=2, urgent=urgent)

    async def bench(ctx):
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i[0].enable, 1)
        for clock in range(3 * PATIENCE):
            ctx.set(dut.i[1].enable, urgent or clock % 8 == 0)
            assert ctx.get(dut.i[0].ready)
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
