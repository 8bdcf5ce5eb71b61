# SPDX-License-Identifier: BSD-2-Clause
"""The reference device: executes instructions on numpy memory, functionally and bit for bit."""

from collections.abc import Mapping, Sequence

import numpy as np

from logicpim.spec.config import Config
from logicpim.spec.device import Device
from logicpim.spec.errors import CapacityError, LogicPimError
from logicpim.spec.functions import Function
from logicpim.spec.isa import (
    BYTE_FORMATS,
    FUNCTION_OPCODES,
    INSTRUCTION_BITS,
    Buffer,
    Completion,
    Format,
    Instruction,
    Opcode,
    Status,
    allowed_mask,
)

from . import layout
from .activation import activate
from .gemm import gemm
from .softmax import softmax


def _buffer_lines(config: Config, buffer: Buffer) -> int:
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
    words = layout.weight_words(config, *_stored(insn), insn.weight_format)
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


def _stored(insn: Instruction) -> tuple[int, int]:
    """Rows and columns of the weight as it lies in DRAM."""
    return (insn.k, insn.n) if insn.transpose else (insn.n, insn.k)


def _check_move(config: Config, insn: Instruction) -> Status:
    if not _has_interleave(config, insn):
        return Status.BAD_FORMAT
    if insn.length == 0:
        return Status.ZERO_SIZE
    if not layout.in_set(config, insn.address, insn.length, insn.interleave):
        return Status.DRAM_RANGE
    lines, held = _moved_lines(config, insn.length), _buffer_lines(config, insn.buffer)
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


class ReferenceDevice(Device):
    """Channels in numpy memory: the functional reference every other backend must equal.

    DRAM is zero at first and takes memory of the host only where it has been touched.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config):
        self.config = config
        self._dram: dict[int, np.ndarray] = {}
        self._buffers: dict[tuple[int, Buffer], np.ndarray] = {}

    def dram(self, channel: int) -> np.ndarray:
        self._require_channel(channel)
        if channel not in self._dram:
            self._dram[channel] = np.zeros(self.config.capacity_bytes, np.uint8)
        return self._dram[channel]

    def write_buffer(self, channel: int, buffer: Buffer, line: int, data: np.ndarray) -> None:
        if data.dtype != np.uint8:
            raise TypeError(f"buffers take bytes (uint8), not {data.dtype}")
        self._host_range(channel, buffer, line, data.size)[:] = data.reshape(-1)

    def read_buffer(self, channel: int, buffer: Buffer, line: int, size: int) -> np.ndarray:
        return self._host_range(channel, buffer, line, size).copy()

    def execute(self, programs: Mapping[int, Sequence[Instruction | int]]
                ) -> dict[int, list[Completion]]:
        words = {}
        for channel, program in programs.items():
            self._require_channel(channel)
            words[channel] = [insn.encode() if isinstance(insn, Instruction) else int(insn)
                              for insn in program]
            if any(not 0 <= word < 1 << INSTRUCTION_BITS for word in words[channel]):
                raise LogicPimError(f"a raw instruction is not a number of {INSTRUCTION_BITS} bits")
        return {channel: [self._step(channel, word) for word in program]
                for channel, program in words.items()}

    def counters(self, channel: int) -> dict[str, int]:
        return {}

    def clear_counters(self) -> None:
        pass

    def close(self) -> None:
        self._dram.clear()
        self._buffers.clear()

    def _require_channel(self, channel):
        if not 0 <= channel < self.config.channels:
            raise LogicPimError(f"channel {channel} does not exist: {self.config.name} has "
                                f"{self.config.channels}, counted from 0")

    def _buffer(self, channel, buffer):
        """The whole buffer as a writable array [bytes]."""
        self._require_channel(channel)
        key = channel, Buffer(buffer)
        if key not in self._buffers:
            size = _buffer_lines(self.config, key[1]) * self.config.line_bytes
            self._buffers[key] = np.zeros(size, np.uint8)
        return self._buffers[key]

    def _host_range(self, channel, buffer, line, size):
        memory = self._buffer(channel, buffer)
        start = line * self.config.line_bytes
        if size % self.config.granule_bytes:
            raise LogicPimError(f"{size} bytes are not whole granules of "
                                f"{self.config.granule_bytes} bytes")
        if line < 0 or size < 0 or start + size > memory.size:
            raise CapacityError(f"{size} bytes from line {line} do not fit the "
                                f"{Buffer(buffer).name.lower()} buffer of {memory.size} bytes")
        return memory[start:start + size]

    def _step(self, channel: int, word: int) -> Completion:
        status, insn = check(self.config, word), Instruction.decode(word)
        if status == Status.OK and insn.opcode == Opcode.GEMM:
            self._gemm(channel, insn)
        elif status == Status.OK and insn.opcode in FUNCTION_OPCODES:
            self._function(channel, insn)
        elif status == Status.OK and insn.opcode in (Opcode.LOAD, Opcode.STORE):
            self._move(channel, insn)
        return Completion(insn.tag, status)

    def _gemm(self, channel, insn):
        config = self.config
        words = layout.weight_words(config, *_stored(insn), insn.weight_format)
        weights = self._words(channel)[layout.word_addresses(
            config, insn.address, words, insn.interleave)].reshape(-1)
        operands = self._buffer(channel, Buffer.INPUT)[insn.source_line * config.line_bytes:]
        results = self._buffer(channel, Buffer.TEMP)[insn.result_line * config.line_bytes:]
        fmt, scales, prior = insn.weight_format, None, None
        if insn.accumulate:
            prior = layout.unpack_results(config, results, insn.m, insn.n, Format.FP32)
        if insn.scaled:
            held = self._buffer(channel, Buffer.INPUT)[insn.scale_line * config.line_bytes:]
            scales = layout.unpack_scales(config, held, insn.n, layout.scale_groups(
                config, insn.k, insn.scale_group, fmt))
        w_bits = layout.unpack_weights(config, weights, *_stored(insn), fmt)
        y_bits = gemm(layout.unpack_operands(config, operands, insn.m, insn.k, fmt),
                      w_bits.T if insn.transpose else w_bits,
                      config.tile.depth, insn.output_format, inputs=insn.input_format, weights=fmt,
                      scales=scales, prior=prior,
                      scale_group=layout.scale_elements(config, insn.scale_group, fmt))
        self._write(channel, Buffer.TEMP, insn, y_bits)

    def _function(self, channel, insn):
        config = self.config
        formats = {"input_format": insn.input_format, "output_format": insn.output_format}
        held = self._buffer(channel, Buffer.TEMP)

        def source(line):
            return layout.unpack_results(config, held[line * config.line_bytes:], insn.m, insn.n,
                                         insn.input_format)

        if insn.opcode == Opcode.ACTIVATE:
            up = source(insn.second_line) if insn.gated else None
            y_bits = activate(insn.function, source(insn.source_line), up, **formats)
        else:
            first = insn.length - insn.causal * (insn.m - 1)
            y_bits = softmax(source(insn.source_line), length=first, causal=bool(insn.causal),
                             scale=float(np.uint32(insn.scale).view(np.float32)), **formats)
        self._write(channel, Buffer.INPUT, insn, y_bits)

    def _write(self, channel, buffer, insn, y_bits):
        """Results in whole cells from the instruction's result line on."""
        packed = layout.pack_results(self.config, y_bits, insn.output_format)
        mask = layout.result_mask(self.config, insn.m, insn.n, insn.output_format)
        lines = self._buffer(channel, buffer)[insn.result_line * self.config.line_bytes:]
        np.copyto(lines[:packed.size], packed, where=mask)

    def _move(self, channel, insn):
        config, load = self.config, insn.opcode == Opcode.LOAD
        at = layout.word_addresses(config, insn.address, insn.length, insn.interleave)
        start = (insn.result_line if load else insn.source_line) * config.line_bytes
        held = self._buffer(channel, insn.buffer)[start:start + len(at) * config.word_bytes]
        words = held.reshape(len(at), config.word_bytes)
        if load:
            words[:] = self._words(channel)[at]
        else:
            self._words(channel)[at] = words

    def _words(self, channel):
        """The channel's DRAM by bundle word [words, bytes]."""
        return self.dram(channel).reshape(-1, self.config.word_bytes)
