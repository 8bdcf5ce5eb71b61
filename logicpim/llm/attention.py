# SPDX-License-Identifier: BSD-2-Clause
"""Attention in numpy float32, and the cache of keys and values that it works on."""

from collections.abc import Sequence

import numpy as np

from ..spec.errors import CapacityError
from .calls import AttendCall
from .kinds import Attention, ModelConfig
from .ops import softmax


class KvCache:
    """Keys and values of the tokens so far, one pair of arrays for each block of the decoder.

    ``keys[i]`` is [capacity, kv_heads, head_dim] and ``values[i]`` [capacity, kv_heads,
    value_dim], float32; with latent attention the values are the first part of the keys.
    ``cross[i]`` are keys and values of the encoder's result.
    """

    def __init__(self, config: ModelConfig, capacity: int):
        self.length, self.capacity = 0, capacity
        self.cross: list[tuple[np.ndarray, np.ndarray]] = []
        self.keys, self.values = [], []
        for block in config.blocks[config.encoder:]:
            a = block.attention
            keys = np.zeros((capacity, a.kv_heads, a.head_dim), np.float32)
            self.keys.append(keys)
            self.values.append(keys[..., :a.value_dim] if a.latent else
                               np.zeros((capacity, a.kv_heads, a.value_dim), np.float32))

    def extended(self, index: int, a: Attention, k: np.ndarray, v: np.ndarray
                 ) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of block ``index`` so far, with those of a pass behind the rest.

        ``length`` stays: a pass counts when all blocks have had it, and until then may be had
        again.
        """
        past, end = self.length, self.length + len(k)
        self.keys[index][past:end] = k
        if not a.latent:
            self.values[index][past:end] = v
        return self.keys[index][:end], self.values[index][:end]


def attend(a: Attention, q: np.ndarray, keys: np.ndarray, values: np.ndarray,
           bias: np.ndarray | None = None, sinks: np.ndarray | None = None) -> np.ndarray:
    """Attention of queries [T, heads, head_dim] over keys and values [context, kv_heads, ...].

    ``bias`` is added to the scores, [T, context] or [heads, T, context], minus infinity where a
    query does not see a key; ``sinks`` [heads] are scores without a value. Returns
    [T, heads, value_dim].
    """
    tokens, context = len(q), len(keys)
    q = q.reshape(tokens, a.kv_heads, a.group, a.head_dim).transpose(1, 2, 0, 3)
    scores = q @ keys.transpose(1, 2, 0)[:, None] * np.float32(a.scale)  # kv, group, T, context
    if bias is not None:
        heads = bias if bias.ndim == 2 else bias.reshape(a.kv_heads, a.group, tokens, context)
        scores = scores + heads
    if sinks is not None:
        column = np.broadcast_to(sinks.reshape(a.kv_heads, a.group, 1, 1), (*scores.shape[:3], 1))
        scores = np.concatenate((scores, column), axis=-1)
    p = softmax(scores)[..., :context]
    mixed = p @ values.transpose(1, 0, 2)[:, None]                       # kv, group, T, dim
    return mixed.transpose(2, 0, 1, 3).reshape(tokens, a.heads, a.value_dim)


class NumpyAttention:
    """Callable as :data:`~logicpim.llm.calls.Attends`: attention of every kind in plain float32.

    Each call is worked on by itself, so that no bit depends on what it stands beside.

    Parameters
    ----------
    config : ModelConfig
    room : int or None
        Tokens that all caches together may hold; None for any number.

    Attributes
    ----------
    phase : str
        What is going on, for statistics.
    """

    phase = ""

    def __init__(self, config: ModelConfig, room: int | None = None):
        self.config, self.room, self._used = config, room, 0

    def pieces(self, a: Attention, tokens: int, past: int) -> int:
        """Whether a pass of so many tokens behind ``past`` attends on Logic-PIM: in how many pieces
        of the context, which the xPU merges; 0 on the xPU, as here."""
        return 0

    def cache(self, capacity: int) -> KvCache:
        """An empty cache for so many tokens of a sequence. Raises CapacityError if they are too
        many."""
        if self.room is not None and self._used + capacity > self.room:
            raise CapacityError(f"{capacity} tokens do not fit the KV cache, which has room for "
                                f"{self.room} of which {self.room - self._used} are free: ask for "
                                f"fewer, or take more channels")
        self._used += capacity
        return KvCache(self.config, capacity)

    def release(self, cache: KvCache) -> None:
        """Take back a cache, which is not used any more."""
        self._used -= cache.capacity

    def __call__(self, calls: Sequence[AttendCall]) -> list[np.ndarray]:
        return [self._one(call) for call in calls]

    def _one(self, call):
        a, k, v = call.attention, call.k, call.v
        if call.cross:
            k, v = call.cache.cross[call.layer - self.config.encoder]
        elif call.cache is not None:
            k, v = call.cache.extended(call.layer - self.config.encoder, a, k, v)
        return attend(a, call.q, k, v, call.bias, call.sinks)
