# SPDX-License-Identifier: BSD-2-Clause
"""The softmax module against the model: its lane, whole rows of any sizes, rows in pieces."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from logicpim.rtl.pim.softmax import Softmax
from logicpim.rtl.pim.softmax_lane import SoftmaxLane
from logicpim.rtl.pim.softmax_state import ScaleFactor
from logicpim.sim.model import functions, layout
from logicpim.sim.model.softmax import Row, factor, softmax, unkey
from logicpim.spec.isa import Format
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]
SCALES = [0.0, 2.0**-126, 1e-30, 128**-0.5, 1.0, 1.0 + 2.0**-23, 3e5, 3.4e38]
SCALES = [float(np.float32(scale)) for scale in SCALES]
ALL = dict(maximum=1, add=1, normalise=1)


def bits_of(values, fmt):
    with np.errstate(all="ignore"):
        single = np.asarray(values).astype(np.float32)
        if fmt == Format.FP16:
            return single.astype(np.float16).view(np.uint16)
        wide = single.view(np.uint32)
        return (wide >> 16).astype(np.uint16) if fmt == Format.BF16 else wide


def scores(rng, fmt, shape, spread=4.0):
    """Rows of moderate numbers, of any finite ones, with infinities, with NaN, of -infinity."""
    rows = bits_of(rng.normal(0, spread, shape), fmt)
    any_ = rng.integers(0, 1 << functions.SHAPES[fmt].bits, shape, dtype=np.uint64).astype(
        rows.dtype)
    x = functions.decode(any_, fmt)
    any_ = np.where(x.nan | x.infinite, 0, any_)
    kind = rng.integers(0, 6, (shape[0], 1))
    special = bits_of([np.inf, np.nan, -np.nan, -np.inf, -0.0], fmt)[rng.integers(0, 5, shape)]
    rows = np.where(kind == 1, any_, rows)
    chosen = (kind == 2) & (rng.random(shape) < 0.7) | (kind == 4)
    rows = np.where(chosen, bits_of([-np.inf], fmt), rows)
    return np.where((kind == 3) & (rng.random(shape) < 1 / shape[1]), special, rows).astype(
        any_.dtype)


def lane_case(rng, scale, source, result, count):
    """(inputs, latency-free expectation) of a row in a lane."""
    spread = rng.choice([1e-3, 1.0, 30.0, 1000.0])
    row_bits = rng.permutation(scores(rng, source, (8, count), spread).reshape(-1))
    x = functions.decode(row_bits, source)
    row_bits = row_bits[~(x.nan | x.infinite & (x.sign == 0))][:count]
    row = Row(scale, source, result)
    want = row.all(row_bits, len(row_bits))
    m, n, zero = row._exp(row_bits)
    part = np.where(zero, 0, functions.shift_right(m << 20, n))
    greatest = functions.decode(unkey(row.greatest, source), source)
    top = max(row.total, 1 << 40).bit_length() - 1
    c, exponent = factor(scale)
    inputs = dict(
        i=row_bits.astype(np.uint32) << (0 if source == Format.FP32 else 16), outside=0,
        greatest=dict(significand=int(greatest.significand), nan=int(greatest.nan),
                      exponent=int(greatest.exponent) + 127, sign=int(greatest.sign),
                      infinite=int(greatest.infinite)),
        factor=c, factor_exponent=exponent + 127, input_format=source, output_format=result,
        reciprocal=int(functions.reciprocal(np.int64((row.total << 22 >> top) & (1 << 22) - 1))),
        places=top - 40)
    return inputs, part, want


LANE_CASES = [(scale, source, result) for scale in SCALES for source in functions.SHAPES
              for result in functions.OUTPUTS]


def test_lane(seed):
    rng, dut = np.random.default_rng(seed), SoftmaxLane()

    async def bench(ctx):
        for case in LANE_CASES:
            inputs, part, want = lane_case(rng, *case, 40)
            for name, value in inputs.items():
                if name != "i":
                    ctx.set(getattr(dut, name), value)
            got, parts = [], []
            for i in range(len(want) + dut.latency):
                if i >= dut.latency:
                    got.append(ctx.get(dut.o))
                if dut.part_latency <= i < dut.part_latency + len(want):
                    parts.append(ctx.get(dut.part))
                ctx.set(dut.i, int(inputs["i"][i % len(want)]))
                await ctx.tick()
            assert (np.array(got) == want).all() and (np.array(parts) == part).all(), case

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.full
@pytest.mark.parametrize("case", LANE_CASES, ids=lambda c: f"{c[0]:g}-{c[1].name}-{c[2].name}")
def test_lane_full(case, seed, vector_bench):
    """Rows of up to 65,536 elements."""
    bench = vector_bench(SoftmaxLane, "softmax_lane")
    rng = np.random.default_rng(seed)
    for _ in range(4):
        inputs, part, want = lane_case(rng, *case, 1 << 16)
        greatest = inputs.pop("greatest")
        inputs["greatest"] = SoftmaxLane().greatest.shape().const(greatest).as_value().value
        assert (bench(SoftmaxLane.latency, **inputs)["o"] == want).all()
        assert (bench(SoftmaxLane.part_latency, **inputs)["part"] == part).all()


def test_scale_factor():
    dut = ScaleFactor()

    async def bench(ctx):
        for scale in SCALES:
            ctx.set(dut.scale, int(np.float32(scale).view(np.uint32)))
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            ctx.set(dut.scale, 0x7FC00000)
            await ctx.tick().until(dut.ready)
            c, exponent = factor(scale)
            assert ctx.get(dut.factor) == c
            assert c == 0 or ctx.get(dut.exponent) == exponent + 127

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


# -- the module ------------------------------------------------------------------------------

def job_of(bits, *, source, result, lines, scale=1.0, length=None, causal=False, passes=ALL,
           resume=False):
    rows, width = bits.shape
    return dict(rows=rows, width=width, length=width if length is None else length, causal=causal,
                scale=int(np.float32(scale).view(np.uint32)), input_format=source,
                output_format=result, passes=passes, resume=resume, source_line=lines[0],
                result_line=lines[1])


def test_module(function_case, seed, buffer_bench, matrices):
    """Jobs back to back; whatever is not a result keeps its bits."""
    config, lanes, rows, width, ready = function_case
    rng = np.random.default_rng(seed)
    source, result = matrices.images(rng, config)
    want, jobs, free, free_result = result.copy(), [], 1, 2
    for fmt, output, options in (
            (Format.FP16, Format.FP16, dict(scale=0.25)),
            (Format.FP32, Format.BF16, dict(scale=SCALES[3], length=max(0, width - 3),
                                            causal=True)),
            (Format.BF16, Format.FP16, dict(scale=1.0, length=width // 2))):
        bits = scores(rng, fmt, (rows, width))
        matrices.place(config, source, free, bits)
        matrices.expect(config, want, free_result, softmax(
            bits, input_format=fmt, output_format=output, **options))
        jobs.append(job_of(bits, source=fmt, result=output, lines=(free, free_result), **options))
        wide = Format.FP32 if fmt == Format.FP32 else Format.FP16
        free += layout.line_count(config, rows, width, wide) + 1
        free_result += layout.line_count(config, rows, width, Format.FP16) + 1
    assert free <= config.temp_lines and free_result <= config.input_lines
    dut = Softmax(config, lanes=lanes)
    buffer_bench(dut, source, result, rng=rng, ready=ready).run(jobs)
    assert (result == want).all()


def test_pieces(seed, buffer_bench, matrices):
    """Rows in three pieces, all of them through one pass after the other: the bits of the whole."""
    rng, config = np.random.default_rng(seed), SMALL
    source, result = matrices.images(rng, config)
    bits = bits_of(rng.normal(0, 8, (2, 50)), Format.FP16)
    whole, want = softmax(bits, scale=0.5, length=41), result.copy()
    jobs, options = [], dict(source=Format.FP16, result=Format.FP16, scale=0.5)
    pieces = [(0, 20), (20, 37), (37, 50)]
    for k, (begin, end) in enumerate(pieces):
        matrices.place(config, source, 10 * k, bits[:, begin:end])
        matrices.expect(config, want, 10 * k, whole[:, begin:end])
    for step in ALL:
        for k, (begin, end) in enumerate(pieces):
            jobs.append(job_of(bits[:, begin:end], lines=(10 * k, 10 * k), resume=k > 0,
                               passes={step: 1}, length=max(0, min(41, end) - begin), **options))
    buffer_bench(Softmax(config), source, result, rng=rng, ready=(0.8, 0.8)).run(jobs)
    assert (result == want).all()


def test_in_place(seed, buffer_bench, matrices):
    rng = np.random.default_rng(seed)
    for fmt in (Format.FP16, Format.FP32):
        image = next(matrices.images(rng, SMALL))
        bits = scores(rng, fmt, (3, 21))
        matrices.place(SMALL, image, 9, bits)
        want = image.copy()
        matrices.expect(SMALL, want, 9, softmax(bits, scale=1.0, input_format=fmt))
        job = job_of(bits, source=fmt, result=Format.FP16, lines=(9, 9))
        dut = Softmax(SMALL, result_lines=SMALL.temp_lines)
        buffer_bench(dut, image, image, rng=rng, ready=(0.7, 0.7)).run([job])
        assert (image == want).all()


@pytest.mark.parametrize("lanes", [1, 4])
def test_throughput(lanes, seed, buffer_bench, matrices):
    """Three passes of a cell each rows / lanes clocks, and the fixed part of a group."""
    rng = np.random.default_rng(seed)
    source, result = matrices.images(rng, SMALL)
    bits = scores(rng, Format.FP16, (2, 160))
    bench = buffer_bench(Softmax(SMALL, lanes=lanes), source, result, rng=rng)
    bench.run([job_of(bits, source=Format.FP16, result=Format.FP16, lines=(0, 0))])
    assert 0 < bench.clocks - 3 * bits.size // lanes < 76
