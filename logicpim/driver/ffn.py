# SPDX-License-Identifier: BSD-2-Clause
"""A gated feed-forward network, ``W_down . (f(W_gate . x) * (W_up . x))``, in one program."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ..sim.model import layout
from ..spec.config import Config
from ..spec.errors import CapacityError
from ..spec.functions import Function
from ..spec.isa import FIELDS, Buffer, Format, Instruction, Opcode
from .kernel import Deal, Kernels
from .memory import Matrix
from .network import Ffn, Shape, results
from .stats import Stats

_LATENCY = 80
"""Clocks from the last beat of a block to the start of its activation, and from its last element
to its last result."""


@dataclass(frozen=True)
class FfnJob:
    """A network of patterns (uint16 [M, hidden])."""

    x_bits: np.ndarray
    ffn: Ffn


@dataclass(frozen=True)
class _Unit:
    """Some tokens of a job, and lines that they need: x and h in the input, gate, up and y in the
    temp buffer. ``panel`` columns of gate and up are there at a time: all, or half of what there is
    room for, so that some are activated while the next are made."""

    job: int
    first: int
    m: int
    panel: int
    x_lines: int
    input_lines: int
    temp_lines: int


def blocks(config: Config, inner: int, k: int, m: int) -> list[tuple[int, int]]:
    """Columns (first, number) of the blocks in which up, of depth ``k``, is made and activated.

    While a block streams the one before it is activated; what is left to do when the last one has
    streamed is in nobody's shadow. So the last one is a granule, and each before it as large as
    can be activated while its successor streams. Where that is nothing, all is one block.
    """
    unit, rows = config.granule_elements, config.tile.rows
    groups = -(-m // config.tile.tokens)
    sizes, left = [], inner
    size = inner % unit or unit
    while left > 0:
        sizes.append(min(size, left))
        left -= sizes[-1]
        # Clocks of this block's stream, and of the activation of a cell, gated.
        stream = -(-sizes[-1] // rows) * layout.granules_for(config, k) * 2 * groups
        cells = (stream - groups * _LATENCY) // (m * (rows + 1))
        size = cells * rows // unit * unit
        if size <= 0:
            sizes[-1] += left
            break
    ends = accumulate(sizes)
    return [(inner - end, size) for end, size in zip(ends, sizes, strict=True)][::-1]


class FfnKernels:
    """Runs networks on a device: no result but the last leaves it.

    Parameters
    ----------
    kernels : Kernels
    function : Function
    """

    def __init__(self, kernels: Kernels, function: Function = Function.SILU):
        self.kernels = kernels
        self.config = kernels.config
        self.function = function

    def run(self, jobs: Sequence[FfnJob], stats: Stats | None = None) -> list[np.ndarray]:
        """float32 [M, hidden] for each job; the channels' contributions are added in order."""
        stats = Stats() if stats is None else stats
        ys = [np.full((len(job.x_bits), job.ffn.down[0].n), -0.0, np.float32) for job in jobs]
        for unit, columns, y_bits in self._run(jobs, stats, down=True):
            with np.errstate(all="ignore"):  # infinities of two channels make a NaN or stay
                ys[unit.job][unit.first:unit.first + unit.m, columns] += y_bits.view(np.float32)
        for job in jobs:
            stats.add_gemm(len(job.x_bits), job.ffn.gate.k, job.ffn.gate.n, job.ffn.gate.format)
        return ys

    def inner(self, jobs: Sequence[FfnJob], stats: Stats | None = None) -> list[np.ndarray]:
        """FP16 patterns [M, inner] of what goes into down, for each job."""
        stats = Stats() if stats is None else stats
        hs = [np.empty((len(job.x_bits), job.ffn.gate.n), np.uint16) for job in jobs]
        for unit, columns, h_bits in self._run(jobs, stats, down=False):
            hs[unit.job][unit.first:unit.first + unit.m, columns] = h_bits
        return hs

    def _run(self, jobs, stats, *, down: bool) -> Iterator[tuple]:
        """(unit, columns, their patterns of y or of h), in the order of the channels."""
        for units in self._rounds(jobs):
            yield from self._run_round(units, jobs, stats, down)
        for job in jobs:
            for w in (job.ffn.gate, job.ffn.up):
                stats.add_gemm(len(job.x_bits), w.n, w.k, w.format)

    def _run_round(self, units, jobs, stats, down):
        config, device, program = self.config, self.kernels.device, []
        last, tokens, reads = {}, {}, {}
        line, temp = 0, 0
        for unit in units:
            ffn, x_bits = jobs[unit.job].ffn, jobs[unit.job].x_bits
            shape = Shape.of(config, ffn)
            packed = layout.pack_operands(config, x_bits[unit.first:unit.first + unit.m],
                                          ffn.gate.format)
            tokens[line] = shape.x.slices(config, packed)
            for index, on in enumerate(shape.sets):
                made, product, at = self._program(ffn, index, unit, line, temp, down)
                # A network's last activation runs while the next one's gate streams.
                program += [(fields, on) for fields in made + last.get(on, [])]
                last[on] = product
                for channel, columns, n in results(ffn, index, down):
                    reads.setdefault((unit, at, n), {})[channel] = columns
            line += unit.input_lines
            temp += unit.temp_lines
        program += [(fields, on) for on, product in last.items() for fields in product]
        channels = {channel for _, on in program for channel in on}
        for line, lines in tokens.items():
            device.write_buffers(Buffer.INPUT, line, {
                c: lines[min(c, len(lines) - 1)].reshape(-1) for c in channels})
        self.kernels.execute_sets([(Instruction(tag=tag & 0xFFFF, **fields), on)
                                   for tag, (fields, on) in enumerate(program)], stats)
        buffer, fmt = (Buffer.TEMP, Format.FP32) if down else (Buffer.INPUT, Format.FP16)
        for (unit, at, n), parts in reads.items():
            size = layout.line_count(config, unit.m, n, fmt) * config.line_bytes
            held = device.read_buffers(buffer, at, dict.fromkeys(parts, size))
            for channel, columns in parts.items():
                bits = layout.unpack_results(config, held[channel], unit.m, n, fmt)
                yield unit, columns, np.ascontiguousarray(bits[:, :columns.stop - columns.start])

    def _program(self, ffn: Ffn, index: int, unit: _Unit, line: int, temp: int, with_down: bool):
        """(fields of the instructions of a channel or a stack, those of the last product, line of
        results)."""
        config, shape = self.config, Shape.of(self.config, ffn, index)
        groups = -(-unit.m // config.tile.tokens)
        x, h_line = (shape.x, line), line + unit.x_lines
        wide = groups * layout.granules_for(config, unit.panel, Format.FP32)
        made, acts = [], []
        for at in range(0, shape.inner, unit.panel):
            columns = min(unit.panel, shape.inner - at)
            # By turns in the one half of the lines and in the other.
            gate_line = temp + at // unit.panel % 2 * 2 * wide
            made.append(self._gemm(ffn.gate, index, unit, at, columns, x, gate_line))
            made, acts, free = made + acts, [], gate_line + wide
            last = at + columns == shape.inner
            for first, n in blocks(config, columns, ffn.up.k, unit.m) if last else [(0, columns)]:
                made.append(self._gemm(ffn.up, index, unit, at + first, n, x, free))
                # What is before is activated while this one streams.
                made += acts
                skip = layout.granules_for(config, first, Format.FP32) if first else 0
                acts = self._activate(unit.m, n, (gate_line + skip, columns), free,
                                      (h_line + (at + first) // config.granule_elements,
                                       shape.h.lines))
                free += groups * layout.granules_for(config, n, Format.FP32)
        made += acts
        if not with_down:
            return made, [], h_line
        down = ffn.down[index]
        y_line = temp + unit.temp_lines - groups * self._y_lines(ffn)
        return made, [self._gemm(down, 0, unit, 0, down.pieces[0].rows, (shape.h, h_line),
                                 y_line)], y_line

    def _activate(self, m: int, n: int, gate: tuple[int, int], up: int, h: tuple[int, int]):
        """Fields of the activation of ``n`` columns, an instruction for each group of tokens.

        ``gate``: their line, and the columns that a group has there; ``up``: their line, where they
        are alone; ``h``: the line of the results, and the lines of a group there.
        """
        config, tokens = self.config, self.config.tile.tokens
        apart, alone = (layout.granules_for(config, width, Format.FP32) for width in (gate[1], n))
        return [{
            "opcode": Opcode.ACTIVATE, "function": self.function, "gated": 1,
            "input_format": Format.FP32, "m": min(tokens, m - first), "n": n,
            "source_line": gate[0] + g * apart, "second_line": up + g * alone,
            "result_line": h[0] + g * h[1],
        } for g, first in enumerate(range(0, m, tokens))]

    def _y_lines(self, ffn: Ffn) -> int:
        """Lines of a group's results."""
        return layout.granules_for(self.config, ffn.down[0].pieces[0].rows, Format.FP32)

    def _gemm(self, w: Matrix, index: int, unit: _Unit, first: int, n: int,
              source: tuple[Deal, int], result: int):
        """Rows ``first .. first + n`` of a piece of a matrix; operands as dealt, from a line on."""
        config, piece = self.config, w.pieces[index]
        skipped = first // config.tile.rows * layout.granules_for(config, w.k, w.format)
        address = layout.word_addresses(config, piece.address, skipped + 1, w.interleave)[-1]
        return {"opcode": Opcode.GEMM, "weight_format": w.format, "output_format": Format.FP32,
                "interleave": w.interleave, "m": unit.m, "n": n, "k": w.k, "dealt": source[0].dealt,
                "address": int(address), "source_line": source[1], "result_line": result}

    def _rounds(self, jobs) -> Iterator[list[_Unit]]:
        """Units of all jobs in order, as many to a round as fit the buffers."""
        chunk = []
        for unit in (u for i, job in enumerate(jobs) for u in self._units(i, job)):
            used = [sum(getattr(u, name) for u in (*chunk, unit))
                    for name in ("input_lines", "temp_lines")]
            if chunk and (used[0] > self.config.input_lines or used[1] > self.config.temp_lines):
                yield chunk
                chunk = []
            chunk.append(unit)
        if chunk:
            yield chunk

    def _units(self, index: int, job: FfnJob) -> Iterator[_Unit]:
        """A job cut into as many tokens as fit empty buffers.

        Are these fewer than a pass over the weights serves, gate and up are made in panels, and
        more fit.
        """
        config, ffn, shape = self.config, job.ffn, Shape.of(self.config, job.ffn)
        x, h, y = shape.x.lines, shape.h.lines, self._y_lines(ffn)
        wide = 2 * layout.granules_for(config, shape.inner, Format.FP32)
        limit = min(config.input_lines // (x + h),
                    ((1 << FIELDS["m"].width) - 1) // config.tile.tokens)
        whole = min(limit, config.temp_lines // (wide + y))
        resident = config.pass_tokens(ffn.gate.format) // config.tile.tokens
        most = whole - whole % resident if whole > resident else max(
            (g for g in range(whole + 1, min(limit, resident) + 1) if self._panel(g, y)),
            default=whole)
        if not most:
            raise CapacityError(
                f"a network of {ffn.gate.k} and {shape.inner} in a channel needs {x + h} lines of "
                f"the input and {self._least(shape.inner) + y} of the temp buffer, which have "
                f"{config.input_lines} and {config.temp_lines}: enlarge them "
                f"(input_buffer_bytes=..., temp_buffer_bytes=...) or take more channels "
                f"(channels=...)")
        step = most * config.tile.tokens
        for first in range(0, len(job.x_bits), step):
            m = min(step, len(job.x_bits) - first)
            groups = -(-m // config.tile.tokens)
            panel = shape.inner if groups <= whole else self._panel(groups, y)
            temp = wide if groups <= whole else 4 * layout.granules_for(config, panel, Format.FP32)
            yield _Unit(index, first, m, panel, groups * x, groups * (x + h), groups * (temp + y))

    def _panel(self, groups: int, y: int) -> int:
        """Columns of gate and of up for which there is room twice beside ``y`` lines a group."""
        config = self.config
        lines = (config.temp_lines - groups * y) // (4 * groups)
        columns = max(0, lines) * (config.granule_bytes // 4)
        return columns - columns % config.granule_elements

    def _least(self, inner: int) -> int:
        """Lines of a group that gate and up need at least."""
        every, two = (layout.granules_for(self.config, columns, Format.FP32)
                      for columns in (inner, self.config.granule_elements))
        return min(2 * every, 4 * two)
