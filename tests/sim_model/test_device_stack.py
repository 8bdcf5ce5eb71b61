# SPDX-License-Identifier: BSD-2-Clause
"""The reference device as a stack: sets of channels, operands dealt over their slices, refusals."""

import numpy as np
import pytest

from logicpim.sim.model import layout
from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.model.gemm import gemm
from logicpim.spec.errors import LogicPimError
from logicpim.spec.isa import Buffer, Completion, Format, Instruction, Opcode, Status
from logicpim.spec.presets import PRESETS

STACK = PRESETS["small"].replace(name="stack", channels=4, stack=True, formats=("fp16", "int8"))
E = STACK.granule_elements


def put_by_hand(device, channels, line, dealt, x_bits, words):
    """Word kw of group g goes to channel c_{kw // D}, line + g * D + kw % D: granule by granule."""
    tokens = STACK.tile.tokens
    padded = np.zeros((-(-len(x_bits) // tokens) * tokens, words * E), np.uint16)
    padded[:len(x_bits), :x_bits.shape[1]] = x_bits
    for token, row in enumerate(padded):
        group, t = divmod(token, tokens)
        for kw in range(words):
            at = line + group * dealt + kw % dealt
            held = device._buffer(channels[kw // dealt], Buffer.INPUT).view("<u2")
            held.reshape(-1, tokens, E)[at, t] = row[kw * E:(kw + 1) * E]


def draw(rng, shape, fmt=Format.FP16):
    if fmt == Format.INT8:
        return rng.integers(0, 256, shape, np.uint8)
    return rng.standard_normal(shape).astype(np.float16).view(np.uint16)


@pytest.mark.parametrize("fmt", [Format.FP16, Format.INT8])
@pytest.mark.parametrize("channels", [(0, 1, 2, 3), (1, 3), (2,)])
@pytest.mark.parametrize("m, k, dealt", [(1, 1, 1), (3, 21, 3), (2, 64, 4), (7, 50, 16),
                                         (9, 31, 8)])
def test_dealt(fmt, channels, m, k, dealt, seed):
    """M above a pass, any K, also where slices have room for more or the last are unused."""
    rng, n = np.random.default_rng(seed), 11
    words = layout.operand_granules(STACK, k, fmt)
    dealt = max(dealt, -(-words // len(channels)))
    x, device = draw(rng, (m, k)), ReferenceDevice(STACK)
    for channel in range(4):
        device.write_buffer(channel, Buffer.INPUT, 0, rng.integers(
            0, 256, STACK.input_buffer_bytes, np.uint8))
    put_by_hand(device, channels, 5, dealt, x, words)
    scales = {c: rng.random(n).astype(np.float32).view(np.uint32) for c in channels}
    weights = {c: draw(rng, (n, k), fmt) for c in channels}
    scaled = int(fmt == Format.INT8)
    for c in channels:
        packed = layout.pack_weights(STACK, weights[c], fmt)
        device.dram(c)[3 * STACK.word_bytes:][:packed.size] = packed
        if scaled:  # each channel has its own
            device.write_buffer(c, Buffer.INPUT, 100, layout.pack_scales(STACK, scales[c]))
    insn = Instruction(Opcode.GEMM, tag=9, m=m, n=n, k=k, address=3, source_line=5, dealt=dealt,
                       result_line=7, weight_format=fmt, output_format=Format.FP32, scaled=scaled,
                       scale_line=100 * scaled)
    assert device.execute_stack([(insn, channels)]) == [Completion(9, Status.OK)]
    for c in range(4):
        size = layout.line_count(STACK, m, n, Format.FP32) * STACK.line_bytes
        found = device.read_buffer(c, Buffer.TEMP, 7, size)
        if c not in channels:
            assert not found.any()
            continue
        expected = gemm(x, weights[c], STACK.tile.depth, Format.FP32, weights=fmt,
                        scales=scales[c] if scaled else None)
        assert np.array_equal(layout.unpack_results(STACK, found, m, n, Format.FP32), expected)


@pytest.mark.parametrize("words, dealt, channels", [(1, 1, 1), (7, 2, 4), (8, 3, 4), (12, 3, 4)])
def test_deal_and_gather(words, dealt, channels, seed):
    lines = np.random.default_rng(seed).integers(0, 256, (3 * words, STACK.line_bytes), np.uint8)
    slices = layout.deal(STACK, lines, words, dealt, channels)
    assert slices.shape == (channels, 3 * dealt, STACK.line_bytes)
    for group in range(3):
        for kw in range(words):
            at = group * dealt + kw % dealt
            assert (slices[kw // dealt, at] == lines[group * words + kw]).all()
    used = slices[:-(-words // dealt)]
    assert (layout.gather(STACK, used, words, dealt) == lines.reshape(-1)).all()


def test_sets_of_channels(seed):
    """An instruction does on each channel of its set what it does alone, in program order."""
    rng, program = np.random.default_rng(seed), []
    gemm_ = Instruction(Opcode.GEMM, m=2, n=4, k=8, output_format=Format.FP32)
    for insn in (gemm_, Instruction(Opcode.ACTIVATE, m=2, n=4, input_format=Format.FP32),
                 gemm_, Instruction(Opcode.STORE, length=2, address=50, buffer=Buffer.TEMP),
                 Instruction(Opcode.LOAD, length=2, address=51, result_line=1),
                 Instruction(Opcode.FENCE, tag=3), gemm_):
        program.append((insn, rng.permutation(4)[:rng.integers(1, 5)]))
    stack, alone = ReferenceDevice(STACK), ReferenceDevice(STACK.replace(stack=False))
    for channel in range(4):
        for device in (stack, alone):
            noise = np.random.default_rng(seed + channel)
            device.dram(channel)[:] = noise.integers(0, 60, STACK.capacity_bytes, np.uint8)
            device.write_buffer(channel, Buffer.INPUT, 0, noise.integers(0, 60, 4096, np.uint8))
    done = stack.execute_stack(program)
    for channel in range(4):
        alone.execute({channel: [insn for insn, on in program if channel in on]})
        assert (stack.dram(channel) == alone.dram(channel)).all()
        for buffer in Buffer:
            assert (stack._buffer(channel, buffer) == alone._buffer(channel, buffer)).all()
    assert [c.tag for c in done] == [0, 0, 0, 0, 0, 3, 0]
    assert stack.execute({1: [gemm_], 3: [0xFF]}) == {
        1: [Completion(0, Status.OK)], 3: [Completion(0, Status.BAD_OPCODE)]}


FINE = {"opcode": Opcode.GEMM, "m": 3, "n": 5, "k": 32}  # 4 words, 2 groups


@pytest.mark.parametrize("status, changes, channels", [
    (Status.OK, {"dealt": 1}, 4), (Status.SOURCE_RANGE, {"dealt": 1}, 3),
    (Status.OK, {"dealt": 2}, 2), (Status.SOURCE_RANGE, {"dealt": 3}, 1),
    (Status.SOURCE_RANGE, {"dealt": (1 << 14) - 1}, 4),
    (Status.OK, {"dealt": 4, "source_line": 120}, 1),
    (Status.SOURCE_RANGE, {"dealt": 4, "source_line": 121}, 1),
    (Status.SOURCE_RANGE, {"dealt": 4, "source_line": 121}, 4),
    (Status.BAD_FORMAT, {"dealt": 8, "transpose": 1}, 4),
    (Status.SOURCE_RANGE, {"dealt": 4}, 0), (Status.BAD_CHANNELS, {}, 0),
    (Status.RESULT_RANGE, {"result_line": 1 << 23}, 0),
])
def test_refusals(status, changes, channels, seed):
    device = ReferenceDevice(STACK)
    insn = Instruction(**FINE | changes, tag=77)
    assert device.execute_stack([(insn, range(channels))]) == [Completion(77, status)]
    if changes.get("dealt"):
        alone = ReferenceDevice(STACK.replace(stack=False))
        assert alone.execute({0: [insn]})[0][0].status == Status.BAD_FORMAT


def test_misuse():
    fence = Instruction(Opcode.FENCE)
    with pytest.raises(LogicPimError, match="small is no stack.*stack=true"):
        ReferenceDevice(PRESETS["small"]).execute_stack([(fence, [0])])
    device = ReferenceDevice(STACK)
    with pytest.raises(LogicPimError, match="channel 4 does not exist: stack has 4"):
        device.execute_stack([(fence, [0, 4])])
    with pytest.raises(LogicPimError, match="not a number of 256 bits"):
        device.execute_stack([(1 << 256, [0])])
    assert device.execute_stack([]) == []
