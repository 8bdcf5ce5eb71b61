# SPDX-License-Identifier: BSD-2-Clause
"""What lies in which memory space: experts, the xPU's weights, KV cache, what prefill is at.

Experts are dealt one by one over the spaces, as :func:`~.experts.place_experts` does, and where
there are several stacks a round of the spaces goes to each in turn. The KV cache takes all spaces
in turn but the last, which is for the sequences in prefill: their keys and values, and evenly over
its channels the queries of a layer. After prefill keys and values move over once. The xPU's weights
lie evenly over all.

A key/value head of a sequence in a layer lies in one space of one channel, in blocks of whole DRAM
rows: a block holds some tokens of it, K [tokens, head_dim] and behind it V [tokens, value_dim], in
the forms of :mod:`~.kv_cache`. The heads of a layer take all channels in turn; the next layer
begins with other channels and the next space, so that few sequences fill all spaces too.
"""

from dataclasses import dataclass

import numpy as np

from ..llm.kinds import ModelConfig
from ..llm.tensors import matrix_shape, parameters
from ..sim.model import layout
from ..spec.config import Config
from ..spec.errors import CapacityError

Move = tuple[tuple[int, int], int, tuple[int, int], int]
"""Channel and space, DRAM row, and both again of where a block goes."""


class Blocks:
    """Sizes of the KV cache's blocks.

    Attributes
    ----------
    layers, heads : int
        Layers of the decoder, and key/value heads of one.
    tokens : int
        Tokens that a block holds.
    rows : int
        DRAM rows of a block.
    value_row : int
        Row of a block where V begins.
    """

    def __init__(self, config: Config, model: ModelConfig):
        attention, columns = model.blocks[-1].attention, config.dram.columns
        self.layers, self.heads = model.layers - model.encoder, attention.kv_heads

        def rows(granules):
            return -(-self.tokens // config.tile.rows * granules // columns)

        wide = layout.granules_for(config, attention.head_dim)
        # The fewest DRAM rows that tokens fill to nine tenths, or what they fill best.
        fill = {r: r * columns // wide * wide / (r * columns) for r in range(1, 17)}
        best = next((r for r, full in fill.items() if full >= 0.9), max(fill, key=fill.get))
        self.tokens = best * columns // wide * config.tile.rows
        if not self.tokens:
            raise CapacityError(f"a head of {attention.head_dim} elements is too wide for the DRAM "
                                f"rows of {config.name}")
        self.value_row = rows(wide)
        # With latent attention values are the first part of the keys, and lie once more all the
        # same: scores and their products with the values want other forms.
        most = config.transposed_columns
        self.rows = self.value_row + rows(sum(
            layout.granules_for(config, min(most, attention.value_dim - at))
            for at in range(0, attention.value_dim, most)))

    def count(self, tokens: int) -> int:
        """Blocks of one head for so many tokens."""
        return -(-tokens // self.tokens)


@dataclass
class Sequence:
    """A sequence in the cache.

    Parameters
    ----------
    number : int
        By which its heads find their channels and spaces.
    tokens : int
    prefill : bool
    blocks : dict
        By (layer, head) the first DRAM rows of its blocks.
    """

    number: int
    tokens: int
    prefill: bool
    blocks: dict[tuple[int, int], list[int]]


class KvSpaces:
    """Blocks of sequences, given out and taken back.

    Parameters
    ----------
    config : Config
    model : ModelConfig
    used : array of int [channels, spaces] or None
        Words that other things take in each space, from its beginning.
    channels : int or None
        Of all stacks together; None for those of the configuration.
    """

    def __init__(self, config: Config, model: ModelConfig, used: np.ndarray | None = None,
                 channels: int | None = None):
        self.config, self.blocks = config, Blocks(config, model)
        self.channels = channels or config.channels
        shape = (self.channels, config.dram.bundles)
        used = np.zeros(shape, np.int64) if used is None else used
        self._next = -(-used // config.dram.columns)
        self._free: dict[tuple[int, int], list[int]] = {}
        self._count = 0

    @property
    def prefill_space(self) -> int:
        """The space of sequences in prefill."""
        return self.config.dram.bundles - 1

    def pool(self, number, layer, head, prefill: bool):
        """Channel and space of a head in a layer of a sequence; numbers or arrays of them."""
        turn, unit = divmod(number * self.blocks.heads + head, self.channels)
        heads, layers = self.blocks.heads, self.blocks.layers
        apart = layer * max(heads * layers, self.channels) // layers
        channel = (unit + apart) % self.channels
        space = self.prefill_space if prefill else (turn + layer) % max(1, self.prefill_space)
        return channel, space + 0 * channel

    def room(self) -> np.ndarray:
        """Blocks that are free, [channels, spaces]."""
        room = np.maximum(self.config.dram.rows - self._next, 0) // self.blocks.rows
        for pool, free in self._free.items():
            room[pool] += len(free)
        return room

    def admit(self, tokens: int) -> Sequence:
        """A sequence that begins its prefill. Raises CapacityError without effect if it cannot."""
        sequence = self._make(self._count, tokens, prefill=True)
        self._count += 1
        return sequence

    def migrate(self, sequence: Sequence) -> list[Move]:
        """Moves a sequence out of prefill; which block goes where.

        Raises CapacityError without effect where there is no room.
        """
        made = self._make(sequence.number, sequence.tokens, prefill=False)
        moves = [(self.pool(sequence.number, *at, True), a, self.pool(made.number, *at, False), b)
                 for at in made.blocks
                 for a, b in zip(sequence.blocks[at], made.blocks[at], strict=True)]
        self.release(sequence)
        sequence.blocks, sequence.prefill = made.blocks, False
        return moves

    def append(self, sequence: Sequence, tokens: int = 1) -> None:
        """Room for more tokens. Raises CapacityError without effect if there is none."""
        more = self.blocks.count(sequence.tokens + tokens) - self.blocks.count(sequence.tokens)
        if more:
            for at, new in self._take(sequence.number, more, sequence.prefill).items():
                sequence.blocks[at] += new
        sequence.tokens += tokens

    def release(self, sequence: Sequence) -> None:
        """Takes the blocks of a sequence back."""
        for at, blocks in sequence.blocks.items():
            pool = self.pool(sequence.number, *at, sequence.prefill)
            self._free.setdefault(pool, []).extend(blocks)
        sequence.blocks = {}

    def _make(self, number, tokens, prefill):
        return Sequence(number, tokens, prefill,
                        self._take(number, self.blocks.count(tokens), prefill))

    def _take(self, number, count, prefill):
        """``count`` blocks for each head in each layer, or none at all."""
        room, got = self.room(), {}
        units = list(np.ndindex(self.blocks.layers, self.blocks.heads))
        for at in units:
            pool = self.pool(number, *at, prefill)
            room[pool] -= count
            if room[pool] < 0:
                raise CapacityError(
                    f"space {pool[1]} of channel {pool[0]} has no room for {count} blocks of "
                    f"{self.blocks.tokens} tokens of KV cache: release a sequence, or take fewer "
                    f"sequences, a shorter context or more stacks")
        for at in units:
            pool = self.pool(number, *at, prefill)
            free = self._free.setdefault(pool, [])
            blocks = [free.pop() for _ in range(min(count, len(free)))]
            new = count - len(blocks)
            blocks += range(self._next[pool], self._next[pool] + new * self.blocks.rows,
                            self.blocks.rows)
            self._next[pool] += new * self.blocks.rows
            got[at] = [int(row) for row in blocks]
        return got


def expert_words(config: Config, model: ModelConfig, stacks: int = 1) -> np.ndarray:
    """Words [channels, spaces] of all experts, each matrix's rows dealt over a stack's channels."""
    channels, spaces = config.channels, config.dram.bundles
    words = np.zeros((stacks, channels, spaces), np.int64)
    if not model.expert:
        return words.reshape(-1, spaces)
    one = np.zeros(channels, np.int64)
    for name in model.expert.matrices:
        n, k = matrix_shape(model.expert, model.hidden_size, name)
        blocks, more = divmod(-(-n // config.tile.rows), channels)
        one += (blocks + (np.arange(channels) < more)) * layout.granules_for(config, k)
    layer, expert = np.ix_(np.arange(len(model.expert_layers)), np.arange(model.experts))
    stack = (layer * -(-model.experts // spaces) + expert // spaces) % stacks
    count = np.zeros((stacks, spaces), np.int64)
    np.add.at(count, (stack, expert % spaces + 0 * stack), 1)
    return (one[:, None] * count[:, None]).reshape(-1, spaces)


def account(config: Config, model: ModelConfig, *, stacks: int = 1, sequences: int = 0,
            context: int = 0, prefills: int = 0, lin: int = 0) -> dict[str, np.ndarray]:
    """Bytes [channels, spaces] of what a model and its sequences take, by kind.

    Parameters
    ----------
    stacks : int
        Stacks of ``config.channels`` channels each.
    sequences, context : int
        Sequences that decode, and the tokens of each.
    prefills, lin : int
        Sequences in prefill, and the tokens of each. An encoder has read so many tokens for every
        sequence: their keys and values are kept for attention over it, in blocks of their own.

    Returns
    -------
    dict
        ``experts``, ``xPU weights``, ``KV cache``, ``prefill`` and ``free``.

    Raises CapacityError, in one line with what would be needed, where they do not fit.
    """
    channels, dram = config.channels * stacks, config.dram
    blocks = Blocks(config, model)
    words = {"experts": expert_words(config, model, stacks)}
    counts = parameters(model)
    dense = -(-2 * (counts.total - counts.experts) // config.word_bytes)
    each, more = divmod(dense, channels * dram.bundles)
    spread = each + (np.arange(channels * dram.bundles) < more)
    words["xPU weights"] = spread.reshape(dram.bundles, channels).T
    spaces = KvSpaces(config, model, channels=channels)
    read = blocks.count(lin) if model.encoder else 0
    for kind, count, each in (
            ("KV cache", sequences, blocks.count(context) + read),
            ("prefill", prefills, blocks.count(1) + read if read else blocks.count(lin))):
        words[kind] = np.zeros((channels, dram.bundles), np.int64)
        at = np.ix_(np.arange(count), np.arange(blocks.layers), np.arange(blocks.heads))
        pools = spaces.pool(*at, kind == "prefill")
        np.add.at(words[kind], pools, each * blocks.rows * dram.columns)
    attention = model.blocks[-1].attention
    queries = 2 * prefills * lin * attention.heads * attention.head_dim
    words["prefill"][:, spaces.prefill_space] += -(-queries // (config.word_bytes * channels))
    # The cache's blocks begin with a DRAM row.
    fixed = words["experts"] + words["xPU weights"]
    total = -(-fixed // dram.columns) * dram.columns + words["KV cache"] + words["prefill"]
    worst = np.unravel_index(total.argmax(), total.shape)
    if total[worst] > dram.words_per_bundle:
        parts = ", ".join(f"{what} {int(w[worst]) * config.word_bytes:,}"
                          for what, w in words.items() if w[worst])
        raise CapacityError(
            f"space {worst[1]} of channel {worst[0]} would hold "
            f"{int(total[worst]) * config.word_bytes:,} bytes ({parts}), it has "
            f"{dram.words_per_bundle * config.word_bytes:,}: take more stacks, fewer sequences or "
            f"a shorter context")
    words["free"] = dram.words_per_bundle - total
    return {what: w * config.word_bytes for what, w in words.items()}
