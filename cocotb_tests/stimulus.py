# SPDX-License-Identifier: BSD-2-Clause
"""Random operands, instructions and host traffic for the benches."""

import numpy as np

from logicpim.sim.model import layout
from logicpim.spec.device import Region
from logicpim.spec.functions import Function
from logicpim.spec.isa import Buffer, Format, Instruction, Opcode

from .bench import TESTED_LINES, Bench

# Exponents apart by more than the adder is wide, both zeroes, subnormals, infinities and NaNs.
SPECIAL = np.array([0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF,
                    0x7C00, 0xFC00, 0x7E00, 0xFC01], np.uint16)


def values(bench: Bench, shape, kind: str) -> np.ndarray:
    """FP16 bit patterns: ``plain`` numbers around 1, ``any`` pattern, or ``special`` ones."""
    rng = bench.data_rng
    if kind == "plain":
        return rng.standard_normal(shape).astype(np.float16).view(np.uint16)
    if kind == "any":
        return rng.integers(0, 1 << 16, shape, np.uint16)
    plain = rng.standard_normal(shape).astype(np.float16).view(np.uint16)
    return np.where(rng.random(shape) < 0.1, rng.choice(SPECIAL, shape), plain)


class Space:
    """Hands out places in the lower half of the DRAM rows and of each buffer, in turn.

    The upper halves are the host traffic's.
    """

    def __init__(self, bench: Bench):
        self.bench, self._next = bench, {}

    def _take(self, what, size: int, limit: int) -> int:
        assert size <= limit, f"{size} of {what} asked for, {limit} there"
        at = self._next.get(what, 0)
        at = 0 if at + size > limit else at
        self._next[what] = at + size
        return at

    def words(self, size: int) -> int:
        """Start of ``size`` bundle words in the lower half of a random bundle."""
        org = self.bench.config.dram
        bundle = self.bench.rng.randrange(org.bundles)
        limit = org.words_per_bundle // 2
        return bundle * org.words_per_bundle + self._take(bundle, size, limit)

    def lines(self, buffer: Buffer, size: int) -> int:
        """Start of ``size`` lines in the lower half of a buffer's tested lines."""
        return self._take(buffer, size, TESTED_LINES // 2)


def gemm(bench: Bench, space: Space, m: int, n: int, k: int,
         output: Format = Format.FP16, kind: str = "plain") -> Instruction:
    """A GEMM of random operands, put where it will find them.

    Some add to what lies there; of those that are narrow enough, some have W[K, N].
    """
    config = bench.config
    transpose = n <= config.transposed_columns and bench.rng.random() < 0.3
    stored = (k, n) if transpose else (n, k)
    weights = layout.pack_weights(config, values(bench, stored, kind))
    operands = layout.pack_operands(config, values(bench, (m, k), kind))
    address = space.words(layout.weight_words(config, *stored))
    for memory in (bench.dram.memory, bench.mirror.dram(0)):
        memory[address * config.word_bytes:][:len(weights)] = weights
    source = space.lines(Buffer.INPUT, len(operands) // config.line_bytes)
    bench.write_lines(Buffer.INPUT, source, operands)
    result = space.lines(Buffer.TEMP, layout.line_count(config, m, n, output))
    return Instruction(Opcode.GEMM, tag=bench.rng.getrandbits(16), m=m, n=n, k=k,
                       address=address, source_line=source, result_line=result,
                       output_format=output, transpose=int(transpose),
                       accumulate=int(output is Format.FP32 and bench.rng.random() < 0.4))


def sources(bench: Bench, shape, fmt: Format, kind: str) -> np.ndarray:
    """As :func:`values`, in the format of a GEMM's results; plain numbers of some size."""
    plain = (3 * bench.data_rng.standard_normal(shape)).astype(np.float32).view(np.uint32)
    if fmt == Format.FP16:
        return values(bench, shape, kind)
    some = SPECIAL.view(np.float16).astype(np.float32).view(np.uint32)
    mixed = {"plain": plain, "any": bench.data_rng.integers(0, 1 << 32, shape, np.uint32),
             "special": np.where(bench.data_rng.random(shape) < 0.1,
                                 bench.data_rng.choice(some, shape), plain)}[kind]
    return mixed if fmt == Format.FP32 else (mixed >> 16).astype(np.uint16)


def function(bench: Bench, space: Space, opcode: Opcode, m: int, n: int, kind: str = "plain",
             **fields) -> Instruction:
    """An ACTIVATE or SOFTMAX of random sources, put where it will find them."""
    config, rng = bench.config, bench.rng
    fields = {"input_format": rng.choice(config.output_formats),
              "output_format": rng.choice(config.input_formats), **fields}
    if opcode == Opcode.ACTIVATE:
        fields = {"function": rng.choice(list(Function)), "gated": rng.randrange(2), **fields}
    else:
        causal = rng.randrange(2) if m <= n else 0
        fields = {"causal": causal, "length": rng.randint(m if causal else 1, n),
                  "scale": int(np.float32(rng.choice([0, 0.3, 1, 7])).view(np.uint32)), **fields}
    lines = []
    for _ in range(2):
        bits = layout.pack_results(config, sources(bench, (m, n), fields["input_format"], kind),
                                   fields["input_format"])
        lines.append(space.lines(Buffer.TEMP, len(bits) // config.line_bytes))
        bench.write_lines(Buffer.TEMP, lines[-1], bits)
        if opcode == Opcode.SOFTMAX:
            break
        fields["second_line"] = lines[-1]
    result = space.lines(Buffer.INPUT, layout.line_count(config, m, n, fields["output_format"]))
    return Instruction(opcode, tag=rng.getrandbits(16), m=m, n=n, source_line=lines[0],
                       result_line=result, **fields)


def move(bench: Bench, space: Space) -> Instruction:
    """A LOAD or STORE of a few words, between random places."""
    config, rng = bench.config, bench.rng
    length = rng.randint(1, 3 + rng.randrange(config.dram.columns))
    lines = -(-length * config.tile.rows // config.tile.tokens)
    if lines > TESTED_LINES // 4:
        length, lines = 1, max(1, config.tile.rows // config.tile.tokens)
    buffer = rng.choice(list(Buffer))
    opcode = rng.choice([Opcode.LOAD, Opcode.STORE])
    line = "result_line" if opcode is Opcode.LOAD else "source_line"
    return Instruction(opcode, tag=rng.getrandbits(16), buffer=buffer, length=length,
                       address=space.words(length), **{line: space.lines(buffer, lines)})


def fill_dram(bench: Bench, words: int = 64) -> None:
    """Noise in the first words of each bundle, and of its upper half."""
    config = bench.config
    half = config.dram.words_per_bundle // 2
    for start in range(0, config.dram.words, half):
        at, size = start * config.word_bytes, min(words, half) * config.word_bytes
        bench.dram.memory[at:at + size] = bench.data_rng.integers(0, 256, size, np.uint8)
        bench.mirror.dram(0)[at:at + size] = bench.dram.memory[at:at + size]


class Traffic:
    """Host accesses to the upper halves of DRAM and buffers, judged when they are answered.

    Parameters
    ----------
    bench : Bench
    regions : sequence of Region
        Where they go, in these proportions.
    writes : float
        Proportion of writes.
    """

    def __init__(self, bench: Bench, regions=(Region.DRAM, Region.DRAM, Region.INPUT, Region.TEMP),
                 writes: float = 0.5):
        self.bench, self.regions, self.writes, self._sent = bench, regions, writes, []

    def _place(self) -> tuple[Region, int, np.ndarray]:
        """A random granule: its region, its address, and its bytes in the mirror."""
        bench, config = self.bench, self.bench.config
        size = config.granule_bytes
        region = bench.rng.choice(self.regions)
        if region is Region.DRAM:
            org = config.dram
            half = org.words_per_bundle * org.bundle_banks // 2
            # A few rows only, so that some accesses meet an open row.
            address = (bench.rng.randrange(org.bundles) * 2 + 1) * half
            address += bench.rng.randrange(min(half, 4 * org.columns * org.bundle_banks))
            memory = bench.mirror.dram(0)
        else:
            half = TESTED_LINES // 2 * config.tile.tokens
            address = half + bench.rng.randrange(half)
            memory = bench.mirror._buffer(0, Buffer[region.name])
        return region, address, memory[address * size:(address + 1) * size]

    def send(self) -> None:
        """Queue one random read or write."""
        bench, config = self.bench, self.bench.config
        region, address, cells = self._place()
        if bench.rng.random() >= self.writes:
            expected = int.from_bytes(cells.tobytes(), "little")
            self._sent.append((bench.request(region, address), expected))
            return
        # Buffers are written in cells of one row block, DRAM in bytes.
        cell = 1 if region is Region.DRAM else 2 * config.tile.rows
        enable = np.repeat([bench.rng.random() < 0.7
                            for _ in range(config.granule_bytes // cell)], cell)
        data = bench.data_rng.integers(0, 256, config.granule_bytes, np.uint8)
        cells[enable] = data[enable]
        mask = sum(1 << int(i) for i in np.flatnonzero(enable))
        request = bench.request(region, address, int.from_bytes(data.tobytes(), "little"), mask)
        self._sent.append((request, None))

    async def run(self, gap: int) -> None:
        """Send without end, up to ``gap`` clocks apart; cancel the task to stop."""
        while True:
            await self.bench.clocks(1 + self.bench.rng.randrange(gap))
            if len(self.bench._requests.queue) < 4:
                self.send()

    def judge(self) -> int:
        """Compare every response with what it had to be; returns their number."""
        for request, expected in self._sent:
            where = f"{request.region.name} granule {request.address}"
            assert request.error is False, f"{where}: refused or not answered"
            if expected is not None:
                assert request.response == expected, (
                    f"{where}: {request.response:x}, expected {expected:x}")
        return len(self._sent)
