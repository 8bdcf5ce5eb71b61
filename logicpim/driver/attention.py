# SPDX-License-Identifier: BSD-2-Clause
"""Decode attention, ``softmax(scale * Q . K^T) . V`` for each head of keys and values."""

from dataclasses import dataclass

import numpy as np

from ..sim.model import layout
from ..spec.errors import CapacityError
from ..spec.isa import Buffer, Format, Instruction, Opcode
from .kernel import Kernels
from .memory import Matrix, Memory
from .stats import Stats

_IN_FLIGHT = 3
"""Heads whose scores or weights lie in the buffers at once: one is scored, one normalised, one
multiplied with its values."""


@dataclass(frozen=True)
class Head:
    """Keys [context, size] and values, transposed [size, context], in one channel."""

    keys: Matrix
    values: Matrix

    @property
    def channel(self) -> int:
        """Where both lie."""
        return self.keys.pieces[0].channel


def place(memory: Memory, heads: int, context: int, size: int, bundles: int) -> list[Head]:
    """Room for a cache in memory spaces 0 on; channels take the heads in turn."""
    channels = memory.config.channels
    return [Head(memory.place_in(h % channels, context, size, 0, bundles),
                 memory.place_in(h % channels, size, context, 0, bundles)) for h in range(heads)]


class AttentionKernel:
    """Runs a decode step's attention: a program a channel, nothing done by the host between.

    While the softmax of one head runs, the scores of the next but one stream and the head
    before is multiplied with its values.

    Parameters
    ----------
    kernels : Kernels
    """

    def __init__(self, kernels: Kernels):
        self.kernels = kernels
        self.config = kernels.config

    def run(self, heads: list[Head], queries: np.ndarray, scale: float, stats: Stats | None = None
            ) -> np.ndarray:
        """float32 [heads, group, size] of FP16 patterns ``queries`` of that shape."""
        config, device = self.config, self.kernels.device
        stats = Stats() if stats is None else stats
        _, group, size = queries.shape
        context = heads[0].keys.n
        own = {}
        for h, head in enumerate(heads):
            own.setdefault(head.channel, []).append(h)
        q_lines = layout.operand_lines(config, group, size)
        y_lines = layout.line_count(config, group, size, Format.FP32)
        most = max(map(len, own.values()))
        self._check(most * q_lines + _IN_FLIGHT * layout.operand_lines(config, group, context),
                    most * y_lines + _IN_FLIGHT * layout.line_count(config, group, context,
                                                                    Format.FP32))
        programs = {}
        for channel, mine in own.items():
            data = np.concatenate([layout.pack_operands(config, queries[h]) for h in mine])
            device.write_buffer(channel, Buffer.INPUT, 0, data)
            steps = [self._steps(heads[h], i, len(mine), group, scale)
                     for i, h in enumerate(mine)]
            programs[channel] = [Instruction(tag=tag & 0xFFFF, **fields)
                                 for tag, fields in enumerate(_order(steps))]
        self.kernels.execute(programs, stats)
        y = np.empty(queries.shape, np.float32)
        for channel, mine in own.items():
            data = device.read_buffer(channel, Buffer.TEMP, 0,
                                      len(mine) * y_lines * config.line_bytes)
            for i, h in enumerate(mine):
                bits = layout.unpack_results(config, data[i * y_lines * config.line_bytes:],
                                             group, size, Format.FP32)
                y[h] = np.ascontiguousarray(bits).view(np.float32)
                stats.add_gemm(group, context, size)
                stats.add_gemm(group, size, context)
        return y

    def _steps(self, head: Head, index: int, count: int, group: int, scale: float):
        """Fields of a head's three instructions; ``index`` of the ``count`` of its channel."""
        config, (context, size) = self.config, (head.keys.n, head.keys.k)
        place = index % _IN_FLIGHT
        q_lines = layout.operand_lines(config, group, size)
        y_lines = layout.line_count(config, group, size, Format.FP32)
        scores = count * y_lines + place * layout.line_count(config, group, context, Format.FP32)
        weights = count * q_lines + place * layout.operand_lines(config, group, context)
        gemm = {"opcode": Opcode.GEMM, "m": group, "output_format": Format.FP32}
        return (
            {**gemm, "n": context, "k": size, "source_line": index * q_lines,
             "result_line": scores, **_weight(head.keys)},
            {"opcode": Opcode.SOFTMAX, "m": group, "n": context, "length": context,
             "scale": int(np.float32(scale).view(np.uint32)), "input_format": Format.FP32,
             "source_line": scores, "result_line": weights},
            {**gemm, "n": size, "k": context, "source_line": weights,
             "result_line": index * y_lines, **_weight(head.values)})

    def _check(self, input_lines: int, temp_lines: int) -> None:
        config = self.config
        if input_lines > config.input_lines or temp_lines > config.temp_lines:
            raise CapacityError(
                f"attention needs {input_lines} lines of the input and {temp_lines} of the temp "
                f"buffer, which have {config.input_lines} and {config.temp_lines}: enlarge them "
                f"(input_buffer_bytes=..., temp_buffer_bytes=...) or shorten the context")


def _weight(matrix: Matrix) -> dict:
    return {"address": matrix.pieces[0].address, "interleave": matrix.interleave,
            "weight_format": matrix.format}


def _order(steps: list[tuple]) -> list[dict]:
    """Scores two heads ahead of the values, the softmax between."""
    program = [*steps[0][:2], *(scores for scores, *_ in steps[1:2])]
    for i, (*_, values) in enumerate(steps):
        program += [scores for scores, *_ in steps[i + 2:i + 3]]
        program += [softmax for _, softmax, _ in steps[i + 1:i + 2]]
        program.append(values)
    return program
