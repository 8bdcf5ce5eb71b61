# SPDX-License-Identifier: BSD-2-Clause
"""The reference device: each instruction, each refusal, program order, and what stays untouched."""

from dataclasses import replace

import numpy as np
import pytest

from logicpim.sim.model import layout
from logicpim.sim.model.check import check
from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.model.gemm import gemm
from logicpim.spec.errors import CapacityError, LogicPimError
from logicpim.spec.functions import Function
from logicpim.spec.isa import (
    FIELDS,
    FUNCTION_OPCODES,
    Buffer,
    Completion,
    Format,
    Instruction,
    Opcode,
    Status,
    allowed_mask,
)
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]  # 2 tokens, 4 rows, depth 4; 1024 words in 2 bundles; 128 lines each
ORG = SMALL.dram


ONE = 0x3F800000  # binary32


def gemm_insn(**changes):
    return Instruction(**{"opcode": Opcode.GEMM, "m": 3, "n": 5, "k": 9, **changes})


def activate_insn(**changes):
    return Instruction(**{"opcode": Opcode.ACTIVATE, "m": 3, "n": 9, **changes})


def softmax_insn(**changes):
    return Instruction(**{"opcode": Opcode.SOFTMAX, "m": 3, "n": 9, "length": 9, "scale": ONE,
                          **changes})


def move_insn(opcode, **changes):
    return Instruction(**{"opcode": opcode, "length": 3, **changes})


def filled(config, seed):
    """A device whose memories hold random bytes."""
    device = ReferenceDevice(config)
    rng = np.random.default_rng(seed)
    for channel in range(config.channels):
        dram = device.dram(channel)
        dram[:] = rng.integers(0, 256, dram.size, dtype=np.uint8)
        for buffer in Buffer:
            noise = rng.integers(0, 256, buffer_bytes(config, buffer), dtype=np.uint8)
            device.write_buffer(channel, buffer, 0, noise)
    return device


def buffer_bytes(config, buffer):
    return config.input_buffer_bytes if buffer == Buffer.INPUT else config.temp_buffer_bytes


def memories(device, channel=0):
    return [device.dram(channel).copy(),
            *(device.read_buffer(channel, b, 0, buffer_bytes(device.config, b)) for b in Buffer)]


def same(left, right):
    return all((a == b).all() for a, b in zip(left, right, strict=True))


LINES = SMALL.input_lines
WORDS = ORG.words_per_bundle
MOST = {name: (1 << f.width) - 1 for name, f in FIELDS.items()}

REFUSED = [
    (Status.BAD_OPCODE, 0),
    (Status.BAD_OPCODE, 0xFF),
    (Status.BAD_OPCODE, (1 << 256) - 1),
    (Status.BAD_RESERVED, Instruction(Opcode.FENCE, m=1)),
    (Status.BAD_RESERVED, Instruction(Opcode.FENCE).encode() | 1 << 255),
    (Status.BAD_RESERVED, gemm_insn(buffer=Buffer.TEMP)),
    (Status.BAD_RESERVED, gemm_insn().encode() | 1 << 8),
    (Status.BAD_RESERVED, move_insn(Opcode.LOAD, source_line=1)),
    (Status.BAD_RESERVED, move_insn(Opcode.STORE, result_line=1)),
    (Status.BAD_RESERVED, move_insn(Opcode.LOAD, m=1, length=0)),
    (Status.BAD_FORMAT, gemm_insn(weight_format=Format.FP32)),
    (Status.BAD_FORMAT, gemm_insn(input_format=Format.FP32)),
    (Status.BAD_FORMAT, gemm_insn(output_format=1)),
    (Status.BAD_FORMAT, gemm_insn(input_format=15, m=0)),
    (Status.BAD_FORMAT, gemm_insn(interleave=2)),
    (Status.BAD_FORMAT, move_insn(Opcode.LOAD, interleave=3, length=0)),
    (Status.BAD_RESERVED, Instruction(Opcode.FENCE, interleave=1)),
    (Status.BAD_FORMAT, gemm_insn(scaled=1)),
    (Status.BAD_FORMAT, gemm_insn(scale_group=1)),
    (Status.BAD_FORMAT, gemm_insn(accumulate=1)),
    (Status.BAD_FORMAT, gemm_insn(scale_group=255, scaled=1)),
    (Status.ZERO_SIZE, gemm_insn(m=0)),
    (Status.ZERO_SIZE, gemm_insn(n=0)),
    (Status.ZERO_SIZE, gemm_insn(k=0, address=MOST["address"])),
    (Status.ZERO_SIZE, move_insn(Opcode.LOAD, length=0)),
    (Status.ZERO_SIZE, move_insn(Opcode.STORE, length=0, source_line=LINES)),
    (Status.DRAM_RANGE, gemm_insn(address=ORG.words)),
    (Status.DRAM_RANGE, gemm_insn(address=WORDS - 3)),
    (Status.DRAM_RANGE, gemm_insn(n=MOST["n"], k=MOST["k"])),
    (Status.DRAM_RANGE, gemm_insn(address=MOST["address"], source_line=LINES)),
    (Status.DRAM_RANGE, move_insn(Opcode.LOAD, address=WORDS - 2)),
    (Status.DRAM_RANGE, move_insn(Opcode.STORE, address=ORG.words - 2)),
    (Status.DRAM_RANGE, move_insn(Opcode.LOAD, length=MOST["length"])),
    (Status.DRAM_RANGE, move_insn(Opcode.LOAD, address=WORDS - 2, length=11, interleave=1)),
    (Status.DRAM_RANGE, move_insn(Opcode.STORE, address=ORG.words - 2, interleave=1)),
    (Status.DRAM_RANGE, gemm_insn(address=ORG.words, interleave=1)),
    (Status.SOURCE_RANGE, gemm_insn(source_line=LINES - 3)),
    (Status.SOURCE_RANGE, gemm_insn(m=2 * LINES, k=1, n=1).encode() | 1 << 192),
    (Status.SOURCE_RANGE, gemm_insn(source_line=MOST["source_line"], result_line=LINES)),
    (Status.SOURCE_RANGE, move_insn(Opcode.STORE, source_line=LINES - 5)),
    (Status.SOURCE_RANGE, move_insn(Opcode.STORE, source_line=LINES - 5, buffer=Buffer.TEMP)),
    (Status.RESULT_RANGE, gemm_insn(result_line=LINES - 1)),
    (Status.RESULT_RANGE, gemm_insn(result_line=LINES - 3, output_format=Format.FP32)),
    (Status.RESULT_RANGE, move_insn(Opcode.LOAD, result_line=LINES - 5)),
    (Status.DRAM_RANGE, gemm_insn(transpose=1, address=WORDS - 2, k=9)),
    (Status.RESULT_RANGE, gemm_insn(transpose=1, n=9, result_line=LINES - 1)),
    (Status.TOO_WIDE, gemm_insn(transpose=1, n=9)),
    (Status.RESULT_RANGE, move_insn(Opcode.LOAD, result_line=LINES, buffer=Buffer.TEMP)),
    (Status.BAD_RESERVED, activate_insn(k=1)),
    (Status.BAD_RESERVED, activate_insn(causal=1, m=0)),
    (Status.BAD_RESERVED, activate_insn(scale=ONE)),
    (Status.BAD_RESERVED, softmax_insn(gated=1)),
    (Status.BAD_RESERVED, softmax_insn(function=Function.RELU)),
    (Status.BAD_FORMAT, activate_insn(function=4)),
    (Status.BAD_FORMAT, activate_insn(input_format=Format.BF16)),
    (Status.BAD_FORMAT, softmax_insn(input_format=Format.FP8_E4M3, length=0)),
    (Status.BAD_FORMAT, softmax_insn(output_format=Format.FP32)),
    (Status.ZERO_SIZE, activate_insn(m=0)),
    (Status.ZERO_SIZE, activate_insn(n=0, source_line=LINES)),
    (Status.ZERO_SIZE, softmax_insn(length=0)),
    (Status.ZERO_SIZE, softmax_insn(n=0)),
    (Status.SOURCE_RANGE, activate_insn(source_line=LINES - 3)),
    (Status.SOURCE_RANGE, activate_insn(source_line=LINES - 5, input_format=Format.FP32)),
    (Status.SOURCE_RANGE, activate_insn(second_line=LINES - 3, gated=1, result_line=LINES)),
    (Status.SOURCE_RANGE, softmax_insn(source_line=LINES - 3, scale=1)),
    (Status.RESULT_RANGE, activate_insn(result_line=LINES - 3)),
    (Status.RESULT_RANGE, softmax_insn(result_line=LINES - 3, scale=1)),
    (Status.BAD_SCALE, softmax_insn(scale=1)),
    (Status.BAD_SCALE, softmax_insn(scale=(1 << 23) - 1, length=10)),
    (Status.BAD_SCALE, softmax_insn(scale=1 << 31)),
    (Status.BAD_SCALE, softmax_insn(scale=ONE | 1 << 31)),
    (Status.BAD_SCALE, softmax_insn(scale=0x7F800000)),
    (Status.BAD_SCALE, softmax_insn(scale=0x7FC00000)),
    (Status.BAD_LENGTH, softmax_insn(length=10)),
    (Status.BAD_LENGTH, softmax_insn(length=(1 << 32) - 1)),
    (Status.BAD_LENGTH, softmax_insn(length=2, causal=1)),
]

ALLOWED = [
    Instruction(Opcode.FENCE),
    gemm_insn(address=WORDS - 4),
    gemm_insn(address=ORG.words - 4),
    gemm_insn(address=WORDS - 2, interleave=1),
    move_insn(Opcode.LOAD, address=WORDS - 2, length=10, interleave=1),
    move_insn(Opcode.STORE, address=ORG.words - 3, interleave=1),
    gemm_insn(source_line=LINES - 4),
    gemm_insn(result_line=LINES - 2),
    gemm_insn(result_line=LINES - 4, output_format=Format.FP32),
    gemm_insn(m=2 * LINES, k=8, n=8),
    gemm_insn(accumulate=1, output_format=Format.FP32),
    gemm_insn(transpose=1, n=8, address=WORDS - 3),
    move_insn(Opcode.LOAD, address=WORDS - 3, result_line=LINES - 6),
    move_insn(Opcode.STORE, address=ORG.words - 3, source_line=LINES - 6, buffer=Buffer.TEMP),
    activate_insn(source_line=LINES - 4, second_line=LINES, result_line=LINES - 4),
    activate_insn(source_line=LINES - 6, n=6, input_format=Format.FP32, gated=1,
                  second_line=LINES - 4),
    softmax_insn(source_line=LINES - 4, result_line=LINES - 4, scale=0),
    softmax_insn(length=3, causal=1, scale=1 << 23),
    softmax_insn(length=1, scale=0x7F7FFFFF),
]


@pytest.mark.parametrize("status, insn", REFUSED)
def test_refused_without_effect_and_the_next_runs(status, insn, seed):
    device = filled(SMALL, seed)
    before = memories(device)
    word = insn.encode() if isinstance(insn, Instruction) else insn
    tag = word >> 16 & 0xFFFF
    done = device.execute({0: [insn, Instruction(Opcode.FENCE, tag=7)]})
    assert done == {0: [Completion(tag, status), Completion(7, Status.OK)]}
    assert same(before, memories(device))
    device.execute({0: [insn, gemm_insn()]})
    assert not same(before, memories(device))


@pytest.mark.parametrize("insn", ALLOWED)
def test_the_limits_are_tight(insn, seed):
    assert filled(SMALL, seed).execute({0: [insn]})[0][0].status == Status.OK


@pytest.mark.parametrize("buffer, line, opcode, status", [
    (Buffer.INPUT, 255, Opcode.LOAD, Status.OK), (Buffer.INPUT, 256, Opcode.LOAD, "range"),
    (Buffer.TEMP, 127, Opcode.LOAD, Status.OK), (Buffer.TEMP, 128, Opcode.LOAD, "range"),
    (Buffer.INPUT, 255, Opcode.STORE, Status.OK), (Buffer.INPUT, 256, Opcode.STORE, "range"),
    (Buffer.TEMP, 127, Opcode.STORE, Status.OK), (Buffer.TEMP, 128, Opcode.STORE, "range"),
])
def test_each_buffer_has_its_size(buffer, line, opcode, status):
    """Four tokens: a bundle word is one line."""
    config = SMALL.replace(tile=replace(SMALL.tile, tokens=4), input_buffer_bytes=256 * 64,
                           temp_buffer_bytes=128 * 64)
    side = "result_line" if opcode == Opcode.LOAD else "source_line"
    insn = move_insn(opcode, length=1, buffer=buffer, **{side: line})
    if status == "range":
        status = Status.RESULT_RANGE if opcode == Opcode.LOAD else Status.SOURCE_RANGE
    assert ReferenceDevice(config).execute({0: [insn]})[0][0].status == status


def test_every_status_is_tested():
    of_a_channel = set(Status) - {Status.OK, Status.DATA_ERROR, Status.BAD_CHANNELS}
    assert {status for status, _ in REFUSED} == of_a_channel


STACK = SMALL.replace(stack=True, channels=4, formats=("fp16", "int8"))


@pytest.mark.parametrize("channels, status, insn", [
    (0, Status.BAD_CHANNELS, Instruction(Opcode.FENCE)), (0, Status.BAD_CHANNELS, gemm_insn()),
    (0, Status.BAD_OPCODE, Instruction(0)), (1, Status.OK, gemm_insn(k=24)),
    (0, Status.SOURCE_RANGE, gemm_insn(k=24, dealt=1)),
    (2, Status.SOURCE_RANGE, gemm_insn(k=24, dealt=1)), (3, Status.OK, gemm_insn(k=24, dealt=1)),
    (2, Status.OK, gemm_insn(k=24, dealt=2)),
    (4, Status.BAD_FORMAT, gemm_insn(dealt=1, transpose=1)),
    (3, Status.SOURCE_RANGE, gemm_insn(k=17, dealt=1, weight_format=Format.INT8)),
    (4, Status.OK, gemm_insn(k=17, dealt=1, weight_format=Format.INT8)),
    (2, Status.OK, gemm_insn(m=4, k=24, dealt=2, source_line=LINES - 4)),
    (2, Status.SOURCE_RANGE, gemm_insn(m=4, k=24, dealt=2, source_line=LINES - 3)),
])
def test_what_a_stack_says(channels, status, insn):
    assert check(STACK, insn.encode(), channels) == status
    assert insn.dealt == 0 or check(SMALL, insn.encode()) == Status.BAD_FORMAT


@pytest.mark.parametrize("opcode", Opcode)
def test_every_reserved_bit(opcode):
    good = {Opcode.FENCE: Instruction(opcode), Opcode.GEMM: gemm_insn(),
            Opcode.ACTIVATE: activate_insn(), Opcode.SOFTMAX: softmax_insn()}.get(
        opcode, move_insn(opcode)).encode()
    for bit in range(256):
        reserved = not allowed_mask(opcode) >> bit & 1
        if bit >= 8:
            assert (check(SMALL, good | 1 << bit) == Status.BAD_RESERVED) == reserved


@pytest.mark.parametrize("name", ["small", "channel"])
@pytest.mark.parametrize("fmt", [Format.FP16, Format.FP32])
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (3, 5, 9), (8, 8, 8), (2, 17, 33), (40, 10, 20)])
def test_gemm(name, fmt, m, n, k, stimulus):
    """Padding in DRAM and buffer may hold anything; only cells with results change."""
    config = PRESETS[name]
    device = ReferenceDevice(config)
    x, w = stimulus.bits((m, k), "finite"), stimulus.bits((n, k), "finite")
    words = layout.weight_words(config, n, k)
    address = config.dram.words_per_bundle - words  # the last words of bundle 0
    weights = device.dram(0)[address * config.word_bytes:][:words * config.word_bytes]
    weights[:] = with_noise(layout.pack_weights(config, w),
                            layout.pack_weights(config, w * 0 + 0xFFFF))
    operands = with_noise(layout.pack_operands(config, x),
                          layout.pack_operands(config, x * 0 + 0xFFFF))
    device.write_buffer(0, Buffer.INPUT, 3, operands)
    noise = stimulus.rng.integers(0, 256, config.temp_buffer_bytes, dtype=np.uint8)
    device.write_buffer(0, Buffer.TEMP, 0, noise)
    insn = Instruction(Opcode.GEMM, tag=0xABCD, output_format=fmt, m=m, n=n, k=k,
                       address=address, source_line=3, result_line=5)
    assert device.execute({0: [insn]}) == {0: [Completion(0xABCD, Status.OK)]}
    y = gemm(x, w, config.tile.depth, fmt)
    packed = layout.pack_results(config, y, fmt)
    expected = noise.copy()
    start = 5 * config.line_bytes
    np.copyto(expected[start:start + packed.size], packed,
              where=layout.result_mask(config, m, n, fmt))
    got = device.read_buffer(0, Buffer.TEMP, 0, config.temp_buffer_bytes)
    assert (got == expected).all()
    assert (layout.unpack_results(config, got[start:], m, n, fmt) == y).all()
    back = device.read_buffer(0, Buffer.INPUT, 3, operands.size)
    assert (back == operands).all()


def with_noise(packed, ones):
    """Padding (where ``ones``, packed likewise, is zero) replaced by NaN patterns."""
    return np.where(ones == 0xFF, packed, 0xFF).astype(np.uint8)


@pytest.mark.parametrize("opcode", FUNCTION_OPCODES)
def test_without_functions(opcode):
    insn = activate_insn() if opcode == Opcode.ACTIVATE else softmax_insn()
    assert check(SMALL.replace(functions=False), insn.encode()) == Status.BAD_OPCODE


@pytest.mark.parametrize("buffer", Buffer)
@pytest.mark.parametrize("length", [1, 3, 8])
def test_load_and_store(buffer, length, seed):
    device = filled(SMALL, seed)
    dram, *held = memories(device)
    size = length * SMALL.word_bytes
    at, line = 11 * SMALL.word_bytes, 4 * SMALL.line_bytes
    load = Instruction(Opcode.LOAD, buffer=buffer, address=11, length=length, result_line=4)
    assert device.execute({0: [load]})[0][0].status == Status.OK
    held[buffer][line:line + size] = dram[at:at + size]
    assert same(memories(device), [dram, *held])
    at, line = 350 * SMALL.word_bytes, 9 * SMALL.line_bytes
    store = Instruction(Opcode.STORE, buffer=buffer, address=350, length=length, source_line=9)
    assert device.execute({0: [store]})[0][0].status == Status.OK
    dram[at:at + size] = held[buffer][line:line + size]
    assert same(memories(device), [dram, *held])


def test_program_order(stimulus):
    """Y = X W^T; stored, loaded as the operands of the next: Z = Y V^T."""
    config = SMALL
    device = ReferenceDevice(config)
    x, w, v = (stimulus.bits((4, 8), "normal"), stimulus.bits((8, 8), "normal"),
               stimulus.bits((3, 8), "normal"))
    for word, matrix in ((0, w), (20, v)):
        data = layout.pack_weights(config, matrix)
        device.dram(0)[word * config.word_bytes:][:data.size] = data
    device.write_buffer(0, Buffer.INPUT, 0, layout.pack_operands(config, x))
    done = device.execute({0: [
        Instruction(Opcode.GEMM, tag=1, m=4, n=8, k=8, result_line=6),
        Instruction(Opcode.STORE, tag=2, buffer=Buffer.TEMP, source_line=6, address=40, length=1),
        Instruction(Opcode.FENCE, tag=3),
        Instruction(Opcode.LOAD, tag=4, result_line=2, address=40, length=1),
        Instruction(Opcode.GEMM, tag=5, m=4, n=3, k=8, address=20, source_line=2, result_line=6),
    ]})
    assert done[0] == [Completion(tag, Status.OK) for tag in range(1, 6)]
    z = layout.unpack_results(config, device.read_buffer(0, Buffer.TEMP, 6, 2 * config.line_bytes),
                              4, 3, Format.FP16)
    assert (z == gemm(gemm(x, w, 4), v, 4)).all()


def test_channels_are_apart():
    config = SMALL.replace(channels=4)
    device = filled(config, 5)
    before = [memories(device, c) for c in range(4)]
    done = device.execute({1: [gemm_insn(tag=1)], 3: [Instruction(Opcode.FENCE, tag=9)]})
    assert set(done) == {1, 3}
    for channel in range(4):
        assert same(before[channel], memories(device, channel)) == (channel != 1)


def test_a_stack_of_memory_is_not_touched():
    device = ReferenceDevice(PRESETS["paper"])
    for channel in range(32):
        assert device.dram(channel).size == 512 << 20
        device.dram(channel)[-1] = channel
    assert [int(device.dram(c)[-1]) for c in range(32)] == list(range(32))


def test_nothing_runs_where_one_cannot_be_encoded(seed):
    device = filled(SMALL, seed)
    before = memories(device)
    with pytest.raises(ValueError, match="does not fit"):
        device.execute({0: [gemm_insn(), gemm_insn(m=1 << 16)]})
    for raw in (1 << 256, -1):
        with pytest.raises(LogicPimError, match="256 bits"):
            device.execute({0: [gemm_insn(), raw]})
    with pytest.raises(LogicPimError, match="channel 1 does not exist"):
        device.execute({0: [gemm_insn()], 1: []})
    assert same(before, memories(device))


def test_host_access_is_checked():
    device = ReferenceDevice(SMALL)
    granule = np.zeros(SMALL.granule_bytes, np.uint8)
    with pytest.raises(CapacityError):
        device.write_buffer(0, Buffer.TEMP, LINES, granule)
    with pytest.raises(CapacityError):
        device.read_buffer(0, Buffer.INPUT, 1, SMALL.input_buffer_bytes)
    with pytest.raises(LogicPimError, match="whole granules"):
        device.read_buffer(0, Buffer.INPUT, 0, 3)
    with pytest.raises(TypeError):
        device.write_buffer(0, Buffer.TEMP, 0, granule.view(np.uint16))
    with pytest.raises(LogicPimError, match="does not exist"):
        device.dram(1)


def test_untimed():
    with ReferenceDevice(SMALL) as device:
        device.clear_counters()
        assert not device.timed and device.counters(0) == {}
