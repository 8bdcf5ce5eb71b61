# SPDX-License-Identifier: BSD-2-Clause
"""Random streams of instructions, any opcode on any lines, of which some are malformed."""

from dataclasses import replace

import numpy as np

from logicpim.sim.model.device import check
from logicpim.spec.config import Config
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

_GEMM, _ACTIVATE, _SOFTMAX = Opcode.GEMM, Opcode.ACTIVATE, Opcode.SOFTMAX
_ENDS = {Status.SOURCE_RANGE: ("source_line", "second_line", "scale_line"),
         Status.RESULT_RANGE: ("result_line",)}
_LINES = sum(_ENDS.values(), ())
# -1, -0, the least and the greatest subnormal, infinity, NaN.
_SCALES = (0xBF800000, 0x80000000, 1, 0x7FFFFF, 0x7F800000, 0x7FC00000)


class Streams:
    """Draws instructions at random; what they read and write overlaps as it comes.

    Parameters
    ----------
    config : Config
    seed : int
    malformed : float
        Proportion of instructions that are to be refused.
    windows : int
        Places in the DRAM, of two rows each, that addresses are drawn from; 0: all of it.

    Attributes
    ----------
    starts : array
        First words of these windows.
    refusals : tuple of Status
        Those that the configuration has, of which one is drawn for each malformed instruction.
    """

    def __init__(self, config: Config, seed: int, *, malformed: float = 1 / 3, windows: int = 0):
        self.config, self._malformed = config, malformed
        self._random = np.random.default_rng(seed)
        org = config.dram
        self._window = 2 * org.columns if windows else org.words
        starts = self._random.integers(0, org.words // self._window, windows) * self._window
        self.starts = np.append(starts, org.words - self._window) if windows else np.zeros(1, int)
        without = {Status.OK, Status.DATA_ERROR, Status.BAD_CHANNELS}   # that is a stack's
        if not config.functions:
            without |= {Status.BAD_SCALE, Status.BAD_LENGTH}
        if not config.transposes:
            without.add(Status.TOO_WIDE)
        self.refusals = tuple(s for s in Status if s not in without)

    def stream(self, length: int) -> list[tuple[int, Status | None]]:
        """(descriptor, status it was made for, or None for bits drawn at random) of each."""
        return [self._draw() for _ in range(length)]

    def fill(self, memory: np.ndarray) -> np.ndarray:
        """Numbers around 1, with any pattern here and there, into ``memory`` (bytes)."""
        values = self._random.standard_normal(memory.size // 2).astype(np.float16).view(np.uint16)
        strange = self._random.random(len(values)) < 0.02
        values[strange] = self._random.integers(0, 1 << 16, strange.sum(), np.uint16)
        memory[:] = values.view(np.uint8)
        return memory

    def _draw(self):
        if self._random.random() >= self._malformed:
            return self._wellformed(), Status.OK
        if self._chance(0.1):
            return self._noise(), None
        wanted = self._one_of(self.refusals)
        return self._until(lambda: self._spoil(wanted), wanted), wanted

    def _until(self, make, wanted) -> int:
        """The first descriptor that the reference answers so."""
        for _ in range(10_000):
            word = make()
            if word is not None and check(self.config, word) == wanted:
                return word
        raise AssertionError(f"no instruction of {self.config.name!r} is answered {wanted.name}")

    def _chance(self, of_one: float) -> bool:
        return self._random.random() < of_one

    def _one_of(self, values):
        return values[self._random.integers(len(values))]

    def _size(self, most: int) -> int:
        """From 1 to ``most``, small ones more often."""
        return int(self._random.integers(1, self._random.integers(1, most + 1) + 1))

    # -- well-formed ----------------------------------------------------------------------

    def _wellformed(self, opcode: Opcode | None = None) -> int:
        word = self._until(lambda: self._any(opcode).encode(), Status.OK)
        insn = Instruction.decode(word)
        names = [name for name in _LINES if insn.opcode in FIELDS[name].opcodes]
        if not names or not self._chance(0.1):
            return word
        # The last line that will do; of a field that does not matter, any other.
        name = self._one_of(names)
        return replace(insn, **{name: max(0, self._edge(insn, name) - 1)}).encode()

    def _any(self, opcode: Opcode | None = None) -> Instruction:
        """An instruction that may run past the end of something."""
        config = self.config
        if opcode is None:
            opcode = self._one_of(config.opcodes)
        insn = Instruction(opcode, tag=int(self._random.integers(1 << 16)))
        if opcode == Opcode.FENCE:
            return insn
        insn = replace(insn, **{
            name: int(self._random.integers(lines))
            for name, lines in (("source_line", self._lines(opcode, reads=True)),
                                ("result_line", self._lines(opcode, reads=False))) if lines})
        if opcode in (Opcode.LOAD, Opcode.STORE):
            buffer = self._one_of(list(Buffer))
            return replace(insn, **self._place(), buffer=buffer,
                           length=self._size(2 * config.dram.columns + 1))
        tile = config.tile
        insn = replace(insn, m=self._size(tile.max_tokens + 3), n=self._size(5 * tile.rows))
        return self._gemm(insn) if opcode == _GEMM else self._function(insn)

    def _gemm(self, insn: Instruction) -> Instruction:
        config = self.config
        insn = replace(
            insn, **self._place(), k=self._size(5 * config.granule_elements),
            weight_format=self._one_of(config.weight_formats),
            input_format=self._one_of(config.input_formats),
            output_format=self._one_of(config.output_formats),
            transpose=int(config.transposes and self._chance(0.3)))
        if insn.output_format == Format.FP32:
            insn = replace(insn, accumulate=int(self._chance(0.5)))
        if config.has_bytes and self._chance(0.4):
            insn = replace(insn, scaled=1, transpose=0,
                           scale_line=int(self._random.integers(config.input_lines)),
                           scale_group=self._size(4) if self._chance(0.5) else 0)
        return insn

    def _function(self, insn: Instruction) -> Instruction:
        config, random = self.config, self._random
        insn = replace(insn, input_format=self._one_of(config.output_formats),
                       output_format=self._one_of(config.input_formats))
        if insn.opcode == _ACTIVATE:
            return replace(insn, function=self._one_of(list(Function)),
                           gated=int(random.integers(2)),
                           second_line=int(random.integers(config.temp_lines)))
        causal = int(self._chance(0.5) and insn.m <= insn.n)
        scale = np.float32(self._one_of([0.0, 0.3, 1.0, 7.0])).view(np.uint32)
        return replace(insn, causal=causal, scale=int(scale),
                       length=int(random.integers(insn.m if causal else 1, insn.n + 1)))

    def _place(self) -> dict:
        address = int(self._one_of(self.starts) + self._random.integers(self._window))
        return {"address": address,
                "interleave": int(self._random.integers(self.config.dram.bundles.bit_length()))}

    def _lines(self, opcode: Opcode, *, reads: bool) -> int:
        """Lines to draw from: those that either buffer has, or 0 where there is no such field."""
        if opcode not in FIELDS["source_line" if reads else "result_line"].opcodes:
            return 0
        return min(self.config.input_lines, self.config.temp_lines)

    # -- malformed ------------------------------------------------------------------------

    def _noise(self) -> int:
        """Random bits: in the whole descriptor, or in some fields of a well-formed one."""
        bits = int.from_bytes(self._random.bytes(INSTRUCTION_BITS // 8), "little")
        if self._chance(0.3):
            return bits
        word = self._wellformed()
        opcode = Instruction.decode(word).opcode
        fields = [f for f in FIELDS.values() if opcode in f.opcodes and f.name != "opcode"]
        for f in self._random.choice(fields, min(2, len(fields)), replace=False):
            word = word & ~f.mask | bits & f.mask
        return word

    def _spoil(self, wanted: Status) -> int | None:
        """A well-formed instruction with one thing changed for the worse; None if that fails."""
        random = self._random
        if wanted == Status.BAD_OPCODE:
            known = [int(o) for o in self.config.opcodes]
            return self._wellformed() & ~0xFF | self._one_of(
                [o for o in range(256) if o not in known])
        if wanted == Status.TOO_WIDE:
            least = self.config.transposed_columns + 1
            return replace(self._any(_GEMM), transpose=1, scaled=0, scale_line=0, scale_group=0,
                           n=int(random.integers(least, 2 * least))).encode()
        opcode = _SOFTMAX if wanted in (Status.BAD_SCALE, Status.BAD_LENGTH) else None
        word = self._wellformed(opcode)
        insn = Instruction.decode(word)
        if wanted == Status.BAD_RESERVED:
            free = [bit for bit in range(8, INSTRUCTION_BITS)
                    if not allowed_mask(insn.opcode) >> bit & 1]
            return word | 1 << self._one_of(free)
        if wanted == Status.BAD_FORMAT:
            names = [n for n in ("weight_format", "input_format", "output_format", "function",
                                 "interleave") if insn.opcode in FIELDS[n].opcodes]
            return self._bad_format(word, insn, names) if names else None
        if wanted in (Status.DRAM_RANGE, *_ENDS):
            return self._too_far(insn, wanted)
        if wanted == Status.ZERO_SIZE:
            names = [n for n in ("m", "n", "k", "length") if getattr(insn, n)]
            return replace(insn, **{self._one_of(names): 0}).encode() if names else None
        if wanted == Status.BAD_SCALE:
            return replace(insn, scale=self._one_of(_SCALES)).encode()
        length = insn.n + self._size(insn.n) if self._chance(0.5) else insn.m - 1
        return replace(insn, length=length, causal=int(length < insn.m)).encode()

    def _bad_format(self, word: int, insn: Instruction, names) -> int:
        """A value that the field has not, or two that do not go together."""
        if insn.opcode == _GEMM and self._chance(0.4):
            return replace(insn, **self._one_of([
                {"accumulate": 1, "output_format": Format.FP16}, {"scale_group": 1, "scaled": 0},
                {"transpose": 1, "scaled": 1}, {"scaled": 1},
                {"dealt": self._size(9)}])).encode()
        f = FIELDS[self._one_of(names)]
        return word & ~f.mask | int(self._random.integers(1 << f.width)) << f.lsb

    def _too_far(self, insn: Instruction, wanted: Status) -> int | None:
        """A range that ends a little past the end of what there is, or a good way."""
        if wanted == Status.DRAM_RANGE:
            if insn.opcode not in FIELDS["address"].opcodes:
                return None
            if self._chance(0.3):
                name = "length" if insn.length else "n"
                return replace(insn, **{name: (1 << FIELDS[name].width) - 1}).encode()
            org = self.config.dram
            end = org.words if self._chance(0.5) else org.words_per_bundle
            return replace(insn, address=int(end - 2 + self._random.integers(4))).encode()
        names = [n for n in _ENDS[wanted] if insn.opcode in FIELDS[n].opcodes]
        if not names:
            return None
        name = self._one_of(names)
        edge, most = self._edge(insn, name), (1 << FIELDS[name].width) - 1
        return replace(insn, **{name: self._one_of(
            [edge, edge, min(edge + 1, most), most])}).encode()

    def _edge(self, insn: Instruction, name: str) -> int:
        """The first line that a field may not have."""
        low, high = 0, (1 << FIELDS[name].width) - 1
        while low < high:
            line = (low + high) // 2
            if check(self.config, replace(insn, **{name: line}).encode()) == Status.OK:
                low = line + 1
            else:
                high = line
        return low
