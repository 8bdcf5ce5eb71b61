# SPDX-License-Identifier: BSD-2-Clause
"""The matrices of a gated feed-forward network, their place in DRAM and in the buffers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..sim.model import layout
from ..spec.config import Config
from ..spec.device import Device
from ..spec.isa import Format
from .kernel import Deal
from .memory import Matrix, Memory, load


@dataclass(frozen=True)
class Ffn:
    """Matrices of a network: gate and up [inner, hidden], down [hidden, inner].

    Rows of gate and up are dealt over the channels. ``down`` has the columns that belong to a
    channel's rows, a matrix for each, so that nothing passes from channel to channel until the end.
    In a stack it is one matrix, its rows dealt too, and each channel has what goes into whole words
    of it, which it shares. All have weights of one format.
    """

    gate: Matrix
    up: Matrix
    down: tuple[Matrix, ...]


def place(memory: Memory, hidden: int, inner: int, space: int, bundles: int = 1,
          fmt: Format = Format.FP16) -> Ffn:
    """Room for a network. Raises CapacityError if there is none."""
    unit = operand_unit(memory.config, fmt)
    gate, up = (memory.place(inner, hidden, space, bundles, fmt, unit) for _ in range(2))
    if memory.config.stack:
        return Ffn(gate, up, (memory.place(hidden, inner, space, bundles, fmt),))
    return Ffn(gate, up, tuple(memory.place_in(piece.channel, hidden, piece.rows, space, bundles,
                                               fmt) for piece in gate.pieces))


def operand_unit(config: Config, fmt: Format) -> int:
    """Rows of gate and up that come together, as :meth:`Memory.place` wants it: in a stack those
    that make a word of operands of down."""
    return config.stack * config.granule_bytes // layout.element_dtype(fmt).itemsize


def load_ffn(device: Device, ffn: Ffn, gate: np.ndarray, up: np.ndarray, down: np.ndarray) -> None:
    """Put the patterns of the matrices in place, by the back door."""
    load(device, ffn.gate, gate)
    load(device, ffn.up, up)
    if ffn.gate.spread:
        return load(device, ffn.down[0], down)
    for piece, part in zip(ffn.gate.pieces, ffn.down, strict=True):
        rows = slice(piece.first_row, piece.first_row + piece.rows)
        load(device, part, np.ascontiguousarray(down[:, rows]))


@dataclass(frozen=True)
class Shape:
    """How a network lies in the buffers of a channel, or in the slices of a stack.

    Attributes
    ----------
    x, h : Deal
        Operands of gate and up, and of down.
    inner : int
        Rows of gate.
    sets : tuple of tuple of int
        The channels of each program.
    """

    x: Deal
    h: Deal
    inner: int
    sets: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, config: Config, ffn: Ffn, index: int = 0) -> "Shape":
        """That of a channel, or of the stack."""
        gate, inner = ffn.gate, ffn.gate.pieces[index].rows
        words, mine = (layout.operand_granules(config, k, gate.format) for k in (gate.k, inner))
        if not gate.spread:
            return cls(Deal(words), Deal(mine), inner, tuple((p.channel,) for p in gate.pieces))
        x = Deal.over(config, words, max(len(gate.pieces), len(ffn.down[0].pieces)))
        every = layout.operand_granules(config, gate.n, gate.format)
        return cls(x, Deal(every, mine, x.channels), inner, (x.channels,))


def results(ffn: Ffn, index: int, down: bool) -> Iterator[tuple[int, slice, int]]:
    """(channel, columns of y or h, how many it has made) of what a program leaves."""
    mine = ffn.gate.pieces[index]
    if down and not ffn.gate.spread:
        yield mine.channel, slice(0, ffn.down[0].n), ffn.down[0].n
        return
    pieces = [mine] if not ffn.gate.spread else (ffn.down[0] if down else ffn.gate).pieces
    for piece in pieces:
        columns = slice(piece.first_row, piece.first_row + piece.rows)
        yield piece.channel, columns, pieces[0].rows
