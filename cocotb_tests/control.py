# SPDX-License-Identifier: BSD-2-Clause
"""Moves between buffers and DRAM, and instructions that are to be refused."""

from dataclasses import replace

from logicpim.spec.device import Counter, Region
from logicpim.spec.functions import Function
from logicpim.spec.isa import (
    FIELDS,
    INSTRUCTION_BITS,
    Buffer,
    Format,
    Instruction,
    Opcode,
    Status,
    allowed_mask,
)

from .bench import TESTED_LINES, channel_test
from .stimulus import Space, fill_dram, function, gemm, move

OK = [Status.OK]


@channel_test
async def load_and_store(bench):
    """A bundle word alone, a row and its neighbours, out to DRAM and back to the other buffer."""
    config, rng = bench.config, bench.rng
    fill_dram(bench)
    space = Space(bench)
    columns = config.dram.columns
    for length in (1, 2, columns - 1, columns, columns + 1, 2 * columns + 3):
        lines = -(-length * config.tile.rows // config.tile.tokens)
        if lines > TESTED_LINES // 2:
            continue
        source, target = rng.sample(list(Buffer), 2)
        address = space.words(length)
        store = Instruction(Opcode.STORE, tag=rng.getrandbits(16), buffer=source, address=address,
                            length=length, source_line=space.lines(source, lines))
        load = Instruction(Opcode.LOAD, tag=rng.getrandbits(16), buffer=target, address=address,
                           length=length, result_line=space.lines(target, lines))
        fence = Instruction(Opcode.FENCE, tag=rng.getrandbits(16))
        assert await bench.execute(store, fence, load) == OK * 3
    await bench.compare_buffers()


@channel_test
async def load_part_of_a_line(bench):
    """A move that ends inside a line leaves the rest of it as it was."""
    fill_dram(bench)
    config = bench.config
    per_line = max(1, config.tile.tokens // config.tile.rows)
    for length in range(1, 2 * per_line + 2):
        for buffer in Buffer:
            assert await bench.execute(Instruction(
                Opcode.LOAD, buffer=buffer, address=length, length=length, result_line=3)) == OK


@channel_test
async def result_is_operand(bench):
    """A GEMM's result goes to DRAM, comes back as operand, and is multiplied again."""
    space, config = Space(bench), bench.config
    tile, deep = config.tile, config.granule_elements
    first = gemm(bench, space, tile.tokens, deep, deep + 1)
    second = gemm(bench, space, tile.tokens, tile.rows + 1, deep)
    words = -(-tile.tokens // tile.rows)
    address = space.words(words)
    store = Instruction(Opcode.STORE, buffer=Buffer.TEMP, address=address, length=words,
                        source_line=first.result_line)
    load = Instruction(Opcode.LOAD, buffer=Buffer.INPUT, address=address, length=words,
                       result_line=second.source_line)
    assert await bench.execute(first, store, load, second) == OK * 4


def malformed(config):
    """(status, descriptor) of every check, each just past what is allowed."""
    org = config.dram
    base = Instruction(Opcode.GEMM, tag=0x1234, m=1, n=1, k=1)
    move = Instruction(Opcode.LOAD, tag=0x4321, length=1)
    store = replace(move, opcode=Opcode.STORE)
    end = org.words_per_bundle
    deep = config.granule_elements
    spread = config.tile.rows // config.tile.tokens or 1
    yield Status.BAD_OPCODE, 0
    yield Status.BAD_OPCODE, (1 << INSTRUCTION_BITS) - 1
    yield Status.BAD_OPCODE, replace(base, opcode=0x11).encode()
    activate = Instruction(Opcode.ACTIVATE, tag=0x77, m=1, n=1)
    softmax = Instruction(Opcode.SOFTMAX, tag=0x78, m=1, n=1, length=1)
    if not config.functions:
        yield from ((Status.BAD_OPCODE, insn.encode()) for insn in (activate, softmax))
    else:
        yield from malformed_functions(config, activate, softmax)
    for insn in (base, move, store, Instruction(Opcode.FENCE)):
        free = [bit for bit in range(8, INSTRUCTION_BITS)
                if not allowed_mask(insn.opcode) >> bit & 1]
        for bit in (free[0], free[len(free) // 2], free[-1]):
            yield Status.BAD_RESERVED, insn.encode() | 1 << bit
    for name in ("weight_format", "input_format"):
        yield Status.BAD_FORMAT, base.encode() | 8 << FIELDS[name].lsb
    yield Status.BAD_FORMAT, base.encode() | 1 << FIELDS["output_format"].lsb
    for name in ("m", "n", "k"):
        yield Status.ZERO_SIZE, replace(base, **{name: 0}).encode()
    yield Status.ZERO_SIZE, replace(move, length=0).encode()
    yield Status.ZERO_SIZE, replace(store, length=0).encode()
    yield Status.DRAM_RANGE, replace(base, address=org.words).encode()
    yield Status.DRAM_RANGE, replace(base, address=end - 1, k=deep + 1).encode()
    yield Status.DRAM_RANGE, replace(base, n=(1 << 24) - 1, k=(1 << 24) - 1).encode()
    yield Status.DRAM_RANGE, replace(move, address=end - 1, length=2).encode()
    yield Status.DRAM_RANGE, replace(store, address=org.words - 1, length=(1 << 32) - 1).encode()
    yield Status.SOURCE_RANGE, replace(base, source_line=config.input_lines).encode()
    yield Status.SOURCE_RANGE, replace(base, source_line=config.input_lines - 1,
                                       k=deep + 1).encode()
    yield Status.SOURCE_RANGE, replace(base, m=(1 << 16) - 1).encode()
    yield Status.SOURCE_RANGE, replace(store, source_line=config.input_lines - spread + 1).encode()
    yield Status.RESULT_RANGE, replace(base, result_line=config.temp_lines).encode()
    yield Status.RESULT_RANGE, replace(base, result_line=config.temp_lines - 1,
                                       n=deep + 1).encode()
    yield Status.RESULT_RANGE, replace(move, buffer=Buffer.TEMP,
                                       result_line=config.temp_lines - spread + 1).encode()


def malformed_functions(config, activate, softmax):
    """Likewise, of the activation and the softmax module."""
    deep, most = config.granule_elements, (1 << 24) - 1
    for insn in (activate, softmax):
        free = [bit for bit in range(8, INSTRUCTION_BITS)
                if not allowed_mask(insn.opcode) >> bit & 1]
        for bit in (free[0], free[len(free) // 2], free[-1]):
            yield Status.BAD_RESERVED, insn.encode() | 1 << bit
        yield Status.BAD_FORMAT, replace(insn, output_format=Format.FP32).encode()
        yield Status.BAD_FORMAT, replace(insn, input_format=Format.INT8).encode()
        for name in ("m", "n"):
            yield Status.ZERO_SIZE, replace(insn, **{name: 0}).encode()
        yield Status.SOURCE_RANGE, replace(insn, source_line=config.temp_lines).encode()
        yield Status.SOURCE_RANGE, replace(insn, source_line=config.temp_lines - 1,
                                           n=deep + 1).encode()
        yield Status.SOURCE_RANGE, replace(insn, source_line=config.temp_lines - 1, n=deep,
                                           input_format=Format.FP32).encode()
        yield Status.SOURCE_RANGE, replace(insn, n=most, length=insn.length and most).encode()
        yield Status.RESULT_RANGE, replace(insn, result_line=config.input_lines).encode()
        yield Status.RESULT_RANGE, replace(insn, result_line=config.input_lines - 1,
                                           m=config.tile.tokens + 1).encode()
    yield Status.BAD_FORMAT, activate.encode() | len(Function) << FIELDS["function"].lsb
    yield Status.SOURCE_RANGE, replace(activate, gated=1, second_line=config.temp_lines).encode()
    yield Status.ZERO_SIZE, replace(softmax, length=0).encode()
    # -1, -0, the greatest subnormal, infinity, NaN.
    for scale in (0xBF800000, 0x80000000, 0x7FFFFF, 0x7F800000, 0x7FC00000):
        yield Status.BAD_SCALE, replace(softmax, scale=scale).encode()
    yield Status.BAD_LENGTH, replace(softmax, length=2).encode()
    yield Status.BAD_LENGTH, replace(softmax, length=1 << 24).encode()
    yield Status.BAD_LENGTH, replace(softmax, m=2, length=1, causal=1).encode()


@channel_test
async def malformed_instructions(bench):
    """Each is refused for its own reason and touches nothing; a good one after each runs."""
    fill_dram(bench)
    space, tile = Space(bench), bench.config.tile
    commands = sum(not r.command.is_column for r in bench.dram.records)
    for number, (status, word) in enumerate(malformed(bench.config)):
        assert await bench.execute(word) == [status], f"{word:#x}"
        if number % 8 == 0:
            good = gemm(bench, space, tile.tokens, tile.rows, tile.depth + number % 3)
            assert await bench.execute(word, good, word) == [status, Status.OK, status]
    assert commands <= len(bench.dram.records)


@channel_test
async def refused_means_no_effect(bench):
    """While instructions are refused, the DRAM sees no column command."""
    for _, word in malformed(bench.config):
        await bench.execute(word)
    assert not any(record.command.is_column for record in bench.dram.records)


@channel_test
async def largest_in_range(bench):
    """One less than refused is accepted: the last words and the last lines."""
    config = bench.config
    fill_dram(bench)
    end = config.dram.words - 1
    last = config.temp_lines - max(1, config.tile.rows // config.tile.tokens)
    assert await bench.execute(
        Instruction(Opcode.LOAD, buffer=Buffer.TEMP, address=end, length=1, result_line=last),
        Instruction(Opcode.GEMM, m=1, n=1, k=config.granule_elements, address=end,
                    source_line=config.input_lines - 1, result_line=config.temp_lines - 1)
    ) == OK * 2
    if config.functions:
        ends = dict(source_line=config.temp_lines - 1, result_line=config.input_lines - 1)
        assert await bench.execute(
            Instruction(Opcode.ACTIVATE, m=1, n=config.granule_elements, gated=1,
                        second_line=config.temp_lines - 1, **ends),
            Instruction(Opcode.ACTIVATE, m=1, n=1, second_line=config.temp_lines, **ends),
            Instruction(Opcode.SOFTMAX, m=2, n=2, length=2, causal=1, scale=0x7F7FFFFF, **ends),
            Instruction(Opcode.SOFTMAX, m=1, n=1, length=1, scale=1 << 23, **ends)) == OK * 4


@channel_test
async def host_refused(bench):
    """A host access to a granule that is not there is answered with an error, nothing else."""
    config = bench.config
    counts = {Region.DRAM: config.dram.granules,
              Region.INPUT: config.input_lines * config.tile.tokens,
              Region.TEMP: config.temp_lines * config.tile.tokens,
              Region.REGISTERS: len(Counter)}
    most = max(1 << (count - 1).bit_length() for count in counts.values())
    await bench.execute(gemm(bench, Space(bench), 1, 1, 1))
    before = await bench.counters()
    for region, count in counts.items():
        good = bench.request(region, count - 1)
        bad = [bench.request(region, address, data)
               for address in {count, most - 1} if count <= address < most for data in (None, 1)]
        await bench.settle()
        assert good.error is False
        assert all(request.error for request in bad), region
    after = await bench.counters()
    for counter in (Counter.CYCLES, Counter.ACTIVE, Counter.WORDS_READ):
        assert after[counter] == before[counter] > 0


@channel_test
async def counters_add_up(bench):
    """Every clock of an instruction is active or has one cause of stall, whatever it waits for."""
    space, tile, deep = Space(bench), bench.config.tile, bench.config.granule_elements
    # Bound by the weights, by results (more of them than beats), by nothing for long.
    shapes = [(tile.tokens, 2 * tile.rows, 3 * deep), (tile.max_tokens, 4 * tile.rows, 1),
              (1, tile.rows, deep)]
    for m, n, k in shapes:
        bench.request(Region.REGISTERS, 0, 0)
        insn = gemm(bench, space, m, n, k, Format.FP32)
        assert await bench.execute(insn, move(bench, space)) == OK * 2
        value = await bench.counters()
        stalls = sum(count for counter, count in value.items() if counter.name.startswith("STALL_"))
        assert value[Counter.CYCLES] == value[Counter.ACTIVE] + stalls, value
        assert value[Counter.ACTIVE] <= value[Counter.CYCLES]
        assert value[Counter.HOST_GRANULES] == value[Counter.STALL_FUNCTION] == 0


@channel_test
async def counters_of_functions(bench):
    """What a function takes alone is its own stall; beside a GEMM the tile goes on."""
    if not bench.config.functions:
        return
    space, tile, deep = Space(bench), bench.config.tile, bench.config.granule_elements
    alone = function(bench, space, Opcode.ACTIVATE, tile.tokens, deep)
    beside = gemm(bench, space, tile.tokens, 2 * tile.rows, 6 * deep)
    found = []
    for program in ([alone], [beside, alone]):
        await bench.flush()
        bench.request(Region.REGISTERS, 0, 0)
        assert await bench.execute(*program) == OK * len(program)
        value = await bench.counters()
        stalls = sum(count for counter, count in value.items() if counter.name.startswith("STALL_"))
        assert value[Counter.CYCLES] == value[Counter.ACTIVE] + stalls, value
        found.append(value)
    single, both = found
    assert 40 <= single[Counter.STALL_FUNCTION] <= 200 and not single[Counter.ACTIVE], single
    # Each clock of the tile is one in which nobody waits for the function.
    assert both[Counter.STALL_FUNCTION] + both[Counter.ACTIVE] <= single[Counter.STALL_FUNCTION], (
        single, both)
    assert both[Counter.ACTIVE] > 0


@channel_test
async def counters_count(bench):
    """Words, beats and granules are counted exactly; a write clears them."""
    fill_dram(bench)
    space, tile, deep = Space(bench), bench.config.tile, bench.config.granule_elements
    insn = gemm(bench, space, tile.tokens, 2 * tile.rows, 3 * deep)
    store = Instruction(Opcode.STORE, buffer=Buffer.TEMP, address=space.words(3), length=3)
    load = Instruction(Opcode.LOAD, buffer=Buffer.TEMP, address=store.address, length=3)
    await bench.flush()
    bench.request(Region.REGISTERS, 0, 0)
    await bench.execute(insn, store, load)
    value = await bench.counters()
    assert (value[Counter.WORDS_READ], value[Counter.WORDS_WRITTEN]) == (6 + 3, 3)
    assert value[Counter.ACTIVE] == 12
    for address in range(5):
        bench.request(Region.DRAM, address)
    value = await bench.counters()
    assert value[Counter.HOST_GRANULES] == 5
    bench.request(Region.REGISTERS, 3, 0)
    value = await bench.counters()
    assert not any(count for counter, count in value.items() if counter != Counter.REFRESHES)
