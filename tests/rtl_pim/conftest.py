# SPDX-License-Identifier: BSD-2-Clause
"""Benches: a component between two line buffers in pysim, a pipeline in Verilator."""

import os
import subprocess

import numpy as np
import pytest
from amaranth.hdl import Signal
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from logicpim.rtl.generate.share import flat_ports
from logicpim.rtl.generate.verilog import emit
from logicpim.sim.model import layout
from logicpim.sim.verilog.build import compiler, verilator_environment
from logicpim.spec.config import Tile
from logicpim.spec.isa import Format
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]


class BufferBench:
    """Runs jobs on a component with ports ``job``, ``read``, ``write`` and ``done``.

    ``source`` and ``result`` are uint8 images [lines, bytes]; they may be one. ``ready`` is the
    share of clocks in which they serve reads and writes.
    """

    def __init__(self, dut, source, result, *, rng, ready=(1.0, 1.0)):
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
            for port, share in zip((read, write), self.ready, strict=True):
                ctx.set(port.ready, self.rng.random() < share)
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


@pytest.fixture(params=[  # config, lanes, rows, width, share of clocks that serve reads and writes
    (SMALL, 1, 3, 9, (1.0, 1.0)), (SMALL, 2, 5, 17, (0.6, 0.6)), (SMALL, 4, 4, 22, (1.0, 1.0)),
    (SMALL, 4, 2, 80, (1.0, 0.1)), (SMALL, 4, 1, 1, (0.3, 0.3)),
    (SMALL.replace(tile=Tile(tokens=1, rows=4, depth=4)), 4, 3, 6, (0.7, 0.7)),
    (SMALL.replace(tile=Tile(tokens=4, rows=4, depth=16), temp_buffer_bytes=16384,
                   input_buffer_bytes=8192), 2, 6, 40, (0.7, 0.7)),
])
def function_case(request):
    """A configuration, lanes and sizes for a module between buffers."""
    return request.param


class Matrices:
    """Matrices in images of the buffers."""

    @staticmethod
    def images(rng, config):
        """Noise for the temp and the input buffer."""
        return (rng.integers(0, 256, (lines, config.line_bytes), np.uint8)
                for lines in (config.temp_lines, config.input_lines))

    @staticmethod
    def place(config, image, line, bits):
        """As a GEMM leaves it, with NaN past the end of a row, to a whole granule."""
        each = config.granule_bytes // bits.itemsize
        bits = np.pad(bits, ((0, 0), (0, -bits.shape[1] % each)),
                      constant_values=np.iinfo(bits.dtype).max)
        data = layout.pack_results(config, bits, Format.FP32 if bits.itemsize == 4 else Format.FP16)
        image.reshape(-1)[line * config.line_bytes:][:len(data)] = data

    @staticmethod
    def expect(config, image, line, bits):
        """Results in whole cells, the rest as it was."""
        data = layout.pack_results(config, bits, Format.FP16)
        written = layout.result_mask(config, *bits.shape, Format.FP16)
        image.reshape(-1)[line * config.line_bytes:][:len(data)][written] = data[written]


@pytest.fixture
def matrices():
    return Matrices


@pytest.fixture
def check_converter():
    """Compares what a component without clock makes of each input: ports by their names."""
    def check(dut, port, inputs, expected, **constants):
        async def bench(ctx):
            for name, value in constants.items():
                ctx.set(getattr(dut, name), value)
            output = dut.o if isinstance(dut.o, Signal) else dut.o.as_value()
            for value, bits in zip(inputs, expected, strict=True):
                ctx.set(getattr(dut, port), value)
                assert ctx.get(output) == bits, hex(value)

        simulator = Simulator(dut)
        simulator.add_testbench(bench)
        simulator.run()
    return check


@pytest.fixture
def check_pipeline():
    """Compares what a component makes of operands each clock, ``latency`` later."""
    def check(dut, operands, expected, ports=("a", "b")):
        async def bench(ctx):
            for i in range(len(operands) + dut.latency):
                if i < len(operands):
                    for port, value in zip(ports, operands[i], strict=True):
                        ctx.set(getattr(dut, port), value)
                if (at := i - dut.latency) >= 0:
                    assert ctx.get(dut.o) == expected[at], [hex(v) for v in operands[at]]
                await ctx.tick()

        simulator = Simulator(dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
    return check


class VectorBench:
    """A component of narrow ports as a program: a word in for each input and clock, a word out.

    Compiled with Verilator from the Verilog that the generator writes.
    """

    MAIN = """
#include "V{name}.h"
#include <cstdint>
#include <cstdio>
int main() {{
  V{name} top;
  uint64_t in[{inputs}], out[{outputs}];
  while (fread(in, sizeof in, 1, stdin) == 1) {{
    {drive}
    top.clk = 0; top.eval();
    {sample}
    fwrite(out, sizeof out, 1, stdout);
    top.clk = 1; top.eval();
  }}
}}
"""

    def __init__(self, make, folder):
        ports = [(name, flow) for name, _, flow in flat_ports(make())]
        self.inputs = [name for name, flow in ports if flow is In]
        self.outputs = [name for name, flow in ports if flow is Out]
        name = "vector_top"
        for stem, text in emit(PRESETS["small"], make, name).items():
            (folder / f"{stem}.v").write_text(text)
        sources = sorted(str(path) for path in folder.glob("*.v"))
        (folder / "main.cpp").write_text(self.MAIN.format(
            name=name, inputs=len(self.inputs), outputs=len(self.outputs),
            drive=" ".join(f"top.{p} = in[{i}];" for i, p in enumerate(self.inputs)),
            sample=" ".join(f"out[{i}] = top.{p};" for i, p in enumerate(self.outputs))))
        root = verilator_environment()["VERILATOR_ROOT"]
        subprocess.run([f"{root}/bin/verilator_bin", "--cc", "-O3", "-Wno-fatal", "-Wno-lint",
                        "--no-timing", "--x-assign", "fast", "--x-initial", "fast",
                        "--top-module", name, "--Mdir", str(folder / "model"), *sources],
                       check=True, env=os.environ | verilator_environment())
        runtime = [f"{root}/include/verilated.cpp", f"{root}/include/verilated_threads.cpp"]
        subprocess.run([*compiler(), "-O1", "-w", "-std=c++17", "-pthread",
                        f"-I{root}/include", f"-I{root}/include/vltstd", f"-I{folder / 'model'}",
                        *map(str, (folder / "model").glob("*.cpp")), str(folder / "main.cpp"),
                        *runtime, "-o", str(folder / "program")], check=True)
        self.program = folder / "program"

    def __call__(self, latency, **inputs):
        """Outputs of each clock's inputs (arrays or constants), ``latency`` clocks later."""
        count = max(np.size(value) for value in inputs.values())
        words = np.zeros((count + latency, len(self.inputs)), np.uint64)
        for name, value in inputs.items():
            words[:, self.inputs.index(name)] = np.resize(np.asarray(value, np.uint64), count)[
                np.minimum(np.arange(count + latency), count - 1)]
        done = subprocess.run([str(self.program)], input=words.tobytes(), check=True,
                              stdout=subprocess.PIPE)
        out = np.frombuffer(done.stdout, np.uint64).reshape(-1, len(self.outputs))[latency:]
        return {name: out[:, i] for i, name in enumerate(self.outputs)}


@pytest.fixture(scope="session")
def vector_bench(tmp_path_factory):
    """Makes a :class:`VectorBench`; equal components are built once a session."""
    made = {}

    def bench(make, name):
        if name not in made:
            made[name] = VectorBench(make, tmp_path_factory.mktemp(name))
        return made[name]

    return bench
