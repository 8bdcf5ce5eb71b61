# SPDX-License-Identifier: BSD-2-Clause
"""The PIM instruction set: the one table that hardware, assembler and documentation read.

An instruction is a descriptor of 256 bits. Bits that no field of its opcode covers must be
zero. Sizes are in elements; DRAM addresses in bundle words of the channel; buffer positions in
lines (one granule of each token of a group).
"""

import enum
from dataclasses import dataclass

from .functions import Function

INSTRUCTION_BITS = 256


class Opcode(enum.IntEnum):
    """What an instruction does; the table below says which fields it reads."""

    FENCE = 0x01
    GEMM = 0x10
    LOAD = 0x20
    STORE = 0x21
    ACTIVATE = 0x30
    SOFTMAX = 0x31


FUNCTION_OPCODES = (Opcode.ACTIVATE, Opcode.SOFTMAX)
"""Those of the activation and the softmax module, which a configuration may lack."""


class Format(enum.IntEnum):
    """Number formats of operands and results."""

    FP16 = 0
    BF16 = 1
    FP8_E4M3 = 2
    FP8_E5M2 = 3
    INT8 = 4
    FP32 = 8


WEIGHT_FORMATS = tuple(f for f in Format if f != Format.FP32)
"""What weights may be, if a configuration includes it."""
BYTE_FORMATS = (Format.FP8_E4M3, Format.FP8_E5M2, Format.INT8)
"""Those of 8 bits: E4M3 as the OCP defines it (no infinity, one NaN), INT8 two's complement."""


class Buffer(enum.IntEnum):
    """Which buffer of the logic die a LOAD or STORE moves."""

    INPUT = 0
    TEMP = 1


class Status(enum.IntEnum):
    """How an instruction ended. OK: as it should. DATA_ERROR: it ran, on words that the DRAM
    did not keep. Anything else: it had no effect at all."""

    OK = 0
    BAD_OPCODE = 1
    BAD_RESERVED = 2
    BAD_FORMAT = 3
    ZERO_SIZE = 4
    DRAM_RANGE = 5
    SOURCE_RANGE = 6
    RESULT_RANGE = 7
    DATA_ERROR = 8
    TOO_WIDE = 10
    BAD_SCALE = 11
    BAD_LENGTH = 12
    BAD_CHANNELS = 13

    @property
    def reason(self) -> str:
        """One line for people."""
        return _REASONS[self]


_REASONS = {
    Status.OK: "done",
    Status.BAD_OPCODE: "the opcode is not known, or not in this configuration",
    Status.BAD_RESERVED: "a bit that the opcode does not use is set",
    Status.BAD_FORMAT: "a number format, an interleave, a function, a scale group, a transposed "
                       "product or dealt operands that this configuration does not have",
    Status.ZERO_SIZE: "M, N, K or the length is zero",
    Status.DRAM_RANGE: "the DRAM words run past the end of their bundle or set of bundles",
    Status.SOURCE_RANGE: "the source lines run past the end of their buffer, or dealt operands "
                         "past the last channel of the set",
    Status.RESULT_RANGE: "the result lines run past the end of their buffer",
    Status.DATA_ERROR: "it ran, but DRAM words that it read had more wrong bits than ECC corrects",
    Status.TOO_WIDE: "a transposed weight has more columns than the accumulators hold",
    Status.BAD_SCALE: "the scale is negative, subnormal, infinite or NaN",
    Status.BAD_LENGTH: "the length is more than N or, if causal, less than M",
    Status.BAD_CHANNELS: "the set of channels is empty",
}


@dataclass(frozen=True)
class Field:
    """One field of the descriptor: position, width, the opcodes that read it, its meaning."""

    name: str
    lsb: int
    width: int
    opcodes: tuple[Opcode, ...]
    meaning: str

    @property
    def mask(self) -> int:
        return ((1 << self.width) - 1) << self.lsb

    def of(self, word: int) -> int:
        """Its value in a descriptor."""
        return word >> self.lsb & (1 << self.width) - 1


_ALL = tuple(Opcode)
_GEMM = (Opcode.GEMM,)
_MOVE = (Opcode.LOAD, Opcode.STORE)
_ACTIVATE = (Opcode.ACTIVATE,)
_SOFTMAX = (Opcode.SOFTMAX,)
_FUNCTION = _ACTIVATE + _SOFTMAX

FIELDS = {f.name: f for f in (
    Field("opcode", 0, 8, _ALL, "what to do"),
    Field("tag", 16, 16, _ALL, "returned with the completion, free for the host"),
    Field("weight_format", 32, 4, _GEMM, "format of the weights in DRAM"),
    Field("input_format", 36, 4, _GEMM + _FUNCTION,
          "format of the operands of a GEMM: FP16 or BF16; of the sources of ACTIVATE and "
          "SOFTMAX: FP16, BF16 or FP32"),
    Field("output_format", 40, 4, _GEMM + _FUNCTION,
          "format of the results: FP16, BF16 or, of a GEMM, FP32"),
    Field("buffer", 44, 1, _MOVE, "buffer to move: INPUT or TEMP"),
    Field("scaled", 45, 1, _GEMM, "multiply row n, or each group of its words, by a scale"),
    Field("transpose", 46, 1, _GEMM, "the weight is stored as W[K, N]: reduce over its rows"),
    Field("accumulate", 47, 1, _GEMM, "add to the FP32 results that lie at result_line"),
    Field("interleave", 48, 2, _GEMM + _MOVE,
          "log2 of the bundles that the words are dealt over, a row of each in turn"),
    Field("dealt", 50, 14, _GEMM,
          "k words of each group that a channel's input slice holds, see below; 0: it has all"),
    Field("function", 52, 4, _ACTIVATE, "the activation function, see below"),
    Field("gated", 56, 1, _ACTIVATE, "multiply by the second source"),
    Field("causal", 57, 1, _SOFTMAX,
          "row i of the M rows has M - 1 - i elements less that count than the last row"),
    Field("m", 64, 16, _GEMM + _FUNCTION, "tokens, or rows"),
    Field("n", 80, 24, _GEMM + _FUNCTION, "output rows of the weight, or elements of a row"),
    Field("k", 104, 24, _GEMM, "reduction length"),
    Field("address", 128, 32, _GEMM + _MOVE, "first bundle word in DRAM"),
    Field("scale", 128, 32, _SOFTMAX,
          "what scores are multiplied by, binary32: zero or normal, not negative"),
    Field("length", 160, 32, _MOVE + _SOFTMAX,
          "bundle words to move; elements of the last row of a SOFTMAX that count"),
    Field("scale_line", 160, 24, _GEMM, "first line of the scales (input buffer), FP32 each"),
    Field("scale_group", 184, 8, _GEMM,
          "words of a row of the weight that share a scale; 0: the whole row"),
    Field("second_line", 160, 24, _ACTIVATE,
          "first line of the second source (temp buffer), of the same form as the first"),
    Field("source_line", 192, 24, _GEMM + (Opcode.STORE,) + _FUNCTION,
          "first line read: operands (input buffer) of a GEMM, data of a STORE, results of a "
          "GEMM (temp buffer) for ACTIVATE and SOFTMAX"),
    Field("result_line", 224, 24, _GEMM + (Opcode.LOAD,) + _FUNCTION,
          "first line written: results (temp buffer) of a GEMM, data of a LOAD, operands "
          "(input buffer) that ACTIVATE and SOFTMAX make"),
)}


def allowed_mask(opcode: Opcode) -> int:
    """The bits that may be set in an instruction of this opcode."""
    return sum(f.mask for f in FIELDS.values() if opcode in f.opcodes)


@dataclass(frozen=True)
class Instruction:
    """An instruction by its field values; fields the opcode does not read stay zero."""

    opcode: Opcode
    tag: int = 0
    weight_format: Format = Format.FP16
    input_format: Format = Format.FP16
    output_format: Format = Format.FP16
    buffer: Buffer = Buffer.INPUT
    interleave: int = 0
    m: int = 0
    n: int = 0
    k: int = 0
    address: int = 0
    length: int = 0
    transpose: int = 0
    accumulate: int = 0
    dealt: int = 0
    scaled: int = 0
    scale_line: int = 0
    scale_group: int = 0
    function: Function = Function.SILU
    gated: int = 0
    causal: int = 0
    scale: int = 0
    second_line: int = 0
    source_line: int = 0
    result_line: int = 0

    def encode(self) -> int:
        """The descriptor as a 256-bit integer. Raises ValueError where a value has no room."""
        word = 0
        for f in FIELDS.values():
            value = int(getattr(self, f.name))
            if not 0 <= value < 1 << f.width:
                raise ValueError(f"{f.name} {value} does not fit {f.width} bits")
            word |= value << f.lsb
        return word

    @classmethod
    def decode(cls, word: int) -> "Instruction":
        """Field values of a descriptor; values outside an enumeration stay plain integers."""
        values = {}
        for f in FIELDS.values():
            if values.get("opcode") in _KNOWN["opcode"] and values["opcode"] not in f.opcodes:
                continue
            value = f.of(word)
            values[f.name] = _KNOWN[f.name].get(value, value) if f.name in _KNOWN else value
        return cls(**values)


_KNOWN = {name: {int(member): member for member in kind} for name, kind in (
    ("opcode", Opcode), ("buffer", Buffer), ("function", Function),
    *((name, Format) for name in FIELDS if name.endswith("_format")))}
"""By field, the members of its enumeration."""


@dataclass(frozen=True)
class Completion:
    """What the device says when an instruction has ended: its tag and its status."""

    tag: int
    status: Status
