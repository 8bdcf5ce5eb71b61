# SPDX-License-Identifier: BSD-2-Clause
"""The instruction decoder refuses exactly what the reference refuses, for the same reason."""

import random

import pytest
from amaranth.sim import Simulator

from logicpim.rtl.control.decoder import InstructionDecoder
from logicpim.sim.model import layout
from logicpim.sim.model.check import check
from logicpim.spec.config import Tile
from logicpim.spec.functions import Function
from logicpim.spec.isa import FUNCTION_OPCODES, Buffer, Format, Instruction, Opcode, Status
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]


def decode(config, words, sets=None):
    """Status, tag and derived sizes of each descriptor, as the gateware tells them."""
    dut, seen = InstructionDecoder(config), []

    async def bench(ctx):
        for index, word in enumerate(words):
            ctx.set(dut.i.payload, word)
            if sets:
                ctx.set(dut.channels, sets[index])
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)
            if sets:
                ctx.set(dut.channels, 0)
            ctx.set(dut.o.ready, 1)
            op, = await ctx.tick().sample(dut.o.payload).until(dut.o.valid)
            if sets:
                assert ctx.get(dut.chosen) == sets[index]
            ctx.set(dut.o.ready, 0)
            seen.append((Status(op.status), op.tag, op.words, op.source_stride, op.result_stride))

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return seen


MIXED = SMALL.replace(formats=("fp16", "bf16", "int8"))
WITHOUT = SMALL.replace(functions=False)
STACK = MIXED.replace(stack=True, channels=4)
# 0, 1.0, the least normal number, the greatest; subnormal, -0, infinity, NaN.
SCALES = [0, 0x3F800000, 0x00800000, 0x7F7FFFFF] * 2 + [1, 1 << 31, 0x7F800000, 0xFF800001]


def random_instruction(rng: random.Random, config=SMALL) -> Instruction:
    """Often legal, often just past one limit."""
    opcode = rng.choice(list(Opcode))
    if opcode == Opcode.FENCE:
        return Instruction(opcode, tag=rng.randrange(1 << 16))
    if opcode in FUNCTION_OPCODES:
        return random_function(rng, opcode, config)
    near = SMALL.dram.words_per_bundle * rng.randrange(1, 3) - rng.randrange(40)
    common = dict(tag=rng.randrange(1 << 16),
                  address=rng.choice([rng.randrange(SMALL.dram.words), near]),
                  interleave=rng.choice([0, 0, 0, 0, 1, 1, 1, 2]))
    if opcode == Opcode.GEMM:
        weights = rng.choice([*config.weight_formats, rng.choice(list(Format))])
        inputs = rng.choice([*config.input_formats, *config.input_formats, Format.BF16])
        return Instruction(opcode, weight_format=weights, input_format=inputs,
                           m=rng.choice([0, 1, 3, 9, 200]),
                           n=rng.choice([0, 1, 5, 40, 300]), k=rng.choice([0, 1, 8, 17, 70]),
                           source_line=rng.choice([0, rng.randrange(128)]),
                           result_line=rng.choice([0, rng.randrange(128)]),
                           output_format=rng.choice([*config.output_formats, Format.BF16]),
                           scaled=int(rng.random() < 0.3), scale_line=rng.choice([0, 127, 900]),
                           accumulate=int(rng.random() < 0.3),
                           dealt=rng.choice([0, 0, 0, 1, 2, 5, 16383]) if config.stack else 0,
                           transpose=int(rng.random() < 0.4),
                           scale_group=rng.choice([0, 0, 1, 2, 3, 7, 255]),
                           **common)
    line = {"result_line" if opcode == Opcode.LOAD else "source_line": rng.randrange(140)}
    return Instruction(opcode, length=rng.choice([0, 1, 7, 40, 64]),
                       buffer=rng.choice(list(Buffer)), **line, **common)


def random_function(rng: random.Random, opcode, config) -> Instruction:
    """Likewise, of the activation and the softmax module."""
    m, n = rng.choice([0, 1, 3, 9]), rng.choice([0, 1, 8, 17, 70])
    own = dict(causal=rng.randrange(2), scale=rng.choice(SCALES),
               length=rng.choice([0, m, m - 1, n, n + 1, n, 1 << 24]) % (1 << 32))
    if opcode == Opcode.ACTIVATE:
        own = dict(function=rng.choice([*Function, *Function, 4, 12]), gated=rng.randrange(2),
                   second_line=rng.choice([0, rng.randrange(128), 1 << 23]))
    return Instruction(opcode, tag=rng.randrange(1 << 16), m=m, n=n,
                       input_format=rng.choice([*config.output_formats, Format.BF16]),
                       output_format=rng.choice([*config.input_formats] * 3 + [Format.FP32]),
                       source_line=rng.choice([0, rng.randrange(128)]),
                       result_line=rng.choice([0, rng.randrange(140)]), **own)


@pytest.mark.parametrize("config", [
    pytest.param(SMALL, id="fp16"), pytest.param(MIXED, id="mixed"),
    pytest.param(WITHOUT, id="without"), pytest.param(STACK, id="stack"),
    pytest.param(STACK.replace(formats=("fp16",)), id="stack of fp16", marks=pytest.mark.full)])
def test_statuses_equal_the_reference(seed, config):
    rng = random.Random(seed)
    words = [random_instruction(rng, config).encode() for _ in range(600)]
    words += [w ^ 1 << rng.randrange(256) for w in words[:100]]
    words += [rng.getrandbits(256) for _ in range(20)]
    words += [Instruction(Opcode.GEMM, m=1, n=1, k=1, **{f"{which}_format": Format.FP32}).encode()
              for which in ("weight", "input")]
    words += [Instruction(Opcode.GEMM, m=1, n=n, k=9, transpose=1).encode() for n in range(1, 16)]
    words += [Instruction(Opcode.GEMM, m=1, n=1, k=1, dealt=1).encode()]
    sets = [rng.choice([0, *range(16)]) for _ in words] if config.stack else None
    seen = decode(config, words, sets)
    expected = [check(config, word, *([s.bit_count()] if sets else []))
                for word, s in zip(words, sets or words, strict=True)]
    assert [s[0] for s in seen] == expected
    assert [s[1] for s in seen] == [word >> 16 & 0xffff for word in words]
    every = {*Status} - {Status.DATA_ERROR} - ({Status.BAD_CHANNELS} if not config.stack else set())
    if not config.functions:
        every -= {Status.BAD_SCALE, Status.BAD_LENGTH}
    assert set(expected) == every, "the stimulus must reach each status"


def test_range_of_scales(seed):
    """The last line that they may start at, and the next."""
    rng, words = random.Random(seed), []
    for _ in range(60):
        fmt, group = rng.choice(MIXED.weight_formats), rng.randrange(4)
        n, k = rng.randrange(1, 40), rng.randrange(1, 70)
        lines = layout.scale_lines(MIXED, n, layout.scale_groups(MIXED, k, group, fmt))
        words += [Instruction(Opcode.GEMM, m=1, n=n, k=k, weight_format=fmt, scaled=1,
                              scale_group=group, scale_line=MIXED.input_lines - lines + beyond)
                  for beyond in (0, 1)]
    seen = [status for status, *_ in decode(MIXED, [word.encode() for word in words])]
    assert seen == [check(MIXED, word.encode()) for word in words]
    assert seen == [Status.OK, Status.SOURCE_RANGE] * 60


def test_range_of_dealt_operands(seed):
    """As many channels as hold all words, and one less; the last line they may start at, and the
    next."""
    rng, words, sets = random.Random(seed), [], []
    for _ in range(30):
        m, k, fmt = rng.randrange(1, 9), rng.randrange(1, 70), rng.choice(STACK.weight_formats)
        lines, members = layout.operand_lines(STACK, 1, k, fmt), rng.randrange(1, 5)
        dealt = -(-lines // members)
        last = STACK.input_lines - -(-m // STACK.tile.tokens) * dealt
        chosen = [sum(1 << c for c in rng.sample(range(4), -(-lines // dealt) - less))
                  for less in (0, 1, 0)]
        words += [Instruction(Opcode.GEMM, m=m, n=1, k=k, weight_format=fmt, dealt=dealt,
                              source_line=last + beyond) for beyond in (0, 0, 1)]
        sets += chosen
    seen = [status for status, *_ in decode(STACK, [word.encode() for word in words], sets)]
    assert seen == [check(STACK, w.encode(), s.bit_count())
                    for w, s in zip(words, sets, strict=True)]
    assert seen == [Status.OK, Status.SOURCE_RANGE, Status.SOURCE_RANGE] * 30


@pytest.mark.parametrize("config", [SMALL, PRESETS["channel"]], ids=lambda c: c.name)
def test_derived_sizes(config):
    insn = Instruction(Opcode.GEMM, m=7, n=29, k=45, output_format=Format.FP32)
    (status, _, words, source, result), = decode(config, [insn.encode()])
    assert status == Status.OK
    assert words == layout.weight_words(config, 29, 45)
    assert source == layout.line_count(config, 1, 45)
    assert result == layout.line_count(config, 1, 29, Format.FP32)


def test_derived_sizes_of_transposed():
    config = PRESETS["channel"]
    insn = Instruction(Opcode.GEMM, m=7, n=29, k=45, transpose=1)
    (status, _, words, source, result), = decode(config, [insn.encode()])
    assert status == Status.OK
    assert words == layout.weight_words(config, 45, 29)
    assert source == layout.line_count(config, 1, 45)
    assert result == layout.line_count(config, 1, 29)


def test_no_transposition_where_beats_are_not_square():
    config = SMALL.replace(tile=Tile(tokens=2, rows=4, depth=8, groups=2))
    word = Instruction(Opcode.GEMM, m=1, n=1, k=1, transpose=1).encode()
    assert decode(config, [word])[0][0] == check(config, word) == Status.BAD_FORMAT


@pytest.mark.parametrize("k", [1, 16, 17, 45])
def test_derived_sizes_of_bytes(k):
    config = PRESETS["channel"].replace(formats=("fp16", "fp8_e4m3"))
    fmt = Format.FP8_E4M3
    insn = Instruction(Opcode.GEMM, m=7, n=29, k=k, weight_format=fmt)
    (status, _, words, source, _), = decode(config, [insn.encode()])
    assert status == Status.OK
    assert words == layout.weight_words(config, 29, k, fmt)
    assert source == layout.operand_lines(config, 1, k, fmt)
