# SPDX-License-Identifier: BSD-2-Clause
"""The Verilog of the activation and softmax modules: free of warnings, and run between buffers."""

import os
import subprocess

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from logicpim.rtl.generate.artefacts import WAIVERS
from logicpim.rtl.generate.verilog import emit
from logicpim.rtl.pim.activation import Activation
from logicpim.rtl.pim.buffer import LineBuffer
from logicpim.rtl.pim.softmax import Softmax
from logicpim.rtl.signatures import cells_per_line
from logicpim.sim.model import layout
from logicpim.sim.model.activation import activate
from logicpim.sim.model.softmax import softmax
from logicpim.sim.verilog.build import verilator_environment
from logicpim.spec.config import Tile
from logicpim.spec.functions import Function
from logicpim.spec.isa import Format
from logicpim.spec.presets import PRESETS

SMALL, PAPER = PRESETS["small"], PRESETS["channel"]
ONE = SMALL.replace(tile=Tile(tokens=1, rows=4, depth=8))
LINES = 256
MODULES = [(Activation, SMALL, 4), (Activation, PAPER, 1), (Activation, ONE, 2),
           (Softmax, PAPER, 8), (Softmax, SMALL, 1), (Softmax, ONE, 4)]
modules = pytest.mark.parametrize("kind, config, lanes", MODULES, ids=[
    f"{kind.__name__.lower()}-{name}-{lanes}" for (kind, _, lanes), name in
    zip(MODULES, ("small", "paper", "one", "paper", "small", "one"), strict=True)])


@modules
def test_lint(kind, config, lanes, tmp_path):
    """No warning of Verilator but those that the generator waives for all its Verilog."""
    texts = emit(config, lambda: kind(config, lanes=lanes), "top")
    for stem, text in texts.items():
        (tmp_path / f"{stem}.v").write_text(text)
    (tmp_path / "lint.vlt").write_text(WAIVERS)
    environment = verilator_environment()
    done = subprocess.run(
        [f"{environment['VERILATOR_ROOT']}/bin/verilator_bin", "--lint-only", "-Wall", "lint.vlt",
         "--top-module", "top", *(f"{stem}.v" for stem in texts)],
        cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Between(wiring.Component):
    """A module between two buffers, with narrow ports to fill, start and read them.

    ``word`` is pushed into a register each clock; ``fill`` writes what was pushed to a line of
    the source, ``go`` starts the job that was pushed. ``out`` is 64 bits of ``line`` of the
    result, a clock later.
    """

    word: In(64)
    line: In(8)
    part: In(6)
    fill: In(1)
    go: In(1)
    out: Out(64)

    def __init__(self, dut):
        self.dut = dut
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        config = self.dut.config
        m.submodules.dut = dut = self.dut
        for name, port, other in (("source", dut.read, "write"), ("result", dut.write, "read")):
            m.submodules[name] = buffer = LineBuffer(
                lines=LINES, line_bits=config.line_bits, cells=cells_per_line(config))
            wiring.connect(m, port, getattr(buffer, "read" if name == "source" else "write"))
            m.d.comb += getattr(buffer, other).address.eq(self.line)
        source, result = m.submodules.source, m.submodules.result
        pushed, part = Signal(max(config.line_bits, 256)), Signal(6)
        m.d.sync += [pushed.eq(Cat(pushed, self.word)[64:]), part.eq(self.part)]
        m.d.comb += [
            source.write.data.eq(pushed[-config.line_bits:]),
            source.write.enable.eq(self.fill.replicate(cells_per_line(config))),
            dut.job.payload.eq(pushed[-256:]), dut.job.valid.eq(self.go),
            result.read.enable.eq(1),
            self.out.eq(result.read.data.word_select(part, 64)),
        ]
        return m


def program(dut, image, jobs, clocks):
    """Inputs of each clock that fill the source, do the jobs and read all of the result."""
    rows = []
    for line, data in enumerate(image):
        for word in data.view(np.uint64):
            rows.append((int(word), 0, 0, 0, 0))
        rows.append((0, line, 0, 1, 0))
    for job in jobs:
        value = dut.job.payload.shape().const(job).as_value().value
        rows += [(value >> 64 * i & (1 << 64) - 1, 0, 0, 0, 0) for i in range(4)]
        rows += [(0, 0, 0, 0, 1)] + [(0, 0, 0, 0, 0)] * clocks
    words = image.shape[1] // 8
    rows += [(0, line, part, 0, 0) for line in range(LINES) for part in range(words)]
    return dict(zip(("word", "line", "part", "fill", "go"),
                    np.array(rows, np.uint64).T, strict=True))


def moderate(rng, fmt, shape):
    bits = rng.normal(0, 3, shape).astype(np.float32)
    bits[rng.random(shape) < 0.02] = -np.inf
    if fmt == Format.FP32:
        return bits.view(np.uint32)
    if fmt == Format.FP16:
        return bits.astype(np.float16).view(np.uint16)
    return (bits.view(np.uint32) >> 16).astype(np.uint16)


def put(config, image, line, bits, written=None):
    wide = Format.FP32 if bits.itemsize == 4 else Format.FP16
    data = layout.pack_results(config, bits, wide)
    where = slice(None) if written is None else layout.result_mask(config, *bits.shape, wide)
    image.reshape(-1)[line * config.line_bytes:][:len(data)][where] = data[where]


@pytest.mark.full
@modules
def test_verilog(kind, config, lanes, seed, vector_bench):
    rng, name = np.random.default_rng(seed), f"{kind.__name__}_{lanes}_{config.digest}"
    rows, width = config.tile.tokens + 1, 5 * config.tile.rows + 3

    def make():
        return kind(config, lanes=lanes, source_lines=LINES, result_lines=LINES)

    bench = vector_bench(lambda: Between(make()), name)
    for fmt in (Format.FP16, Format.BF16, Format.FP32):
        source = np.zeros((LINES, config.line_bytes), np.uint8)
        want, jobs = source.copy(), []
        for number, output in enumerate((Format.FP16, Format.BF16)):
            gate, up = moderate(rng, fmt, (rows, width)), moderate(rng, fmt, (rows, width))
            lines = [100 * number, 100 * number + 50]
            put(config, source, lines[0], gate)
            put(config, source, lines[1], up)
            if kind is Activation:
                mode = dict(function=Function.SILU, gated=1, input_format=fmt,
                            output_format=output)
                result = activate(Function.SILU, gate, up, input_format=fmt, output_format=output)
                jobs.append(dict(mode=mode, rows=rows, width=width, gate_line=lines[0],
                                 up_line=lines[1], result_line=lines[1]))
            else:
                result = softmax(gate, scale=0.5, length=width - 4, causal=True,
                                 input_format=fmt, output_format=output)
                jobs.append(dict(rows=rows, width=width, length=width - 4, causal=1,
                                 scale=0x3F000000, input_format=fmt, output_format=output,
                                 passes=dict(maximum=1, add=1, normalise=1), resume=0,
                                 source_line=lines[0], result_line=lines[1]))
            put(config, want, lines[1], result, written=True)
        inputs = program(make(), source, jobs, 4 * rows * width // lanes + 400)
        got = bench(1, **inputs)["out"][-want.size // 8:]
        assert (got == want.view(np.uint64).reshape(-1)).all(), fmt
