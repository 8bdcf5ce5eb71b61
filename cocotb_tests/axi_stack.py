# SPDX-License-Identifier: BSD-2-Clause
"""A stack used by AXI alone: the driver's kernels over its channels, counters, ports."""

import cocotb
import numpy as np
from cocotb.task import bridge
from cocotbext.axi import AxiResp

from logicpim.driver.attention import AttentionKernel, Request
from logicpim.driver.ffn import FfnJob, FfnKernels
from logicpim.driver.kernel import Job, Kernels
from logicpim.driver.kv_cache import HeadForm, KvCache, append, load
from logicpim.driver.memory import Memory
from logicpim.driver.memory import load as load_matrix
from logicpim.driver.network import load_ffn, place
from logicpim.sim.model.gemm import gemm
from logicpim.spec.device import STALLS, Counter, Region
from logicpim.spec.functions import Function
from logicpim.spec.isa import Buffer, Format, Instruction, Opcode, Status

from .axi_bench import MASK, OFFSET, axi_test
from .axi_device import AxiDevice
from .stimulus import values


async def on_both(bench, work):
    """What ``work(device)`` gives on the stack; it is the mirror's, bit for bit."""
    found = await bridge(work)(AxiDevice(bench))
    for ours, expected in zip(found, work(bench.mirror), strict=True):
        assert np.array_equal(ours.view(np.uint32), expected.view(np.uint32))
    return found


@axi_test
async def products(bench):
    """Slices of two matrices in all channels, operands dealt over them: the golden bits."""
    config = bench.config
    tile = config.tile
    for m, n, k in ((1, 1, 1), (tile.tokens + 1, 7 * tile.rows - 1, 9 * tile.depth + 3),
                    (tile.tokens, 4 * tile.rows, 8 * tile.depth)):
        x, *ws = (values(bench, shape, "special") for shape in ((m, k), (n, k), (n + 2, k)))

        def work(device, x=x, ws=ws):
            memory, placed = Memory(config), []
            for i, w in enumerate(ws):
                placed.append(memory.place(*w.shape, i % config.dram.bundles))
                load_matrix(device, placed[-1], w)
            return Kernels(device).run([Job(x, tuple(placed))])[0]

        for y, w in zip(await on_both(bench, work), ws, strict=True):
            assert np.array_equal(y, gemm(x, w, tile.depth, Format.FP32))


@axi_test
async def gated_networks(bench):
    """An expert's gate, up, activation and down, one program; ports that pause."""
    config, hidden, inner = bench.config, 20, 28
    weights = [(bench.data_rng.standard_normal(shape) * shape[1] ** -0.5).astype(np.float16)
               for shape in ((inner, hidden), (inner, hidden), (hidden, inner))]
    for often, m in ((0, 3), (0.3, 1)):
        bench.pause(often)
        x = bench.data_rng.standard_normal((m, hidden)).astype(np.float16)

        def work(device, x=x):
            ffn = place(Memory(config), hidden, inner, 0, bundles=2)
            load_ffn(device, ffn, *(w.view(np.uint16) for w in weights))
            return FfnKernels(Kernels(device), Function.SILU).run(
                [FfnJob(x.view(np.uint16), ffn)])

        y, = await on_both(bench, work)
        gate, up, down = (w.astype(float) for w in weights)
        g = x.astype(float) @ gate.T
        exact = (g / (1 + np.exp(-g)) * (x.astype(float) @ up.T)) @ down.T
        assert np.abs(y - exact).max() < 5e-3 * max(1, np.abs(exact).max())


@axi_test
async def attention(bench):
    """A decode step of heads over all channels, one of them with two; the last token by AXI."""
    config, size, group = bench.config, 2 * bench.config.granule_elements, 2
    heads, tokens = config.channels + 1, 2 * config.tile.rows + 1
    q, k, v = (bench.data_rng.standard_normal((heads, rows, size)).astype(np.float16)
               for rows in (group, tokens, tokens))

    def work(device):
        cache, last, requests = KvCache(config, Memory(config), 1), [], []
        made = cache.heads(HeadForm(config, size, size), heads, 0, 0, 1)
        cache.grow(made, tokens)
        for head, *bits in zip(made, *(part.view(np.uint16) for part in (q, k, v)), strict=True):
            queries, keys, held = bits
            load(device, head, keys[:-1], held[:-1])
            last.append((head, tokens - 1, keys[-1], held[-1]))
            requests.append(Request(head, tokens, queries, size ** -0.5))
        append(device, last)
        return AttentionKernel(Kernels(device)).run(requests)

    for y, *head in zip(await on_both(bench, work), q, k, v, strict=True):
        queries, keys, held = (part.astype(float) for part in head)
        shares = np.exp(queries @ keys.T * size ** -0.5)
        exact = shares / shares.sum(axis=1, keepdims=True) @ held
        assert np.abs(y - exact).max() < 2e-3 * max(1, np.abs(held).max())


@axi_test
async def sets_of_channels(bench):
    """Who is in the set works and counts, nobody else; what is refused has no effect."""
    config = bench.config
    everyone = range(config.channels)
    word = Instruction(Opcode.GEMM, m=1, n=1, k=1)
    # At reset it is all of them: before any set has been written.
    assert await bench.execute_stack([(word, everyone)]) == [Status.OK]
    for channels in ([1], [0, config.channels - 1], [*everyone][1:], everyone):
        for channel in everyone:
            await bench.clear_counters(channel)
        program = [(word, channels), (word, []), (0xEE, channels)]
        assert await bench.execute_stack(program) == [
            Status.OK, Status.BAD_CHANNELS, Status.BAD_OPCODE]
        for channel in everyone:
            value = await bench.counters(channel)
            own = channel in channels
            assert value[Counter.WORDS_READ] == own, (channel, channels)
            assert (value[Counter.CYCLES] > 0) == own, (channel, channels)
            assert value[Counter.CYCLES] == value[Counter.ACTIVE] + sum(value[c] for c in STALLS)
    first, second = [await bench.counters(channel) for channel in (0, 1)]
    await bench.clear_counters(1)
    assert second[Counter.CYCLES] and not (await bench.counters(1))[Counter.CYCLES]
    assert await bench.counters(0) | {Counter.REFRESHES: 0} == first | {Counter.REFRESHES: 0}


@axi_test
async def traffic_beside(bench):
    """Each port serves its own channel, all at once, while these compute."""
    config, rng = bench.config, bench.rng
    program = [(Instruction(Opcode.GEMM, tag=i, m=3, n=9, k=40, result_line=8 * i),
                range(config.channels)) for i in range(4)]
    running = cocotb.start_soon(bench.execute_stack(program))

    async def traffic(channel):
        for _ in range(3 * bench.effort):
            region = rng.choice((Region.DRAM, Region.INPUT, Region.TEMP))
            size = rng.randint(1, 300)
            half = bench.windows[region].size // 2    # the upper one is the host's
            at = half + rng.randrange(min(half, 1 << 12) - size)
            data = bench.data_rng.integers(0, 256, size, np.uint8)
            await bench.write(region, at, data, channel)
            assert np.array_equal(await bench.read(region, at, size, channel), data)

    bench.pause(0.2)
    tasks = [cocotb.start_soon(traffic(channel)) for channel in range(config.channels)]
    for task in (*tasks, running):
        await task


@axi_test
async def faults_of_every_port(bench):
    """An error at any of the ports is pending until it is cleared."""
    fault = MASK["irq_pending", "fault"]
    end = bench.windows[Region.TEMP].end
    for port in bench.ports:
        assert not await bench.peek(OFFSET["irq_pending"]) & fault
        for answer in (await port.write(end - 16, bytes(32)), await port.read(end, 1)):
            assert answer.resp == AxiResp.DECERR
        assert await bench.peek(OFFSET["irq_pending"]) & fault
        await bench.poke(OFFSET["irq_pending"], fault)
    for channel in range(bench.config.channels):
        bench.mirror._buffer(channel, Buffer.TEMP)[-16:] = 0
