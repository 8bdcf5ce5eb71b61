# SPDX-License-Identifier: BSD-2-Clause
"""The activation module against the model: its lane on all inputs, the module on any sizes."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from logicpim.rtl.pim.activation import Activation
from logicpim.rtl.pim.activation_lane import ActivationLane
from logicpim.rtl.pim.activation_operand import ActivationMode
from logicpim.rtl.pim.quadratic import QuadraticUnit
from logicpim.sim.model import functions, layout
from logicpim.sim.model.activation import activate
from logicpim.spec import functions as spec
from logicpim.spec.functions import Function
from logicpim.spec.isa import Format
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]
MODES = [dict(function=function, input_format=source, output_format=result, gated=gated)
         for function in Function for source in functions.SHAPES for result in functions.OUTPUTS
         for gated in (0, 1)]


def any_bits(rng, fmt, shape):
    """A third any patterns, a third moderate numbers, a third large negative ones."""
    count = int(np.prod(shape))
    bits = rng.integers(0, 1 << 32, count, dtype=np.uint32)
    moderate = (rng.normal(0, 1, count) * 10 ** rng.uniform(-3, 2, count)).astype(np.float32)
    moderate[::2] = -abs(moderate[::2])
    bits = np.where(rng.integers(0, 3, count) == 0, bits, moderate.view(np.uint32))
    if fmt == Format.FP16:
        with np.errstate(all="ignore"):
            half = bits.view(np.float32).astype(np.float16).view(np.uint16)
        bits = np.where(rng.integers(0, 3, count) == 0, bits >> 16, half).astype(np.uint16)
    elif fmt == Format.BF16:
        bits = (bits >> 16).astype(np.uint16)
    return bits.reshape(shape)


def raw(bits, fmt):
    """As a lane takes it."""
    return bits.astype(np.uint32) << (0 if fmt == Format.FP32 else 16)


def model(mode, gate, up):
    return activate(mode["function"], gate, up if mode["gated"] else None,
                    input_format=mode["input_format"], output_format=mode["output_format"])


def differences(got, want, *inputs):
    bad = np.flatnonzero(np.asarray(got) != want)
    return [(hex(int(got[i])), hex(want[i]), *(hex(x[i]) for x in inputs)) for i in bad[:5]]


def test_lane(seed):
    """Every mode in pysim, on any numbers."""
    rng, dut, count = np.random.default_rng(seed), ActivationLane(), 60

    async def bench(ctx):
        for mode in MODES:
            ctx.set(dut.mode, mode)
            fmt, got = mode["input_format"], []
            gate, up = any_bits(rng, fmt, count), any_bits(rng, fmt, count)
            for i in range(count + dut.latency):
                if i >= dut.latency:
                    got.append(ctx.get(dut.o))
                ctx.set(dut.gate, int(raw(gate, fmt)[i % count]))
                ctx.set(dut.up, int(raw(up, fmt)[i % count]))
                await ctx.tick()
            assert not differences(got, model(mode, gate, up), gate, up), mode

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.full
@pytest.mark.parametrize("mode", MODES, ids=lambda m: "-".join(
    [m["function"].name, m["input_format"].name, m["output_format"].name, "plain gated".split()[
        m["gated"]]]))
def test_lane_exhaustive(mode, seed, vector_bench):
    """All 65,536 gates of a 16-bit format, as many random ones of FP32, random ups."""
    bench = vector_bench(ActivationLane, "activation_lane")
    rng, fmt = np.random.default_rng(seed), mode["input_format"]
    gate = any_bits(rng, fmt, 1 << 18)
    if fmt != Format.FP32:
        gate[:1 << 16] = np.arange(1 << 16)
    up = any_bits(rng, fmt, len(gate))
    packed = ActivationMode.const(mode).as_value().value
    got = bench(ActivationLane.latency, mode=packed, gate=raw(gate, fmt), up=raw(up, fmt))["o"]
    assert not differences(got, model(mode, gate, up), gate, up)


@pytest.mark.full
@pytest.mark.parametrize("table", [spec.exp2_table(), spec.reciprocal_table()],
                         ids=lambda t: t.name)
def test_quadratic_exhaustive(table, vector_bench):
    bench = vector_bench(lambda: QuadraticUnit(table), table.name)
    x = np.arange(1 << table.argument_bits)
    assert (bench(QuadraticUnit.latency, i=x)["o"] == functions.evaluate(table, x)).all()


# -- the module ------------------------------------------------------------------------------

class Work:
    """A job, the lines it reads and the lines it must leave."""

    def __init__(self, rng, config, rows, width, mode, lines):
        self.config, self.rows, self.width, self.mode, self.lines = config, rows, width, mode, lines
        self.gate, self.up = (any_bits(rng, mode["input_format"], (rows, width)) for _ in range(2))

    @property
    def job(self):
        gate, up, result = self.lines
        return dict(mode=self.mode, rows=self.rows, width=self.width, gate_line=gate, up_line=up,
                    result_line=result)

    def place(self, matrices, source):
        for line, bits in zip(self.lines, (self.gate, self.up), strict=False):
            matrices.place(self.config, source, line, bits)

    def expect(self, matrices, result):
        bits = model(self.mode, self.gate, self.up)
        matrices.expect(self.config, result, self.lines[2], bits)


def mode_of(function, source, result, gated):
    return dict(function=function, input_format=source, output_format=result, gated=gated)


def test_module(function_case, seed, buffer_bench, matrices):
    """Jobs back to back; whatever is not a result keeps its bits."""
    config, lanes, rows, width, ready = function_case
    rng = np.random.default_rng(seed)
    source, result = matrices.images(rng, config)
    works, free, free_result = [], 1, 2
    for mode in (mode_of(Function.SILU, Format.FP16, Format.FP16, 1),
                 mode_of(Function.GELU, Format.FP32, Format.BF16, 0),
                 mode_of(Function.SWIGLU, Format.BF16, Format.FP16, 1)):
        wide = Format.FP32 if mode["input_format"] == Format.FP32 else Format.FP16
        each = layout.line_count(config, rows, width, wide)
        works.append(Work(rng, config, rows, width, mode, (free, free + each, free_result)))
        free += 2 * each + 1
        free_result += layout.line_count(config, rows, width, Format.FP16) + 1
    assert free <= config.temp_lines and free_result <= config.input_lines
    want = result.copy()
    for work in works:
        work.place(matrices, source)
        work.expect(matrices, want)
    dut = Activation(config, lanes=lanes)
    buffer_bench(dut, source, result, rng=rng, ready=ready).run([work.job for work in works])
    assert (result == want).all()


def test_in_place(seed, buffer_bench, matrices):
    """Results may go to the place of the gate, also of FP32."""
    rng = np.random.default_rng(seed)
    for fmt in (Format.FP16, Format.FP32):
        image = next(matrices.images(rng, SMALL))
        work = Work(rng, SMALL, 3, 20, mode_of(Function.SILU, fmt, Format.FP16, 1), (8, 60, 8))
        work.place(matrices, image)
        want = image.copy()
        work.expect(matrices, want)
        dut = Activation(SMALL, lanes=4, result_lines=SMALL.temp_lines)
        buffer_bench(dut, image, image, rng=rng, ready=(0.7, 0.7)).run([work.job])
        assert (image == want).all()


@pytest.mark.parametrize("lanes, gated", [(1, 0), (1, 1), (4, 0), (2, 1)])
def test_throughput(lanes, gated, seed, buffer_bench, matrices):
    """A cell each rows / lanes clocks, one more if gated; and the fixed part of a group."""
    rng = np.random.default_rng(seed)
    source, result = matrices.images(rng, SMALL)
    work = Work(rng, SMALL, 2, 120, mode_of(Function.RELU, Format.FP16, Format.FP16, gated),
                (0, 60, 0))
    bench = buffer_bench(Activation(SMALL, lanes=lanes), source, result, rng=rng)
    bench.run([work.job])
    cells, rows = 2 * 120 // SMALL.tile.rows, SMALL.tile.rows
    assert 0 < bench.clocks - cells * (rows // lanes + gated) < 42


def test_refuses_lanes():
    with pytest.raises(ValueError, match="do not divide"):
        Activation(SMALL, lanes=3).elaborate(None)
