# SPDX-License-Identifier: BSD-2-Clause
"""Decode attention, ``softmax(scale * Q . K^T) . V``, over a :mod:`~.kv_cache`.

A context longer than a form's ``piece`` is cut into pieces, each with a softmax of its own. The xPU
puts their results y_i together by what their scores s_i sum to, in float64 and in the order of the
context::

    l_i = log sum exp(scale * s_i),   y = sum exp(l_i - l) y_i / sum exp(l_i - l),   l = max l_i

A sink, a score without a value, is one more piece: l_i is the score and y_i is 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..sim.model import layout
from ..spec.config import Config
from ..spec.errors import CapacityError
from ..spec.isa import Buffer, Format, Instruction, Opcode
from .kernel import Kernels
from .kv_cache import IN_FLIGHT, Head
from .stats import Stats


@dataclass(frozen=True)
class Request:
    """Queries, FP16 patterns [group, head_dim], over the first ``tokens`` tokens of a head.

    ``sinks`` (float [group]) are scores, already scaled, that take their share and have no value.
    """

    head: Head
    tokens: int
    q_bits: np.ndarray
    scale: float
    sinks: np.ndarray | None = None

    @property
    def merged(self) -> bool:
        """Whether the xPU puts results together, for which it reads the scores."""
        return self.sinks is not None or self.tokens > self.head.form.piece


@dataclass(frozen=True)
class _Piece:
    """A group of queries, ``rows`` of request ``number``, over ``tokens`` tokens from ``first``."""

    number: int
    request: Request
    rows: slice
    first: int
    tokens: int

    @property
    def queries(self) -> np.ndarray:
        """Their patterns."""
        return self.request.q_bits[self.rows]


def pieces(requests: Sequence[Request]) -> Iterator[_Piece]:
    """All pieces of all requests, in order."""
    for number, request in enumerate(requests):
        form, group = request.head.form, request.head.form.config.tile.tokens
        for first in range(0, request.tokens, form.piece):
            for at in range(0, len(request.q_bits), group):
                yield _Piece(number, request, slice(at, at + group), first,
                             min(form.piece, request.tokens - first))


class _Places:
    """Lines of both buffers that pieces take as one program.

    The input buffer holds their queries and behind them the weights of those in flight, the temp
    buffer their results and behind them scores: of those in flight, or of all if the xPU reads
    them.
    """

    def __init__(self, config: Config, pieces: Sequence[_Piece]):
        forms = [piece.request.head.form for piece in pieces]
        longest = max(piece.tokens for piece in pieces)
        self._in_flight = min(IN_FLIGHT, len(pieces))
        self.merged = any(piece.request.merged for piece in pieces)
        self._apart = len(pieces) if self.merged else self._in_flight
        *self.queries, self._weights = np.cumsum([0, *(f.query_lines for f in forms)]).tolist()
        *self.results, self.result_lines = np.cumsum([0, *(f.result_lines for f in forms)]).tolist()
        self._weight_lines = layout.operand_lines(config, 1, longest)
        self._score_lines = layout.line_count(config, 1, longest, Format.FP32)
        self.input_lines = self._weights + self._in_flight * self._weight_lines
        self.temp_lines = self.result_lines + self._apart * self._score_lines

    def fit(self, config: Config) -> bool:
        """Whether the buffers have so many lines."""
        return self.input_lines <= config.input_lines and self.temp_lines <= config.temp_lines

    def weights(self, index: int) -> int:
        """First line of a piece's weights."""
        return self._weights + index % self._in_flight * self._weight_lines

    def scores(self, index: int) -> int:
        """First line of a piece's scores."""
        return self.result_lines + index % self._apart * self._score_lines


class Program:
    """Pieces of one channel that fit its buffers together, as one program.

    Scores of one piece, softmax of another and values of a third are under way at once.

    Parameters
    ----------
    config : Config
    pieces : list of _Piece
        Not empty.

    Attributes
    ----------
    instructions : list of Instruction
    operands : uint8 array
        What the input buffer must hold, from its first line on.
    lines : int
        Of the temp buffer, from the first on, that hold what is to be read.
    """

    def __init__(self, config: Config, pieces: Sequence[_Piece]):
        self.config, self.pieces = config, pieces
        self._places = places = _Places(config, pieces)
        self.operands = np.concatenate(
            [layout.pack_operands(config, piece.queries) for piece in pieces])
        self.instructions = [Instruction(tag=tag & 0xFFFF, **fields) for tag, fields in
                             enumerate(_order([self._steps(i) for i in range(len(pieces))]))]
        self.lines = places.temp_lines if places.merged else places.result_lines

    def _steps(self, index: int):
        """Fields of a piece's instructions: the scores, the softmax, the values."""
        config, piece = self.config, self.pieces[index]
        head, m = piece.request.head, len(piece.queries)
        query, result = self._places.queries[index], self._places.results[index]
        weights, scores = self._places.weights(index), self._places.scores(index)
        gemm = {"opcode": Opcode.GEMM, "m": m, "output_format": Format.FP32,
                "interleave": head.bundles.bit_length() - 1}
        score_jobs, value_jobs = [], []
        for extent in head.extents:
            at = extent.first - piece.first
            tokens = min(extent.tokens, piece.tokens - at)
            if at < 0 or tokens <= 0:
                continue
            score_jobs.append({
                **gemm, "n": tokens, "k": head.form.head_dim, "source_line": query,
                "address": int(head.address(head.keys(extent))),
                "result_line": scores + 4 * at // config.granule_bytes})
            value_jobs += [{
                **gemm, "n": wide, "k": tokens, "transpose": 1, "accumulate": int(at > 0),
                "source_line": weights + at // config.granule_elements,
                "address": int(head.address(start)),
                "result_line": result + 4 * column // config.granule_bytes,
            } for start, (column, wide, _) in zip(head.values(extent), head.form.panels,
                                                  strict=True)]
        softmax = {"opcode": Opcode.SOFTMAX, "m": m, "n": piece.tokens, "length": piece.tokens,
                   "scale": int(np.float32(piece.request.scale).view(np.uint32)),
                   "input_format": Format.FP32, "source_line": scores, "result_line": weights}
        return score_jobs, [softmax], value_jobs

    def results(self, data: np.ndarray) -> Iterator[tuple[_Piece, np.ndarray, np.ndarray | None]]:
        """Each piece with its results, float32 [m, value_dim], and its scores if it is merged,
        float32 [m, tokens], from the bytes of ``lines`` lines of the temp buffer."""
        config = self.config

        def floats(line, m, n):
            bits = layout.unpack_results(config, data[line * config.line_bytes:], m, n, Format.FP32)
            return np.ascontiguousarray(bits).view(np.float32)

        for i, piece in enumerate(self.pieces):
            m, scores = len(piece.queries), None
            if piece.request.merged:
                scores = floats(self._places.scores(i), m, piece.tokens)
            yield (piece, floats(self._places.results[i], m, piece.request.head.form.value_dim),
                   scores)


def programs(config: Config, requests: Sequence[Request]) -> Iterator[Program]:
    """Programs of one channel, as many pieces to each as fit."""
    chunk: list[_Piece] = []
    for piece in pieces(requests):
        if chunk and not _Places(config, [*chunk, piece]).fit(config):
            yield Program(config, chunk)
            chunk = []
        chunk.append(piece)
    if chunk:
        yield Program(config, chunk)


class AttentionKernel:
    """Runs requests of any lengths: programs of all channels at once, nothing done by the host
    between the instructions of one.

    Parameters
    ----------
    kernels : Kernels
    """

    def __init__(self, kernels: Kernels):
        self.kernels = kernels
        self.config = kernels.config

    def run(self, requests: Sequence[Request], stats: Stats | None = None) -> list[np.ndarray]:
        """float32 [group, value_dim] of each request."""
        config, device = self.config, self.kernels.device
        stats = Stats() if stats is None else stats
        own: dict[int, list[int]] = {}
        for number, request in enumerate(requests):
            self._check(request)
            own.setdefault(request.head.channel, []).append(number)
        parts: list[list] = [[] for _ in requests]
        waiting = {channel: programs(config, [requests[i] for i in mine])
                   for channel, mine in own.items()}
        while now := {c: program for c, coming in waiting.items()
                      if (program := next(coming, None)) is not None}:
            device.write_buffers(Buffer.INPUT, 0, {c: p.operands for c, p in now.items()})
            self.kernels.execute({c: p.instructions for c, p in now.items()}, stats)
            held = device.read_buffers(Buffer.TEMP, 0, {
                c: p.lines * config.line_bytes for c, p in now.items()})
            for channel, program in now.items():
                for piece, *found in program.results(held[channel]):
                    parts[own[channel][piece.number]].append((piece, *found))
        for request in requests:
            form, group = request.head.form, len(request.q_bits)
            stats.add_gemm(group, request.tokens, form.head_dim)
            stats.add_gemm(group, form.value_dim, request.tokens)
        return [merge(request, found) for request, found in zip(requests, parts, strict=True)]

    def _check(self, request: Request) -> None:
        room = sum(extent.tokens for extent in request.head.extents)
        if not 1 <= request.tokens <= room:
            raise CapacityError(f"a context of {request.tokens} tokens: from 1 to the {room} that "
                                f"the cache has room for")


def merge(request: Request, found: list) -> np.ndarray:
    """The result of a request from its pieces, (piece, results, scores) each."""
    group = request.head.form.config.tile.tokens
    blocks = [[part for part in found if part[0].rows.start == at]
              for at in range(0, len(request.q_bits), group)]
    if not request.merged:
        return np.concatenate([y for (_, y, _), in blocks])
    return np.concatenate([_merged(request, block) for block in blocks])


def _merged(request: Request, block: list) -> np.ndarray:
    scale = np.float64(np.float32(request.scale))
    logs = np.array([_log_sum(scores.astype(np.float64) * scale) for _, _, scores in block])
    sinks = np.full(logs.shape[1], -np.inf)
    if request.sinks is not None:
        sinks = request.sinks[block[0][0].rows].astype(np.float64)
    top = np.maximum(logs.max(axis=0), sinks)
    shares = np.exp(logs - top)
    total = np.zeros(logs.shape[1]) + np.exp(sinks - top)
    y = np.zeros(block[0][1].shape)
    for share, (_, part, _) in zip(shares, block, strict=True):  # in the order of the context
        y += share[:, None] * part
        total += share
    return (y / total[:, None]).astype(np.float32)


def _log_sum(scores: np.ndarray) -> np.ndarray:
    """log of the sum of exp along rows."""
    top = scores.max(axis=1)
    return top + np.log(np.exp(scores - top[:, None]).sum(axis=1))


def _order(steps: list[tuple]) -> list[dict]:
    """Scores two pieces ahead of the values, the softmax between."""
    program = [*steps[0][0], *steps[0][1], *(job for jobs, *_ in steps[1:2] for job in jobs)]
    for i, (*_, values) in enumerate(steps):
        program += [job for jobs, *_ in steps[i + 2:i + 3] for job in jobs]
        program += [job for _, jobs, _ in steps[i + 1:i + 2] for job in jobs]
        program += values
    return program
