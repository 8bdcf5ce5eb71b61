# SPDX-License-Identifier: BSD-2-Clause
"""ACTIVATE and SOFTMAX on the reference device, against plain float64 arithmetic."""

from dataclasses import replace

import numpy as np
import pytest

from logicpim.sim.model import layout
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.functions import Function
from logicpim.spec.isa import Buffer, Format, Instruction, Opcode, Status
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]
SIZES = {Buffer.INPUT: SMALL.input_buffer_bytes, Buffer.TEMP: SMALL.temp_buffer_bytes}


def activation(**fields):
    return Instruction(Opcode.ACTIVATE, **fields)


def softmax(**fields):
    return Instruction(Opcode.SOFTMAX, scale=0x3F800000, **fields)


def memories(device):
    return [device.read_buffer(0, buffer, 0, size) for buffer, size in SIZES.items()]


@pytest.mark.parametrize("fmt", [Format.FP16, Format.FP32])
@pytest.mark.parametrize("insn", [
    activation(m=3, n=21, gated=1, second_line=60),
    activation(m=2, n=8, function=Function.RELU),
    softmax(m=3, n=21, length=21), softmax(m=3, n=18, length=17, causal=1),
    softmax(m=1, n=9, length=2)])
def test_functions(insn, fmt, seed):
    """Near plain float64 arithmetic; whole cells of the input buffer change and nothing else."""
    device, rng = ReferenceDevice(SMALL), np.random.default_rng(seed)
    for buffer, size in SIZES.items():
        device.write_buffer(0, buffer, 0, rng.integers(0, 256, size, np.uint8))
    insn = replace(insn, input_format=fmt, source_line=7, result_line=5)
    dtype = np.float32 if fmt == Format.FP32 else np.float16
    gate, up = rng.normal(0, 2, (2, insn.m, insn.n)).astype(dtype)
    for line, values in ((7, gate), (60, up)):
        bits = values.view(np.uint32 if fmt == Format.FP32 else np.uint16)
        device.write_buffer(0, Buffer.TEMP, line, layout.pack_results(SMALL, bits, fmt))
    before, temp = memories(device)
    assert device.execute({0: [insn]})[0][0].status == Status.OK
    now = memories(device)
    assert (now[1] == temp).all() and not device.dram(0).any()
    start = 5 * SMALL.line_bytes
    found = layout.unpack_results(SMALL, now[0][start:], insn.m, insn.n, Format.FP16)
    exact = expected_of(insn, gate.astype(float), up.astype(float))
    assert np.abs(found.view(np.float16) - exact).max() < 1e-3 * np.abs(exact).max()
    mask = layout.result_mask(SMALL, insn.m, insn.n, Format.FP16)
    before[start:start + mask.size][mask] = now[0][start:start + mask.size][mask]
    assert (now[0] == before).all()


def expected_of(insn, gate, up):
    if insn.opcode == Opcode.ACTIVATE:
        act = np.maximum(gate, 0) if insn.function == Function.RELU else gate / (1 + np.exp(-gate))
        return act * up if insn.gated else act
    last = insn.length - (insn.causal * np.arange(insn.m)[::-1])[:, None]
    weights = np.where(np.arange(insn.n) < last, np.exp(gate), 0)
    return weights / weights.sum(axis=1, keepdims=True)
