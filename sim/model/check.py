# SPDX-License-Identifier: BSD-2-Clause
"""What is said to an instruction before anything of it is done: the first rule that it breaks."""

from logicpim.spec.config import Config
from logicpim.spec.functions import Function
from logicpim.spec.isa import (
    BYTE_FORMATS,
    FUNCTION_OPCODES,
    Buffer,
    Format,
    Instruction,
    Opcode,
    Status,
    allowed_mask,
)

from . import layout


def buffer_lines(config: Config, buffer: Buffer) -> int:
    """Lines of a buffer of one channel."""
    return config.temp_lines if buffer == Buffer.TEMP else config.input_lines


def _moved_lines(config: Config, length: int) -> int:
    return -(-length * config.tile.rows // config.tile.tokens)


def check(config: Config, word: int, channels: int = 1) -> Status:
    """What a channel, or a stack, says to a descriptor, before anything is read or written.

    The checks are made in the order of :class:`~logicpim.spec.isa.Status`; the first that fails
    is the answer. ``channels``: how many a stack is to give it to.
    """
    status = _check(config, word, channels)
    return Status.BAD_CHANNELS if status == Status.OK and not channels else status


def _check(config: Config, word: int, channels: int) -> Status:
    insn = Instruction.decode(word)
    if insn.opcode not in config.opcodes:
        return Status.BAD_OPCODE
    if word & ~allowed_mask(insn.opcode):
        return Status.BAD_RESERVED
    if insn.opcode == Opcode.FENCE:
        return Status.OK
    if insn.opcode == Opcode.GEMM:
        return _check_gemm(config, insn, channels)
    if insn.opcode in FUNCTION_OPCODES:
        return _check_function(config, insn)
    return _check_move(config, insn)


def _has_interleave(config: Config, insn: Instruction) -> bool:
    return 1 << insn.interleave <= config.dram.bundles


def _check_gemm(config: Config, insn: Instruction, channels: int) -> Status:
    if (insn.weight_format not in config.weight_formats
            or insn.input_format not in config.input_formats
            or insn.output_format not in config.output_formats
            or insn.scaled and not config.has_bytes
            or insn.scale_group and not insn.scaled
            or insn.transpose and not _can_transpose(config, insn)
            or insn.dealt and (insn.transpose or not config.stack)
            or insn.accumulate and insn.output_format != Format.FP32
            or not _has_interleave(config, insn)):
        return Status.BAD_FORMAT
    if 0 in (insn.m, insn.n, insn.k):
        return Status.ZERO_SIZE
    words = layout.weight_words(config, *stored(insn), insn.weight_format)
    if not layout.in_set(config, insn.address, words, insn.interleave):
        return Status.DRAM_RANGE
    operands = layout.operand_lines(config, insn.m, insn.k, insn.weight_format)
    if insn.dealt:
        operands = -(-insn.m // config.tile.tokens) * insn.dealt
        if layout.operand_lines(config, 1, insn.k, insn.weight_format) > channels * insn.dealt:
            return Status.SOURCE_RANGE
    scales = 0
    if insn.scaled:
        groups = layout.scale_groups(config, insn.k, insn.scale_group, insn.weight_format)
        scales = insn.scale_line + layout.scale_lines(config, insn.n, groups)
    if max(insn.source_line + operands, scales) > config.input_lines:
        return Status.SOURCE_RANGE
    results = layout.line_count(config, insn.m, insn.n, insn.output_format)
    if insn.result_line + results > config.temp_lines:
        return Status.RESULT_RANGE
    if insn.transpose and insn.n > config.transposed_columns:
        return Status.TOO_WIDE
    return Status.OK


def _can_transpose(config: Config, insn: Instruction) -> bool:
    return config.transposes and insn.weight_format not in BYTE_FORMATS and not insn.scaled


def stored(insn: Instruction) -> tuple[int, int]:
    """Rows and columns of the weight as it lies in DRAM."""
    return (insn.k, insn.n) if insn.transpose else (insn.n, insn.k)


def _check_move(config: Config, insn: Instruction) -> Status:
    if not _has_interleave(config, insn):
        return Status.BAD_FORMAT
    if insn.length == 0:
        return Status.ZERO_SIZE
    if not layout.in_set(config, insn.address, insn.length, insn.interleave):
        return Status.DRAM_RANGE
    lines, held = _moved_lines(config, insn.length), buffer_lines(config, insn.buffer)
    if insn.opcode == Opcode.STORE and insn.source_line + lines > held:
        return Status.SOURCE_RANGE
    if insn.opcode == Opcode.LOAD and insn.result_line + lines > held:
        return Status.RESULT_RANGE
    return Status.OK


def _check_function(config: Config, insn: Instruction) -> Status:
    if (insn.input_format not in config.output_formats
            or insn.output_format not in config.input_formats
            or insn.function not in set(Function)):
        return Status.BAD_FORMAT
    if 0 in (insn.m, insn.n) or insn.opcode == Opcode.SOFTMAX and insn.length == 0:
        return Status.ZERO_SIZE
    sources = layout.line_count(config, insn.m, insn.n, insn.input_format)
    last = max(insn.source_line, insn.second_line if insn.gated else 0)
    if last + sources > config.temp_lines:
        return Status.SOURCE_RANGE
    results = layout.line_count(config, insn.m, insn.n, insn.output_format)
    if insn.result_line + results > config.input_lines:
        return Status.RESULT_RANGE
    if insn.opcode == Opcode.SOFTMAX:
        exponent, fraction = insn.scale >> 23, insn.scale & (1 << 23) - 1
        if exponent >= 255 or exponent == 0 and fraction:
            return Status.BAD_SCALE
        if insn.length > insn.n or insn.causal and insn.length < insn.m:
            return Status.BAD_LENGTH
    return Status.OK
