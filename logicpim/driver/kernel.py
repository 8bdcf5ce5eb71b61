# SPDX-License-Identifier: BSD-2-Clause
"""Matrix products of any size on a device: cut to fit its buffers, run in few programs."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..sim.model import layout
from ..spec.config import Config
from ..spec.device import Device
from ..spec.errors import CapacityError, LogicPimError
from ..spec.isa import FIELDS, Buffer, Format, Instruction, Opcode, Status
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
    """An instruction for each channel: tokens ``first .. first + m`` of a job, a part of a matrix.

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
    for. In a stack one instruction is for all channels, and operands are dealt over their slices of
    the input buffer.

    Parameters
    ----------
    device : Device
    """

    def __init__(self, device: Device):
        self.device = device
        self.config = device.config
        self._seen = device.all_counters(range(self.config.channels))

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
        config, program, reads = self.config, [], {}
        images = np.zeros((config.channels, chunk.input_lines, config.line_bytes), np.uint8)
        for at, (job, first, m) in chunk.operands.items():
            packed = layout.pack_operands(config, jobs[job].x_bits[first:first + m],
                                          jobs[job].weights)
            _put(images, at, Deal.of(config, jobs[job]).slices(config, packed))
        for unit, source, scale_line, line in chunk.units:
            job = jobs[unit.job]
            w, deal = job.matrices[unit.matrix], Deal.of(config, job)
            y = results[unit.job][unit.matrix][unit.first:unit.first + unit.m]
            first = unit.block * config.tile.rows
            for piece in w.pieces:
                mine = min(unit.blocks * config.tile.rows, piece.rows - first)
                if mine <= 0:
                    continue
                # One instruction is for all channels of a stack: they all have as many rows.
                n = min(unit.blocks * config.tile.rows, w.pieces[0].rows - first
                        ) if w.spread else mine
                row = piece.first_row + first
                if w.groups:
                    scales = layout.pack_scales(config, w.scales[row:row + mine])
                    _put(images[piece.channel, None], scale_line, scales)
                reads.setdefault(piece.channel, []).append((line, n, y[:, row:row + mine]))
                if w.spread and piece.channel:
                    continue
                skipped = unit.block * layout.granules_for(config, w.k, w.format)
                address = int(layout.word_addresses(config, piece.address, skipped + 1,
                                                    w.interleave)[-1])
                program.append((Instruction(
                    Opcode.GEMM, tag=len(program) & 0xFFFF, weight_format=w.format,
                    input_format=job.inputs, output_format=output, m=unit.m, n=n,
                    k=w.k, address=address, interleave=w.interleave, source_line=source,
                    dealt=deal.dealt, result_line=line, scaled=int(bool(w.groups)),
                    scale_line=scale_line, scale_group=w.scale_group,
                    transpose=int(w.transposed)), deal.channels or {piece.channel}))
        used = {channel for _, on in program for channel in on}
        self.device.write_buffers(Buffer.INPUT, 0, {c: images[c].reshape(-1) for c in used})
        self.execute_sets(program, stats)
        self._read(reads, output)

    def execute_sets(self, program: Sequence[tuple[Instruction, Collection[int]]], stats: Stats
                     ) -> None:
        """As :meth:`execute`, of instructions with the channels that each is for."""
        if self.config.stack:
            self._check(program, self.device.execute_stack(program))
            self._count({channel for _, on in program for channel in on}, stats)
            return
        programs: dict[int, list[Instruction]] = {}
        for instruction, on in program:
            for channel in on:
                programs.setdefault(channel, []).append(instruction)
        self.execute(programs, stats)

    def execute(self, programs: dict[int, list[Instruction]], stats: Stats) -> None:
        """Run a program per channel and count what it cost; every instruction has to end well."""
        done = self.device.execute(programs)
        for channel, program in programs.items():
            self._check([(instruction, [channel]) for instruction in program], done[channel])
        self._count(programs, stats)

    def _check(self, program, done):
        for (instruction, on), completion in zip(program, done, strict=True):
            if completion.status != Status.OK or completion.tag != instruction.tag:
                raise LogicPimError(f"channel {', '.join(map(str, on))}, {instruction}: "
                                    f"{Status(completion.status).reason}")

    def _count(self, channels, stats):
        """Count a program by what the counters of its channels gained."""
        gained = []
        for channel, now in self.device.all_counters(channels).items():
            before = self._seen[channel]
            gained.append({name: value - before[name] for name, value in now.items()})
            self._seen[channel] = now
        stats.add_program(gained)

    def _read(self, reads, output):
        """Fill arrays from the first columns of the results that begin at a line, by channel."""
        config = self.config
        sizes = {c: max(line + layout.line_count(config, len(part), n, output)
                        for line, n, part in parts) * config.line_bytes
                 for c, parts in reads.items()}
        held = self.device.read_buffers(Buffer.TEMP, 0, sizes)
        for channel, parts in reads.items():
            for line, n, part in parts:
                y = layout.unpack_results(config, held[channel][line * config.line_bytes:],
                                          len(part), n, output)
                part[:] = y[:, :part.shape[1]]


@dataclass(frozen=True)
class Deal:
    """How the operands of a job are dealt over channels of a stack: ``dealt`` of the ``words``
    lines of each group to each of ``channels``. Else ``dealt`` is 0, and each channel has all."""

    words: int
    dealt: int = 0
    channels: tuple[int, ...] = ()

    @classmethod
    def over(cls, config: Config, words: int, rows: int) -> "Deal":
        """Over the ``rows`` channels that have rows, or all if that is too much for a slice."""
        count = rows if 2 * -(-words // rows) <= config.input_lines else config.channels
        return cls(words, -(-words // count), tuple(range(count)))

    @classmethod
    def of(cls, config: Config, job: Job) -> "Deal":
        words = layout.operand_granules(config, job.x_bits.shape[1], job.weights)
        if not job.matrices[0].spread:
            return cls(words)
        return cls.over(config, words, max(len(w.pieces) for w in job.matrices))

    @property
    def lines(self) -> int:
        """Lines of a group in a channel."""
        return self.dealt or self.words

    def slices(self, config: Config, lines: np.ndarray) -> np.ndarray:
        """Packed operands as lines [channels or 1, groups * lines, line bytes]."""
        if not self.dealt:
            return lines.reshape(1, -1, config.line_bytes)
        return layout.deal(config, lines, self.words, self.dealt, len(self.channels))


def _put(images, line, data):
    """Bytes from the start of a line of images [channels, lines, bytes] on; one for all, or each
    for its own."""
    data = data.reshape(len(data) if data.ndim == 3 else 1, -1)
    images = images if len(data) == 1 else images[:len(data)]
    start = line * images.shape[2]
    images.reshape(len(images), -1)[:, start:start + data.shape[1]] = data


def check_reduction(config: Config, k: int, weights: Format = Format.FP16, groups: int = 0,
                    spread: bool = False) -> None:
    """Raise CapacityError where one group of operands of length K overflows the input buffer.

    So it does with the scales of one row block, ``groups`` a row. ``spread``: the operands are
    dealt over the slices of a stack.
    """
    words = layout.operand_granules(config, k, weights)
    words = -(-words // config.channels) if spread else words
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
        deal = Deal.of(config, jobs[unit.job])
        key = id(x_bits), unit.first, unit.m, deal
        lines = -(-unit.m // config.tile.tokens) * deal.lines
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
    deal = Deal.of(config, job)
    check_reduction(config, k, job.weights, scales, bool(deal.dealt))
    words = deal.lines
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
