# SPDX-License-Identifier: BSD-2-Clause
"""Matrix products of any size on a device: cut to fit its buffers, run in few programs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..sim.model import layout
from ..spec.config import Config
from ..spec.device import Device
from ..spec.errors import CapacityError, LogicPimError
from ..spec.isa import BYTE_FORMATS, FIELDS, Buffer, Format, Instruction, Opcode, Status
from .memory import Matrix
from .stats import Stats


@dataclass(frozen=True)
class Job:
    """``Y = X . W^T`` for some matrices W of one format and one X of patterns (uint16 [M, K])."""

    x_bits: np.ndarray
    matrices: tuple[Matrix, ...]
    inputs: Format = Format.FP16

    @property
    def weights(self) -> Format:
        """The format of the matrices."""
        fmt, = {w.format for w in self.matrices}
        return fmt


@dataclass(frozen=True)
class _Unit:
    """One instruction per channel: tokens ``first .. first + m`` of a job, a part of a matrix.

    The part is row blocks ``block .. block + blocks`` of each channel's piece.
    """

    job: int
    matrix: int
    first: int
    m: int
    block: int
    blocks: int
    lines: int
    scale_lines: int = 0


@dataclass
class _Round:
    """Units that fit the buffers together: one program.

    ``operands`` are (job, first token, tokens) by the line where they begin. Units come with their
    operand line, the line of their scales and their result line.
    """

    operands: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    lines: dict[tuple, int] = field(default_factory=dict)
    units: list[tuple[_Unit, int, int, int]] = field(default_factory=list)
    input_lines: int = 0
    temp_lines: int = 0


class Kernels:
    """Runs jobs on a device.

    Operands of a product are written once for all the matrices and jobs that share them, scales of
    weights for every product; as many instructions go into one program as the buffers have room
    for.

    Parameters
    ----------
    device : Device
    """

    def __init__(self, device: Device):
        self.device = device
        self.config = device.config
        self._seen = {c: device.counters(c) for c in range(self.config.channels)}

    def run(self, jobs: Sequence[Job], output: Format = Format.FP32, stats: Stats | None = None
            ) -> list[list[np.ndarray]]:
        """Patterns of Y (uint32 or uint16 [M, N]) for each job and each of its matrices."""
        stats = Stats() if stats is None else stats
        dtype = layout.element_dtype(output)
        results = [[np.empty((len(job.x_bits), w.n), dtype) for w in job.matrices] for job in jobs]
        for chunk in _rounds(self.config, jobs, output):
            self._run_round(chunk, jobs, output, results, stats)
        for job in jobs:
            for w in job.matrices:
                stats.add_gemm(len(job.x_bits), w.n, w.k, w.format)
        return results

    def _run_round(self, chunk, jobs, output, results, stats):
        config, programs, reads = self.config, {}, {}
        operands = np.zeros((chunk.input_lines, config.line_bytes), np.uint8)
        for at, (job, first, m) in chunk.operands.items():
            _put(operands, at, layout.pack_operands(config, jobs[job].x_bits[first:first + m],
                                                    jobs[job].weights))
        images = {}
        for unit, source, scale_line, line in chunk.units:
            w = jobs[unit.job].matrices[unit.matrix]
            y = results[unit.job][unit.matrix][unit.first:unit.first + unit.m]
            for piece in w.pieces:
                first = unit.block * config.tile.rows
                n = min(unit.blocks * config.tile.rows, piece.rows - first)
                if n <= 0:
                    continue
                program = programs.setdefault(piece.channel, [])
                skipped = unit.block * layout.granules_for(config, w.k, w.format)
                address = int(layout.word_addresses(config, piece.address, skipped + 1,
                                                    w.interleave)[-1])
                program.append(Instruction(
                    Opcode.GEMM, tag=len(program) & 0xFFFF, weight_format=w.format,
                    input_format=jobs[unit.job].inputs, output_format=output, m=unit.m, n=n,
                    k=w.k, address=address, interleave=w.interleave, source_line=source,
                    result_line=line, scaled=int(bool(w.groups)), scale_line=scale_line,
                    scale_group=w.scale_group, transpose=int(w.transposed)))
                row = piece.first_row + first
                image = images.setdefault(piece.channel, operands.copy() if any(
                    v.groups for job in jobs for v in job.matrices) else operands)
                if w.groups:
                    _put(image, scale_line, layout.pack_scales(config, w.scales[row:row + n]))
                reads.setdefault(piece.channel, []).append((line, y[:, row:row + n]))
        for channel in programs:
            self.device.write_buffer(channel, Buffer.INPUT, 0, images[channel])
        self.execute(programs, stats)
        for channel, parts in reads.items():
            self._read(channel, parts, output)

    def execute(self, programs: dict[int, list[Instruction]], stats: Stats) -> None:
        """Run a program per channel and count what it cost; every instruction has to end well."""
        done = self.device.execute(programs)
        for channel, program in programs.items():
            for instruction, completion in zip(program, done[channel], strict=True):
                if completion.status != Status.OK or completion.tag != instruction.tag:
                    raise LogicPimError(f"channel {channel}, {instruction}: "
                                        f"{Status(completion.status).reason}")
        gained = []
        for channel in programs:
            now, before = self.device.counters(channel), self._seen[channel]
            gained.append({name: value - before[name] for name, value in now.items()})
            self._seen[channel] = now
        stats.add_program(gained)

    def _read(self, channel, parts, output):
        """Fill arrays from the lines where their results begin, in one go."""
        ends = [line + layout.line_count(self.config, *part.shape, output) for line, part in parts]
        data = self.device.read_buffer(channel, Buffer.TEMP, 0, max(ends) * self.config.line_bytes)
        for line, part in parts:
            part[:] = layout.unpack_results(self.config, data[line * self.config.line_bytes:],
                                            *part.shape, output)


def _put(image, line, data):
    """Bytes from the start of a line of an image of lines on."""
    image.reshape(-1)[line * image.shape[1]:][:data.size] = data


def check_reduction(config: Config, k: int, weights: Format = Format.FP16, groups: int = 0) -> None:
    """Raise CapacityError where one group of operands of length K overflows the input buffer.

    So it does with the scales of one row block, ``groups`` a row.
    """
    words = layout.operand_granules(config, k, weights)
    scales = layout.scale_lines(config, 1, groups)
    if words + scales > config.input_lines:
        more = f" and {scales} of scales" if scales else ""
        raise CapacityError(f"K = {k} needs {words} operand lines{more}, the input buffer has "
                            f"{config.input_lines}: enlarge it (input_buffer_bytes=...)")


def _rounds(config: Config, jobs: Sequence[Job], output: Format) -> Iterator[_Round]:
    """Units of all jobs in order, as many to a round as fit."""
    chunk = _Round()
    for unit in (u for i, job in enumerate(jobs) for u in _units(config, i, job, output)):
        x_bits = jobs[unit.job].x_bits
        weights = jobs[unit.job].weights
        key = id(x_bits), unit.first, unit.m, weights in BYTE_FORMATS
        lines = layout.operand_lines(config, unit.m, x_bits.shape[1], weights)
        more = (0 if key in chunk.lines else lines) + unit.scale_lines
        if chunk.units and (chunk.input_lines + more > config.input_lines
                            or chunk.temp_lines + unit.lines > config.temp_lines):
            yield chunk
            chunk = _Round()
        if key not in chunk.lines:
            chunk.operands[chunk.input_lines] = unit.job, unit.first, unit.m
            chunk.lines[key] = chunk.input_lines
            chunk.input_lines += lines
        chunk.units.append((unit, chunk.lines[key], chunk.input_lines, chunk.temp_lines))
        chunk.input_lines += unit.scale_lines
        chunk.temp_lines += unit.lines
    if chunk.units:
        yield chunk


def _units(config: Config, index: int, job: Job, output: Format) -> Iterator[_Unit]:
    """One job cut into units, each of which fits empty buffers."""
    tile, (total, k) = config.tile, job.x_bits.shape
    scales = max(w.groups for w in job.matrices)
    check_reduction(config, k, job.weights, scales)
    words = layout.operand_granules(config, k, job.weights)
    blocks = [-(-max(p.rows for p in w.pieces) // tile.rows) for w in job.matrices]
    per_line = config.granule_bytes // layout.element_dtype(output).itemsize
    most_blocks = config.temp_lines * per_line // tile.rows
    if scales:
        # Half of the buffer is for scales, unless that is too little or too much.
        room = min(config.input_lines - words, max(config.input_lines // 2,
                                                   layout.scale_lines(config, 1, scales)))
        most_blocks = min(most_blocks, room * config.line_bytes // (4 * tile.rows * scales))
    widest = min(max(blocks), most_blocks) * tile.rows
    room = config.input_lines - layout.scale_lines(config, widest, scales)
    groups = min(room // words, config.temp_lines // -(-widest // per_line))
    groups = min(groups, ((1 << FIELDS["m"].width) - 1) // tile.tokens)
    resident = config.pass_tokens(job.weights) // tile.tokens
    if groups > resident:
        groups -= groups % resident
    for first in range(0, total, groups * tile.tokens):
        m = min(groups * tile.tokens, total - first)
        for matrix, count in enumerate(blocks):
            for block in range(0, count, most_blocks):
                part = min(most_blocks, count - block)
                rows = min(part * tile.rows, max(p.rows for p in job.matrices[matrix].pieces))
                yield _Unit(index, matrix, first, m, block, part,
                            layout.line_count(config, m, rows, output),
                            layout.scale_lines(config, rows, job.matrices[matrix].groups))
