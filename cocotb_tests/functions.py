# SPDX-License-Identifier: BSD-2-Clause
"""Activations, softmax, and programs in which they pass operands to GEMMs and back."""

from dataclasses import replace

from logicpim.sim.model import layout
from logicpim.spec.device import Counter, Region
from logicpim.spec.functions import Function
from logicpim.spec.isa import FUNCTION_OPCODES, Buffer, Format, Instruction, Opcode, Status

from .bench import channel_test
from .stimulus import Space, fill_dram, function, gemm

OK = [Status.OK]


@channel_test
async def activations(bench):
    """Each function, plain and gated, from each format, of rows that fill no tile."""
    space, tile = Space(bench), bench.config.tile
    for kind in ("plain", "special", "any"):
        for act in Function:
            for gated in (0, 1):
                insn = function(bench, space, Opcode.ACTIVATE, tile.tokens + 1,
                                tile.rows + 1 + gated, kind, function=act, gated=gated)
                assert await bench.execute(insn) == OK
    await bench.compare_buffers()


@channel_test
async def softmaxes(bench):
    """Rows of any lengths and kinds, all of a row, one element, causal ones."""
    space, tile, rng = Space(bench), bench.config.tile, bench.rng
    wide = 4 * tile.rows + 1
    for kind in ("plain", "special"):
        for fmt in bench.config.output_formats:
            for fields in ({"length": 1, "causal": 0}, {"length": wide, "causal": 0},
                           {"length": wide, "causal": 1}, {"length": 3, "causal": 1}, {}):
                rows = 3 if fields.get("causal") else rng.randint(1, 2 * tile.tokens)
                insn = function(bench, space, Opcode.SOFTMAX, rows, wide, kind, input_format=fmt,
                                **fields)
                assert await bench.execute(insn) == OK
    await bench.compare_buffers()


@channel_test
async def expert(bench):
    """A gated expert: gate, up, their activation, down; one program, nothing done by the host."""
    space, tile, deep = Space(bench), bench.config.tile, bench.config.granule_elements
    for m, inner, hidden in ((1, tile.rows, deep), (tile.tokens, 2 * deep + 1, 3 * tile.rows - 1)):
        gate, up = (gemm(bench, space, m, inner, hidden, Format.FP32) for _ in range(2))
        up = replace(up, source_line=gate.source_line)
        down = gemm(bench, space, m, hidden, inner, Format.FP32)
        act = Instruction(Opcode.ACTIVATE, gated=1, m=m, n=inner, input_format=Format.FP32,
                          source_line=gate.result_line, second_line=up.result_line,
                          result_line=down.source_line)
        assert await bench.execute(gate, up, act, down) == OK * 4
    await bench.compare_buffers()


@channel_test
async def attention_scores(bench):
    """Scores of one head stream while the softmax of the head before runs; the tile says so."""
    space, tile, deep = Space(bench), bench.config.tile, bench.config.granule_elements
    heads, context = 3, 3 * tile.rows - 1
    program = []
    for _ in range(heads):
        scores = gemm(bench, space, tile.tokens, context, 4 * deep, Format.FP32)
        result = space.lines(Buffer.INPUT, layout.line_count(bench.config, tile.tokens, context))
        program += [scores, Instruction(
            Opcode.SOFTMAX, m=tile.tokens, n=context, length=context - 1, scale=0x3F000000,
            input_format=Format.FP32, source_line=scores.result_line, result_line=result)]
    await bench.flush()
    bench.request(Region.REGISTERS, 0, 0)
    assert await bench.execute(*program) == OK * len(program)
    together = (await bench.counters())[Counter.CYCLES]
    alone = 0
    for insn in program:
        bench.request(Region.REGISTERS, 0, 0)
        assert await bench.execute(insn) == OK
        alone += (await bench.counters())[Counter.CYCLES]
    assert together < 0.8 * alone, (together, alone)


@channel_test
async def any_program(bench):
    """GEMMs, activations and softmax over few lines, so that most need each other's results."""
    fill_dram(bench)
    config, rng, tile = bench.config, bench.rng, bench.config.tile
    for _ in range(4 * bench.effort):
        program = []
        for _ in range(rng.randint(4, 12)):
            opcode = rng.choice([Opcode.GEMM, Opcode.GEMM, *FUNCTION_OPCODES, rng.choice(
                [Opcode.FENCE, Opcode.STORE, Opcode.LOAD])])
            m, n = rng.randint(1, tile.tokens + 1), rng.randint(1, 3 * tile.rows)
            fields = dict(m=m, n=n, source_line=rng.randrange(12), result_line=rng.randrange(12),
                          output_format=Format.FP16)
            if opcode == Opcode.GEMM:
                output = rng.choice(config.output_formats)
                fields |= dict(k=rng.randint(1, 4 * tile.depth), address=rng.randrange(16),
                               output_format=output,
                               accumulate=rng.randrange(2) if output == Format.FP32 else 0)
            elif opcode == Opcode.ACTIVATE:
                fields |= dict(function=rng.choice(list(Function)), gated=rng.randrange(2),
                               second_line=rng.randrange(12),
                               input_format=rng.choice(config.output_formats))
            elif opcode == Opcode.SOFTMAX:
                fields |= dict(length=rng.randint(1, n), scale=0x3F800000,
                               input_format=rng.choice(config.output_formats))
            else:
                line = "result_line" if opcode == Opcode.LOAD else "source_line"
                fields = {} if opcode == Opcode.FENCE else {
                    "length": 1, "buffer": rng.choice(list(Buffer)),
                    "address": rng.randrange(16), line: rng.randrange(12)}
            program.append(Instruction(opcode, tag=rng.getrandbits(16), **fields))
        assert await bench.execute(*program) == OK * len(program)
        await bench.compare_buffers()
