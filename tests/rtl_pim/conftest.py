# SPDX-License-Identifier: BSD-2-Clause
"""A component between two line buffers, which are numpy images here, with stalls on both."""

import numpy as np
import pytest
from amaranth.sim import Simulator


class BufferBench:
    """Runs jobs on a component with ports ``job``, ``read``, ``write`` and ``done``.

    ``source`` and ``result`` are uint8 images [lines, bytes]; they may be one.
    """

    def __init__(self, dut, source, result, *, rng, ready=1.0):
        self.dut, self.source, self.result = dut, source, result
        self.rng, self.ready = rng, ready
        self.clocks = 0

    def run(self, jobs):
        """Do the jobs in order; ``clocks`` is then how long it took."""
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)

        async def work(ctx):
            await self._jobs(ctx, jobs)

        sim.add_testbench(work)
        sim.add_testbench(self._memory, background=True)
        sim.run()

    async def _jobs(self, ctx, jobs):
        dut, left = self.dut, len(jobs)
        waiting = list(jobs)
        ctx.set(dut.job.valid, 1)
        ctx.set(dut.job.payload, waiting.pop(0))
        while left:
            _, _, ready, done = await ctx.tick().sample(dut.job.ready, dut.done)
            self.clocks += 1
            assert self.clocks < 200_000, "it hangs"
            left -= done
            if ready and ctx.get(dut.job.valid):
                ctx.set(dut.job.valid, bool(waiting))
                if waiting:
                    ctx.set(dut.job.payload, waiting.pop(0))
        await ctx.tick().repeat(5)

    async def _memory(self, ctx):
        read, write = self.dut.read, self.dut.write
        cell = self.result.shape[1] // len(write.enable)
        while True:
            for port in (read, write):
                ctx.set(port.ready, self.rng.random() < self.ready)
            _, _, wants, may_read, line, enable, may_write, at, data = await ctx.tick().sample(
                read.enable, read.ready, read.address, write.enable, write.ready, write.address,
                write.data)
            junk = self.rng.bytes(self.source.shape[1])
            seen = self.source[line].tobytes() if wants and may_read else junk
            ctx.set(read.data, int.from_bytes(seen, "little"))
            if enable and may_write:
                image = np.frombuffer(data.to_bytes(self.result.shape[1], "little"), np.uint8)
                for i in range(len(write.enable)):
                    if enable >> i & 1:
                        part = slice(i * cell, (i + 1) * cell)
                        self.result[at, part] = image[part]


@pytest.fixture
def buffer_bench():
    return BufferBench
