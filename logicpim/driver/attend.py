# SPDX-License-Identifier: BSD-2-Clause
"""Attention of decode steps on Logic-PIM, keys and values in its DRAM; prefill's on the xPU.

What a pass of more than one token attends to runs in numpy, on keys and values in float32 there.
Before the first decode step of a sequence these move over once, by the back door, rounded to FP16;
from then on each token is appended through the host port.

A sliding window of W tokens is a ring: token t lies in row t % W, over the one that leaves. Softmax
and the sum of values know no order, so nothing has to be masked.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from ..llm.attention import KvCache as HostCache
from ..llm.attention import NumpyAttention
from ..llm.calls import AttendCall
from ..llm.kinds import Attention, ModelConfig
from ..spec.config import Config
from ..spec.errors import CapacityError, ModelError
from .attention import AttentionKernel, Request
from .kernel import Kernels
from .kv_cache import Head, HeadForm, KvCache, append, load
from .memory import Memory
from .stats import Stats

ATTENTION = "attention scores, values"
"""What statistics and placements call the program of a decode step."""


def reason(config: Config, a: Attention) -> str | None:
    """Why attention of a kind cannot run on a configuration; None if it can."""
    if not config.functions:
        return "there is no softmax module (functions=true)"
    if not config.transposes:
        return ("values cannot be reduced over: beats must be square (tile.rows = tile.depth), and "
                "tile.groups 2 or more")
    if a.relative:
        return "its scores have a bias, which the softmax module does not add"
    try:
        HeadForm(config, a.head_dim, a.value_dim)
    except CapacityError as error:
        return str(error)
    return None


class SequenceCache(HostCache):
    """Keys and values of a sequence, on the host and in DRAM.

    Attributes
    ----------
    heads : dict
        By block of the decoder, those heads that lie in DRAM.
    moved : dict
        By block, the tokens of which that is true.
    """

    def __init__(self, config: ModelConfig, capacity: int, heads: dict[int, list[Head]]):
        super().__init__(config, capacity)
        self.heads, self.moved = heads, dict.fromkeys(heads, 0)


def sequence_heads(cache: KvCache, model: ModelConfig, number: int, tokens: int
                   ) -> dict[int, list[Head]]:
    """Heads of sequence ``number`` by block, as far as they can attend, with room for ``tokens``.

    Raises CapacityError without effect where there is no room.
    """
    blocks, heads = model.blocks[model.encoder:], {}
    try:
        for index, block in enumerate(blocks):
            a = block.attention
            if reason(cache.config, a) is None:
                form = HeadForm(cache.config, a.head_dim, a.value_dim)
                heads[index] = cache.heads(form, a.kv_heads, number, index, len(blocks))
                cache.grow(heads[index], min(tokens, a.window or tokens))
    except CapacityError:
        for mine in heads.values():
            cache.release(mine)
        raise
    return heads


class AttentionRunner(NumpyAttention):
    """Callable as :data:`~logicpim.llm.calls.Attends`: decode steps on a device, all else in numpy.

    A sequence's bits depend on nothing but its own: neither on what stands beside it nor on where
    its keys and values lie, which is some channel and some extents.

    Parameters
    ----------
    kernels : Kernels
    config : ModelConfig
    memory : Memory
        What lies in the DRAM already; nothing must be placed afterwards.
    bundles : int
        Memory spaces that words are dealt over.
    decide : callable, optional
        ``decide(attention, context)``: whether Logic-PIM shall attend in a decode step if it can.

    Attributes
    ----------
    stats : dict of (str, str) to Stats
        What it cost so far, by phase and :data:`ATTENTION`.
    """

    def __init__(self, kernels: Kernels, config: ModelConfig, memory: Memory, bundles: int = 1,
                 decide: Callable[[Attention, int], bool] = lambda attention, context: True):
        super().__init__(config)
        self.kernels, self.memory = kernels, KvCache(kernels.config, memory, bundles)
        self.stats: dict[tuple[str, str], Stats] = defaultdict(Stats)
        self._kernel, self._decide, self._count = AttentionKernel(kernels), decide, 0

    def pieces(self, a: Attention, tokens: int, past: int) -> int:
        """As in :class:`NumpyAttention`: decode steps of kinds that can, and where they shall."""
        if (tokens > 1 or not past or reason(self.kernels.config, a)
                or not self._decide(a, past + 1)):
            return 0
        context = min(past + 1, a.window or past + 1)
        return -(-context // HeadForm(self.kernels.config, a.head_dim, a.value_dim).piece)

    def cache(self, capacity: int) -> SequenceCache:
        """An empty cache with room for so many tokens. Raises CapacityError if there is none."""
        heads = sequence_heads(self.memory, self.config, self._count, capacity)
        self._count += 1
        return SequenceCache(self.config, capacity, heads)

    def release(self, cache: SequenceCache) -> None:
        for heads in cache.heads.values():
            self.memory.release(heads)

    def __call__(self, calls: Sequence[AttendCall]) -> list[np.ndarray]:
        results, requests, tokens, owners = [], [], [], []
        for number, call in enumerate(calls):
            if call.cross or call.cache is None or not self.pieces(
                    call.attention, len(call.q), call.cache.length):
                results.append(self._one(call))
                continue
            a = call.attention
            results.append(np.empty((1, a.heads, a.value_dim), np.float32))
            rows, mine = self._decode(call)
            tokens += rows
            requests += mine
            owners += [(number, slice(i * a.group, (i + 1) * a.group)) for i in range(a.kv_heads)]
        if requests:
            append(self.kernels.device, tokens)
            found = self._kernel.run(requests, self.stats[self.phase, ATTENTION])
            for (number, heads), y in zip(owners, found, strict=True):
                results[number][0, heads] = y
        return results

    def _decode(self, call: AttendCall) -> tuple[list, list[Request]]:
        """The rows to append, and the requests, of a decode step's heads."""
        a, cache, past = call.attention, call.cache, call.cache.length
        index, window = call.layer - self.config.encoder, a.window or past + 1
        heads = cache.heads[index]
        cache.extended(index, a, call.k, call.v)
        if cache.moved[index] not in (past, past + 1):  # a pass may be had again
            self._move(call, index, past, window)
        cache.moved[index] = past + 1
        q, k, v = (_half(x[0], call.layer) for x in (call.q, call.k, call.v))
        sinks = None if call.sinks is None else call.sinks.reshape(a.kv_heads, a.group)
        rows = [(head, past % window, k[i], v[i]) for i, head in enumerate(heads)]
        requests = [Request(head, min(past + 1, window), part, a.scale,
                            None if sinks is None else sinks[i])
                    for i, (head, part) in enumerate(zip(heads, q.reshape(
                        a.kv_heads, a.group, a.head_dim), strict=True))]
        return rows, requests

    def _move(self, call, index, past, window):
        """Keys and values of the tokens before, as far as they are seen, into DRAM."""
        cache, first = call.cache, max(0, past - window)
        rows = np.arange(first, past) % window
        for i, head in enumerate(cache.heads[index]):
            bits = []
            for held in (cache.keys[index], cache.values[index]):
                bits.append(np.empty((past - first, held.shape[2]), np.uint16))
                bits[-1][rows] = _half(held[first:past, i], call.layer)
            load(self.kernels.device, head, *bits)


def _half(x: np.ndarray, layer: int) -> np.ndarray:
    """FP16 patterns of float32 values. Raises ModelError where one is beyond the format."""
    with np.errstate(over="ignore"):
        half = x.astype(np.float16)
    if not np.isfinite(half).all():
        raise ModelError(f"a query, key or value in layer {layer} is not finite in FP16, the "
                         f"format of attention on Logic-PIM: run it with --attention xpu")
    return half.view(np.uint16)
