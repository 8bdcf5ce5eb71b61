# SPDX-License-Identifier: BSD-2-Clause
"""Keys and values of sequences in a device's DRAM, as kernels stream them and tokens are appended.

Keys of a head lie as a weight [tokens, head_dim]. Values lie as [tokens, columns] too, weights that
are reduced over their rows (``transpose``), in *panels* of ``config.transposed_columns`` columns: a
GEMM streams words one after the other, and has accumulators for no more columns. So a token is
whole granules, one in each word of its row block, and appending it writes these and reads nothing.

A head grows by *extents*: runs of words that hold some tokens each, K and behind it the panels of
V. Which tokens an extent holds depends on the form of the head alone: they double, so that a short
sequence takes little room and a long one has few instructions. A kernel takes one extent after the
other and adds their products, so no bit of a result depends on where they lie.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..sim.model import layout
from ..spec.config import Config
from ..spec.device import Device
from ..spec.errors import CapacityError
from ..spec.isa import Format
from .memory import Memory

IN_FLIGHT = 3
"""Pieces whose scores or weights lie in the buffers at once: one is scored, one normalised, one
multiplied with its values."""


class HeadForm:
    """How keys and values of a head lie.

    Parameters
    ----------
    config : Config
        One that can reduce over rows and has a softmax module.
    head_dim, value_dim : int

    Attributes
    ----------
    key_words : int
        Words of the keys of a row block, ``tile.rows`` tokens.
    panels : tuple of (first column, columns, words of a row block)
    words : int
        Of a row block, keys and values.
    piece : int
        Most tokens that a kernel takes at once; a longer context is cut at its multiples.
    """

    def __init__(self, config: Config, head_dim: int, value_dim: int):
        self.config, self.head_dim, self.value_dim = config, head_dim, value_dim
        self.key_words = layout.granules_for(config, head_dim)
        most = config.transposed_columns
        widths = [(at, min(most, value_dim - at)) for at in range(0, value_dim, most)]
        self.panels = tuple((at, wide, layout.granules_for(config, wide)) for at, wide in widths)
        self.words = self.key_words + sum(words for *_, words in self.panels)
        self.piece = self._piece()
        self._least = max(config.granule_elements, self.piece // 128)
        self._most = max(self._least, self.piece // 4)

    @property
    def query_lines(self) -> int:
        """Lines of one group of queries."""
        return layout.operand_lines(self.config, 1, self.head_dim)

    @property
    def result_lines(self) -> int:
        """Lines of the results of one group of queries."""
        return layout.line_count(self.config, 1, self.value_dim, Format.FP32)

    def _piece(self) -> int:
        """The largest power of two of which ``IN_FLIGHT`` fit the buffers beside one result."""
        config = self.config
        temp, inner = config.temp_lines - self.result_lines, config.input_lines - self.query_lines
        scores = temp // IN_FLIGHT * (config.granule_bytes // 4)
        weights = inner // IN_FLIGHT * config.granule_elements
        least = 4 * config.granule_elements
        if min(scores, weights) < least:
            raise CapacityError(
                f"the buffers of {config.name} do not hold the scores of {least} tokens beside a "
                f"head of {self.head_dim} and {self.value_dim} elements: enlarge them "
                f"(input_buffer_bytes=..., temp_buffer_bytes=...)")
        return 1 << min(scores, weights).bit_length() - 1

    def extents(self, tokens: int) -> list[tuple[int, int]]:
        """(first token, tokens) of the extents that so many tokens take."""
        found, first = [], 0
        while first < tokens:
            size = min(max(first, self._least), self._most)
            found.append((first, size))
            first += size
        return found

    def extent_words(self, tokens: int) -> int:
        """Words of an extent."""
        return tokens // self.config.tile.rows * self.words


class Run:
    """Free words of a set of bundles, counted as they are dealt; first fit, neighbours joined."""

    def __init__(self, start: int, end: int):
        self._free = [(start, end)] if start < end else []

    @property
    def free(self) -> int:
        """Words that are free."""
        return sum(end - start for start, end in self._free)

    def take(self, words: int) -> int | None:
        """First of so many words in a row; None if there are none."""
        for i, (start, end) in enumerate(self._free):
            if end - start >= words:
                self._free[i:i + 1] = [(start + words, end)] if end - start > words else []
                return start
        return None

    def give(self, start: int, words: int) -> None:
        """Take words back."""
        joined = []
        for a, b in sorted([*self._free, (start, start + words)]):
            if joined and joined[-1][1] == a:
                a = joined.pop()[0]
            joined.append((a, b))
        self._free = joined


@dataclass(frozen=True)
class Extent:
    """Tokens ``first .. first + tokens`` of a head, from word ``start`` of its set on."""

    first: int
    tokens: int
    start: int


@dataclass
class Head:
    """A head of a sequence in one layer: its channel, the first space of its set, its extents."""

    form: HeadForm
    channel: int
    space: int
    bundles: int
    extents: list[Extent] = field(default_factory=list)

    def address(self, word: int | np.ndarray):
        """The bundle word that is number ``word`` of the set as words are dealt."""
        org = self.form.config.dram
        chunk, column = np.divmod(word, org.columns)
        row, inner = np.divmod(chunk, self.bundles)
        return ((self.space + inner) * org.rows + row) * org.columns + column

    def keys(self, extent: Extent) -> int:
        """Word where the keys of an extent begin."""
        return extent.start

    def values(self, extent: Extent) -> list[int]:
        """Words where its panels begin."""
        blocks = extent.tokens // self.form.config.tile.rows
        words = [self.form.key_words, *(w for *_, w in self.form.panels)]
        return [extent.start + blocks * sum(words[:i + 1]) for i in range(len(self.form.panels))]

    def parts(self, extent: Extent, k: np.ndarray, v: np.ndarray):
        """(first word, words of a row block, columns) of the keys and of each panel."""
        yield self.keys(extent), self.form.key_words, k
        for start, (at, wide, words) in zip(self.values(extent), self.form.panels, strict=True):
            yield start, words, v[:, at:at + wide]

    def granules(self, token: int, k_bits: np.ndarray, v_bits: np.ndarray
                 ) -> tuple[np.ndarray, np.ndarray]:
        """Granule addresses [n] and bytes [n, granule_bytes] of a token: FP16 patterns [head_dim],
        [value_dim]."""
        config, rows = self.form.config, self.form.config.tile.rows
        extent = next(e for e in reversed(self.extents) if e.first <= token)
        block, lane = divmod(token - extent.first, rows)
        words, data = [], []
        for start, wide, bits in self.parts(extent, k_bits[None], v_bits[None]):
            words.append(start + block * wide + np.arange(wide))
            data.append(np.zeros(wide * config.granule_elements, np.uint16))
            data[-1][:bits.size] = bits
        return (self.address(np.concatenate(words)) * rows + lane,
                np.concatenate(data).astype("<u2").view(np.uint8).reshape(-1, config.granule_bytes))


class KvCache:
    """Extents of sequences in the DRAM of a device, given out and taken back.

    Heads of a layer take the channels in turn, those of the next sequence go on behind them, and
    the next layer begins with other channels and the next set of bundles. Of several sets the last
    is left to the xPU, for the sequences in prefill.

    Parameters
    ----------
    config : Config
    memory : Memory
        What lies in the DRAM already; the cache takes the rest.
    bundles : int
        Memory spaces that the words of an extent are dealt over.
    """

    def __init__(self, config: Config, memory: Memory, bundles: int = 1):
        self.config, self.bundles = config, bundles
        dram = config.dram
        self._sets = max(1, dram.bundles // bundles - 1)
        self._runs = {
            (channel, space): Run(memory.first_row(channel, space, bundles) * bundles
                                  * dram.columns, bundles * dram.words_per_bundle)
            for channel in range(self.config.channels)
            for space in range(0, self._sets * bundles, bundles)}

    @property
    def free_bytes(self) -> int:
        """What is free in all channels."""
        return sum(run.free for run in self._runs.values()) * self.config.word_bytes

    def heads(self, form: HeadForm, count: int, number: int, layer: int, layers: int) -> list[Head]:
        """Heads of layer ``layer`` of a sequence, empty; ``number`` counts sequences."""
        channels, found = self.config.channels, []
        for head in range(count):
            turn, unit = divmod(number * count + head, channels)
            apart = layer * max(count * layers, channels) // layers
            found.append(Head(form, (unit + apart) % channels,
                              (turn + layer) % self._sets * self.bundles, self.bundles))
        return found

    def grow(self, heads: Iterable[Head], tokens: int) -> None:
        """Room for so many tokens in each. Raises CapacityError without effect if there is none."""
        taken = []
        for head in heads:
            run = self._runs[head.channel, head.space]
            for first, size in head.form.extents(tokens)[len(head.extents):]:
                words = head.form.extent_words(size)
                start = run.take(words)
                if start is None:
                    error = CapacityError(self._full(head, size, words))
                    for other in taken:
                        self._shrink(other)
                    raise error
                head.extents.append(Extent(first, size, start))
                taken.append(head)

    def release(self, heads: Iterable[Head]) -> None:
        """Take back all extents of heads."""
        for head in heads:
            while head.extents:
                self._shrink(head)

    def _shrink(self, head):
        extent = head.extents.pop()
        self._runs[head.channel, head.space].give(extent.start,
                                                  head.form.extent_words(extent.tokens))

    def _full(self, head, tokens, words):
        size = self.config.word_bytes
        free = self._runs[head.channel, head.space].free * size
        return (f"the KV cache is full: {tokens} more tokens of a head need {words * size:,} bytes "
                f"in a row in channel {head.channel}, of which {free:,} are free: take fewer or "
                f"shorter sequences, more channels (channels=...) or a larger DRAM (dram.rows=...)")


def append(device: Device, rows: Iterable[tuple[Head, int, np.ndarray, np.ndarray]]) -> None:
    """Write tokens by the host port, whole granules only.

    Each is (head, token, FP16 patterns [head_dim], [value_dim]); there must be room.
    """
    writes: dict[int, list] = {}
    for head, token, k_bits, v_bits in rows:
        writes.setdefault(head.channel, []).append(head.granules(token, k_bits, v_bits))
    device.write_dram({c: tuple(map(np.concatenate, zip(*parts, strict=True)))
                       for c, parts in writes.items()})


def load(device: Device, head: Head, k_bits: np.ndarray, v_bits: np.ndarray) -> None:
    """Put tokens 0 on, patterns [tokens, head_dim] and [tokens, value_dim], in place by the back
    door; there must be room."""
    config = device.config
    dram = device.dram(head.channel).reshape(-1, config.word_bytes)
    for extent in head.extents:
        end = extent.first + extent.tokens
        rows = [np.ascontiguousarray(bits[extent.first:end]) for bits in (k_bits, v_bits)]
        if not len(rows[0]):
            return
        for start, _, bits in head.parts(extent, *rows):
            data = layout.pack_weights(config, bits).reshape(-1, config.word_bytes)
            dram[head.address(start + np.arange(len(data)))] = data
