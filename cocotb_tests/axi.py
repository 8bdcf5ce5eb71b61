# SPDX-License-Identifier: BSD-2-Clause
"""A channel, or one of a stack, used by AXI alone: products, bursts, and what is refused."""

import cocotb
import numpy as np
from cocotbext.axi import AxiBurstType, AxiResp

from logicpim.sim.model import layout
from logicpim.sim.model.gemm import gemm
from logicpim.spec.device import STALLS, Counter, Region
from logicpim.spec.host import IDENTITY, address_bits, counter_offset
from logicpim.spec.isa import Buffer, Format, Instruction, Opcode, Status

from .axi_bench import MASK, OFFSET, axi_test
from .stimulus import values

REGIONS = (Region.DRAM, Region.INPUT, Region.TEMP)


async def product(bench, m, n, k, output):
    """A GEMM with everything written, started, awaited and read by AXI, against numpy's."""
    config = bench.config
    weights, operands = values(bench, (n, k), "special"), values(bench, (m, k), "special")
    address = bench.rng.randrange(config.dram.words_per_bundle // 2)
    await bench.write(Region.DRAM, address * config.word_bytes,
                      layout.pack_weights(config, weights))
    await bench.write(Region.INPUT, 0, layout.pack_operands(config, operands))
    line = bench.rng.randrange(3)
    insn = Instruction(Opcode.GEMM, tag=bench.rng.getrandbits(16), m=m, n=n, k=k,
                       address=address, result_line=line, output_format=output)
    assert await bench.execute(insn) == [Status.OK]
    size = layout.line_count(config, m, n, output) * config.line_bytes
    data = await bench.read(Region.TEMP, line * config.line_bytes, size)
    result = layout.unpack_results(config, data, m, n, output)
    assert np.array_equal(result, gemm(operands, weights, config.tile.depth, output))


@axi_test
async def gemm_by_axi(bench):
    tile = bench.config.tile
    for m, n, k in ((1, 1, 1), (tile.tokens + 1, tile.rows + 1, 3 * tile.depth + 1)):
        for output in (Format.FP16, Format.FP32):
            await product(bench, m, n, k, output)


@axi_test
async def gemm_with_pauses(bench):
    """Every AXI channel pauses at random."""
    tile = bench.config.tile
    for often in (0.3, 0.7):
        bench.pause(often)
        await product(bench, tile.tokens, 2 * tile.rows, 2 * tile.depth + 3, Format.FP32)


def place(bench, region, size):
    """A random byte of a region from which ``size`` bytes fit."""
    room = min(bench.windows[region].size, 1 << 14) - size
    return bench.rng.choice([bench.rng.randrange(room + 1), room])


@axi_test
async def random_bursts(bench):
    """Writes and reads of any length, alignment, width and ID, several under way."""
    rng = bench.rng
    widest = (bench.config.axi_bits // 8).bit_length() - 1
    for turn in range(4 * bench.effort):
        bench.pause(0 if turn % 2 else rng.choice([0.2, 0.6]))
        for write in (True, False):
            tasks = []
            for _ in range(5):
                region, width = rng.choice(REGIONS), rng.randint(0, widest)
                size = rng.choice([1, rng.randint(1, 64), rng.randint(1, 256 << width)])
                size = min(size, 1200)
                at = place(bench, region, size)
                if write:
                    data = bench.data_rng.integers(0, 256, size, np.uint8)
                    # With one ID they take effect in the order of their addresses.
                    tasks.append(bench.write(region, at, data, size=width, awid=turn % 4))
                else:
                    tasks.append(compare(bench, region, at, size, width, rng.randrange(16)))
            running = [cocotb.start_soon(task) for task in tasks]
            for task in running:
                await task


async def compare(bench, region, at, size, width, name):
    want = bench.mirrored(region)[at:at + size]
    assert np.array_equal(await bench.read(region, at, size, size=width, arid=name), want), (
        f"{region.name} {at:#x}, {size} bytes")


@axi_test
async def fixed_and_wrapping_bursts(bench):
    """Beats at one address, and around a boundary, of the bus's whole width."""
    width = bench.config.axi_bits // 8
    for region in REGIONS:
        base, mirror = bench.windows[region].base, bench.mirrored(region)
        for length in (2, 4, 8, 16):
            start = bench.rng.randrange(length)
            data = bench.data_rng.integers(0, 256, (length, width), np.uint8)
            order = [(start + i) % length for i in range(length)]
            at = 32 * width
            mirror[at:at + length * width].reshape(length, width)[order] = data
            done = await bench.axi.write(base + at + start * width, data.tobytes(),
                                         burst=AxiBurstType.WRAP)
            assert done.resp == AxiResp.OKAY
            assert np.array_equal(await bench.read(region, at, length * width),
                                  mirror[at:at + length * width])
            done = await bench.axi.read(base + at + start * width, length * width,
                                        burst=AxiBurstType.WRAP)
            assert done.data == data.tobytes()
        mirror[:width] = data[-1]
        await bench.axi.write(base, data.tobytes(), burst=AxiBurstType.FIXED)
        done = await bench.axi.read(base, 3 * width, burst=AxiBurstType.FIXED)
        assert done.data == data[-1].tobytes() * 3


@axi_test
async def bad_addresses(bench):
    """What is nowhere is answered DECERR, touches nothing, and is seen as a fault."""
    width = bench.config.axi_bits // 8
    ends = sorted(window.end for window in bench.windows.values())
    bases = [window.base for window in bench.windows.values()]
    top = 1 << address_bits(bench.config)
    assert await bench.peek(OFFSET["irq_pending"]) & MASK["irq_pending", "fault"] == 0
    refused = 0
    for end in ends:
        if end in bases or end >= top:
            continue
        for size in (1, width, 5 * width):
            for answer in (await bench.axi.read(end, size),
                           await bench.axi.write(end, bytes(size))):
                assert answer.resp == AxiResp.DECERR, answer
                refused += 1
        data = bench.data_rng.integers(0, 256, 4 * width, np.uint8)
        region, = (r for r, window in bench.windows.items() if window.end == end)
        bench.mirrored(region)[-2 * width:] = data[:2 * width]
        done = await bench.axi.write(end - 2 * width, data.tobytes())
        assert done.resp == AxiResp.DECERR
    wrong = await bench.axi.read(width, 3 * width, burst=AxiBurstType.WRAP)
    assert wrong.resp == AxiResp.SLVERR
    wrong = await bench.axi.write(0, bytes(17 * width), burst=AxiBurstType.WRAP)
    assert wrong.resp == AxiResp.SLVERR
    fault = MASK["irq_pending", "fault"]
    assert await bench.peek(OFFSET["irq_pending"]) & fault
    await bench.poke(OFFSET["irq_enable"], fault)
    await bench.clocks(2)
    assert bench._value("irq")
    await bench.poke(OFFSET["irq_pending"], fault)
    await bench.clocks(2)
    assert not bench._value("irq")


@axi_test
async def registers(bench):
    """Identity, refused accesses, counters read and cleared, a full queue."""
    assert await bench.peek(OFFSET["identity"]) == IDENTITY
    assert await bench.peek(OFFSET["digest"]) == int(bench.config.digest[:8], 16)
    assert await bench.poke(OFFSET["status"], 1) == AxiResp.SLVERR
    assert (await bench.lite.read(OFFSET["instruction"], 4)).resp == AxiResp.SLVERR
    assert (await bench.lite.read(0x800, 4)).resp == AxiResp.DECERR
    assert (await bench.lite.read(counter_offset(511, bench.channel), 4)).resp == AxiResp.DECERR
    tile = bench.config.tile
    await bench.clear_counters()
    before = await bench.counters()
    assert before[Counter.CYCLES] == 0
    await product(bench, tile.tokens, tile.rows, 2 * tile.depth, Format.FP16)
    after = await bench.counters()
    assert after[Counter.CYCLES] == after[Counter.ACTIVE] + sum(after[c] for c in STALLS)
    assert after[Counter.WORDS_READ] == 1 and after[Counter.HOST_GRANULES] > 0
    assert await bench.execute(0, 1 << 255 | Opcode.FENCE) == [Status.BAD_OPCODE,
                                                              Status.BAD_RESERVED]
    # Instructions until the queues are full: the one too many is refused and never runs.
    load = Instruction(Opcode.LOAD, buffer=Buffer.INPUT, length=1)
    await bench.choose([bench.channel])
    sent = 0
    while await bench.queue(load) == AxiResp.OKAY:
        sent += 1
        assert sent < 100
    status = await bench.peek(OFFSET["status"])
    assert status & MASK["status", "busy"] and status >> 16 == sent
    for _ in range(sent):
        await bench.until(lambda: bench._value("irq"))
        assert (await bench.completion()).status is Status.OK
    await bench.clocks(200)
    assert await bench.completion() is None
    assert await bench.peek(OFFSET["status"]) == MASK["status", "ready"]
    bench.mirror.execute({bench.channel: [load] * sent})
