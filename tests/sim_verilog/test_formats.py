# SPDX-License-Identifier: BSD-2-Clause
"""Dot products and sums of every format on the generated Verilog: any patterns, the same bits."""

from dataclasses import replace

import numpy as np
import pytest

from logicpim.driver.kernel import Job, Kernels
from logicpim.driver.memory import Memory, load
from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.model.gemm import gemm
from logicpim.sim.verilog import VerilatorDevice
from logicpim.spec.config import Tile
from logicpim.spec.isa import (
    BYTE_FORMATS,
    WEIGHT_FORMATS,
    Buffer,
    Format,
    Instruction,
    Opcode,
    Status,
)
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]
CONFIG = SMALL.replace(
    formats=tuple(f.name.lower() for f in WEIGHT_FORMATS), refresh=False,
    dram=replace(SMALL.dram, rows=128),
    tile=Tile(tokens=4, rows=4, depth=8, groups=2), input_buffer_bytes=1 << 14,
    temp_buffer_bytes=1 << 16)
# Sign, exponent and fraction: bits of each format, as far as it has them.
FIELDS = {Format.FP16: (5, 10), Format.BF16: (8, 7), Format.FP8_E4M3: (4, 3),
          Format.FP8_E5M2: (5, 2)}


@pytest.fixture(scope="module")
def device():
    with VerilatorDevice(CONFIG, check=False) as device:
        yield device


def beats(rng, rows, k, fmt, temper, depth=8):
    """Patterns [rows, k] of one temper."""
    width = 8 if fmt in BYTE_FORMATS else 16
    dtype = np.uint8 if width == 8 else np.uint16
    bits = rng.integers(0, 1 << width, (rows, k))
    if fmt == Format.INT8:
        edges = rng.choice([0, 1, 0xFF, 0x7F, 0x80, 0x81], bits.shape)
        return np.where(rng.random(bits.shape) < (temper != "any") / 2, edges, bits).astype(dtype)
    exponent_bits, fraction_bits = FIELDS[fmt]
    top, one = (1 << exponent_bits) - 1, 1 << fraction_bits
    exponent, fraction = bits >> fraction_bits & top, bits & one - 1
    sign = bits >> width - 1
    if temper == "near":        # exponents that let every term count
        centre = rng.integers(0, top, (rows, 1))
        exponent = np.clip(centre + rng.integers(-3, 4, bits.shape), 0, top - 1)
    elif temper == "low":       # subnormals and what comes next
        exponent = exponent & rng.choice([0, 0, 1, 3], bits.shape)
    elif temper == "high":      # sums that overflow
        exponent = top - 1 - (exponent & 1)
    elif temper == "special":
        exponent = np.where(rng.random(bits.shape) < 1 / depth, rng.choice([0, top], bits.shape),
                            np.minimum(exponent, top - 1))
        fraction = np.where((exponent % top == 0) & (rng.random(bits.shape) < 0.6), 0, fraction)
    elif temper == "sparse":    # few ones: ties and exact cancellation
        fraction = fraction & rng.integers(0, one, bits.shape) & rng.integers(0, one, bits.shape)
        centre = rng.integers(0, top, (rows, 1))
        exponent = np.clip(centre + rng.integers(-1, 2, bits.shape), 0, top - 1)
        exponent = np.where(rng.random(bits.shape) < 0.3, 0, exponent)
    return (sign << width - 1 | exponent << fraction_bits | fraction).astype(dtype)


TEMPERS = ("any", "near", "low", "high", "special", "sparse")


@pytest.mark.parametrize("rounds", [1, pytest.param(24, marks=pytest.mark.full)])
@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
@pytest.mark.parametrize("inputs", [Format.FP16, Format.BF16])
def test_any_patterns(device, seed, inputs, weights, rounds):
    """One beat alone, and sums of several: FP32, FP16 and BF16 results."""
    rng = np.random.default_rng(seed)
    kernels = Kernels(device)
    for index in range(rounds * len(TEMPERS)):
        tempers = TEMPERS[index % len(TEMPERS)], rng.choice(TEMPERS)
        k = 8 if index // len(TEMPERS) % 2 == 0 else int(rng.integers(1, 90))
        m, n = int(rng.choice([2, 24])), 384
        x = beats(rng, m, k, inputs, tempers[0])
        w = beats(rng, n, k, weights, tempers[1])
        matrix = Memory(CONFIG).place(n, k, space=0, fmt=weights)
        load(device, matrix, w)
        output = Format(rng.choice(CONFIG.output_formats)) if k != 8 else Format.FP32
        (y,), = kernels.run([Job(x, (matrix,), inputs)], output)
        expected = gemm(x, w, 8, output, inputs=inputs, weights=weights)
        wrong = np.argwhere(y != expected)
        assert not wrong.size, (tempers, k, output, wrong[0], x[wrong[0][0]], w[wrong[0][1]],
                                hex(y[tuple(wrong[0])]), hex(expected[tuple(wrong[0])]))


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_scales(device, seed, weights):
    """GEMMs behind each other, scales for rows, for groups, none; equal to the reference."""
    rng = np.random.default_rng(seed)
    golden, programs = ReferenceDevice(CONFIG), []
    lines = rng.integers(0, 256, (CONFIG.input_lines, CONFIG.line_bytes)).astype(np.uint8)
    scales = rng.normal(0, 1, (20, CONFIG.line_bytes // 4)).astype("<f4")
    lines[-20:] = scales.view(np.uint8)
    for target in (device, golden):
        data = np.random.default_rng(seed).integers(0, 256, 1 << 14).astype(np.uint8)
        target.dram(0)[:data.size] = data
        target.write_buffer(0, Buffer.INPUT, 0, lines)
        target.write_buffer(0, Buffer.TEMP, 0, np.resize(lines, (340, CONFIG.line_bytes)))
    for index in range(16):
        scaled = int(rng.integers(4) > 0)
        programs.append(Instruction(
            Opcode.GEMM, tag=index, weight_format=weights, output_format=Format.FP32,
            m=int(rng.integers(1, 20)), n=int(rng.integers(1, 40)), k=int(rng.integers(1, 200)),
            address=int(rng.integers(9)), scaled=scaled, accumulate=int(rng.integers(3) == 0),
            scale_group=scaled * int(rng.choice([0, 1, 1, 2, 4])),
            scale_line=CONFIG.input_lines - 20, result_line=20 * rng.integers(index + 1)))
    done = [target.execute({0: programs}) for target in (device, golden)]
    assert done[0] == done[1] and all(d.status == Status.OK for d in done[0][0])
    size = CONFIG.line_bytes * 20 * 16
    y = [target.read_buffer(0, Buffer.TEMP, 0, size) for target in (device, golden)]
    written = y[1].reshape(-1, 4).any(axis=1)
    assert (y[0].reshape(-1, 4)[written] == y[1].reshape(-1, 4)[written]).all()


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_a_token_alone_has_the_bits_it_has_in_a_batch(device, seed, weights):
    """Reshaped, in one group and in several; cut over N; the same bits."""
    rng = np.random.default_rng(seed)
    x, w = beats(rng, 19, 150, Format.FP16, "near"), beats(rng, 24, 150, weights, "near")
    memory, kernels = Memory(CONFIG), Kernels(device)
    whole, part = (memory.place(n, 150, space=0, fmt=weights) for n in (24, 9))
    load(device, whole, w)
    load(device, part, w[5:14])
    (batch,), = kernels.run([Job(x, (whole,))])
    assert (batch == gemm(x, w, 8, Format.FP32, weights=weights)).all()
    for first, count in ((0, 1), (7, 1), (3, 2), (4, 4), (9, 8), (2, 17)):
        (y, cut), = kernels.run([Job(x[first:first + count], (whole, part))])
        assert (y == batch[first:first + count]).all()
        assert (cut == y[:, 5:14]).all()
