# SPDX-License-Identifier: BSD-2-Clause
"""The reference device: executes instructions on numpy memory, functionally and bit for bit."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from logicpim.spec.config import Config
from logicpim.spec.device import Device, descriptors
from logicpim.spec.errors import CapacityError, LogicPimError
from logicpim.spec.isa import (
    FUNCTION_OPCODES,
    Buffer,
    Completion,
    Format,
    Instruction,
    Opcode,
    Status,
)

from . import layout
from .activation import activate
from .check import buffer_lines, check, stored
from .gemm import gemm
from .softmax import softmax


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

    def write_dram(self, data: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> None:
        for channel, (granules, each) in data.items():
            self.dram(channel).reshape(-1, self.config.granule_bytes)[granules] = each

    def execute(self, programs: Mapping[int, Sequence[Instruction | int]]
                ) -> dict[int, list[Completion]]:
        words = {}
        for channel, program in programs.items():
            self._require_channel(channel)
            words[channel] = descriptors(program)
        return {channel: [self._step([channel], word) for word in program]
                for channel, program in words.items()}

    def execute_stack(self, program: Sequence[tuple[Instruction | int, Collection[int]]]
                      ) -> list[Completion]:
        if not self.config.stack:
            return super().execute_stack(program)
        words, sets = self._stack_program(program)
        return [self._step(sorted(channels), word)
                for word, channels in zip(words, sets, strict=True)]

    def counters(self, channel: int) -> dict[str, int]:
        return {}

    def clear_counters(self) -> None:
        pass

    def close(self) -> None:
        self._dram.clear()
        self._buffers.clear()

    def _buffer(self, channel, buffer):
        """The whole buffer as a writable array [bytes]."""
        self._require_channel(channel)
        key = channel, Buffer(buffer)
        if key not in self._buffers:
            size = buffer_lines(self.config, key[1]) * self.config.line_bytes
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

    def _step(self, channels: Sequence[int], word: int) -> Completion:
        """One instruction on the channels of its set."""
        status, insn = check(self.config, word, len(channels)), Instruction.decode(word)
        if status == Status.OK and insn.opcode == Opcode.GEMM:
            x_bits = self._dealt(channels, insn) if insn.dealt else None
            for channel in channels:
                self._gemm(channel, insn, x_bits)
        elif status == Status.OK and insn.opcode in FUNCTION_OPCODES:
            for channel in channels:
                self._function(channel, insn)
        elif status == Status.OK and insn.opcode in (Opcode.LOAD, Opcode.STORE):
            for channel in channels:
                self._move(channel, insn)
        return Completion(insn.tag, status)

    def _dealt(self, channels, insn):
        """Operands (uint16 [M, K]) from the slices of the channels."""
        config = self.config
        words = layout.operand_granules(config, insn.k, insn.weight_format)
        groups = -(-insn.m // config.tile.tokens)
        start = insn.source_line * config.line_bytes
        size = groups * insn.dealt * config.line_bytes
        slices = [self._buffer(c, Buffer.INPUT)[start:start + size]
                  for c in channels[:-(-words // insn.dealt)]]
        return layout.unpack_operands(config, layout.gather(config, slices, words, insn.dealt),
                                      insn.m, insn.k, insn.weight_format)

    def _gemm(self, channel, insn, x_bits=None):
        """On a channel; operands are its own unless given."""
        config = self.config
        words = layout.weight_words(config, *stored(insn), insn.weight_format)
        weights = self._words(channel)[layout.word_addresses(
            config, insn.address, words, insn.interleave)].reshape(-1)
        results = self._buffer(channel, Buffer.TEMP)[insn.result_line * config.line_bytes:]
        fmt, scales, prior = insn.weight_format, None, None
        if x_bits is None:
            operands = self._buffer(channel, Buffer.INPUT)[insn.source_line * config.line_bytes:]
            x_bits = layout.unpack_operands(config, operands, insn.m, insn.k, fmt)
        if insn.accumulate:
            prior = layout.unpack_results(config, results, insn.m, insn.n, Format.FP32)
        if insn.scaled:
            held = self._buffer(channel, Buffer.INPUT)[insn.scale_line * config.line_bytes:]
            scales = layout.unpack_scales(config, held, insn.n, layout.scale_groups(
                config, insn.k, insn.scale_group, fmt))
        w_bits = layout.unpack_weights(config, weights, *stored(insn), fmt)
        y_bits = gemm(x_bits, w_bits.T if insn.transpose else w_bits,
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
