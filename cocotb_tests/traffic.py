# SPDX-License-Identifier: BSD-2-Clause
"""Kernels while everything else happens: refresh, host accesses, and stalls on every port."""

import cocotb

from logicpim.spec.device import Counter, Region
from logicpim.spec.dram import DramCommand
from logicpim.spec.isa import FUNCTION_OPCODES, Format, Instruction, Opcode, Status

from .bench import Stalls, channel_test
from .stimulus import Space, Traffic, fill_dram, function, gemm, move

FORMATS = (Format.FP16, Format.FP32)


async def kernels(bench, rounds):
    """Programs of random instructions, their operands settled before each."""
    space, tile, rng = Space(bench), bench.config.tile, bench.rng
    for _ in range(rounds * bench.effort):
        program = [gemm(bench, space, rng.randint(1, tile.max_tokens + 1),
                        rng.randint(1, 2 * tile.rows), rng.randint(1, 5 * tile.depth),
                        rng.choice(FORMATS), rng.choice(["plain", "special"]))
                   for _ in range(rng.randint(1, 3))]
        extras = [Instruction(Opcode.FENCE, tag=7), move(bench, space), move(bench, space)]
        extras += [function(bench, space, opcode, rng.randint(1, tile.tokens + 1),
                            rng.randint(1, 3 * tile.rows))
                   for opcode in FUNCTION_OPCODES if bench.config.functions]
        for extra in extras:
            program.insert(rng.randrange(len(program) + 1), extra)
        assert await bench.execute(*program) == [Status.OK] * len(program)


@channel_test
async def stalls_on_every_port(bench):
    """Slow and uneven partners at all four ports."""
    fill_dram(bench)
    for stall in (0.2, 0.5, 0.9):
        bench.stalls = Stalls(*(bench.rng.choice((0, stall, stall)) for _ in range(4)))
        await kernels(bench, 6)


@channel_test
async def host_traffic_alongside(bench):
    """The xPU path and the buffers are used by the host while kernels run."""
    fill_dram(bench)
    traffic = Traffic(bench)
    task = cocotb.start_soon(traffic.run(gap=12))
    await kernels(bench, 12)
    task.cancel()
    await bench.settle()
    assert traffic.judge() > 20


@channel_test
async def everything_at_once(bench):
    """Host traffic without pause, stalls, and moves between the kernels."""
    fill_dram(bench)
    traffic = Traffic(bench)
    bench.stalls = Stalls(0.3, 0.3, 0.1, 0.3)
    task = cocotb.start_soon(traffic.run(gap=3))
    await kernels(bench, 10)
    task.cancel()
    await bench.settle()
    assert traffic.judge() > 40


@channel_test
async def blocked_ports(bench):
    """With no response and no completion taken for long, nothing is lost and nothing invented."""
    fill_dram(bench)
    space, traffic = Space(bench), Traffic(bench)
    program = [move(bench, space) for _ in range(3 * bench.config.queue_depth)]
    bench.stalls = Stalls(completions=1.0, responses=1.0)
    bench.submit(*program)
    for _ in range(60):
        traffic.send()
    await bench.clocks(1500)
    assert not bench.completions
    bench.stalls = Stalls()
    await bench.settle()
    assert traffic.judge() == 60


@channel_test
async def host_alone(bench):
    """Bursts of host accesses with nothing else going on, rows hit and missed."""
    fill_dram(bench)
    traffic = Traffic(bench)
    for _ in range(3):
        for _ in range(60):
            traffic.send()
        await bench.settle()
    assert traffic.judge() == 180


@channel_test
async def results_held_up(bench):
    """The host keeps the temp buffer busy while a dot product ends with every beat."""
    space, tile = Space(bench), bench.config.tile
    traffic = Traffic(bench, [Region.TEMP], writes=0.9)
    task = cocotb.start_soon(traffic.run(gap=1))
    bench.request(Region.REGISTERS, 0, 0)
    for _ in range(2):
        assert await bench.execute(gemm(bench, space, tile.max_tokens, 16 * tile.rows, 1,
                                        Format.FP32)) == [Status.OK]
    task.cancel()
    await bench.settle()
    value = await bench.counters()
    stalls = sum(count for counter, count in value.items() if counter.name.startswith("STALL_"))
    assert value[Counter.CYCLES] == value[Counter.ACTIVE] + stalls, value
    # A tile of two tokens computes no faster than it drains.
    assert value[Counter.STALL_OUTPUT] or tile.tokens == 2, value
    traffic.judge()


@channel_test
async def idle_is_refreshed(bench):
    """Left alone for several intervals, every bank is refreshed in time."""
    timing = bench.config.dram_timing
    await bench.clocks(timing.clocks(4 * timing.nREFI))
    refreshes = [r for r in bench.dram.records if r.command is DramCommand.REFPB]
    assert len(refreshes) >= 3 * bench.config.dram.ranks * bench.config.dram.banks_per_rank
