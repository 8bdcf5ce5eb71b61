# SPDX-License-Identifier: BSD-2-Clause
"""Keys and values of a cache elsewhere, mirrored in a device's DRAM, and attention over them."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ..driver.attend import reason
from ..driver.attention import AttentionKernel, Request
from ..driver.kernel import Kernels
from ..driver.kv_cache import Head, HeadForm, KvCache, append, load
from ..driver.memory import Memory
from ..driver.stats import Stats
from ..llm.kinds import ModelConfig
from ..spec.errors import LogicPimError, ModelError

ATTENTION = "attention"
"""What statistics call it."""


@dataclass
class _Row:
    """A sequence in a layer: its heads in DRAM, FP16 patterns [kv_heads, tokens, size] of both."""

    heads: list[Head]
    keys: np.ndarray
    values: np.ndarray


class Mirror:
    """Attention of one new token a sequence, over keys and values that come with each call.

    What a call brings is compared with what DRAM has: a token more is appended, anything else
    (a new prompt, another order of the sequences, a window that has moved) is laid in anew.

    Parameters
    ----------
    kernels : Kernels
    config : ModelConfig
    memory : Memory
        What lies in the DRAM already.
    bundles : int

    Attributes
    ----------
    stats : Stats
    appended, loaded : int
        Tokens of heads that were written by the host port, and by the back door.
    """

    def __init__(self, kernels: Kernels, config: ModelConfig, memory: Memory, bundles: int):
        for block in config.blocks:
            if why := reason(kernels.config, block.attention):
                raise LogicPimError(f"attention cannot run on {kernels.config.name}: {why}; "
                                    f"offload(..., attention=False) leaves it in PyTorch")
        self.stats, self.appended, self.loaded = Stats(), 0, 0
        self._kernels, self._layers = kernels, config.layers
        self._cache = KvCache(kernels.config, memory, bundles)
        self._kernel = AttentionKernel(kernels)
        self._rows: dict[int, list[_Row]] = defaultdict(list)

    def __call__(self, layer: int, q: np.ndarray, keys: np.ndarray, values: np.ndarray,
                 scale: float, visible: np.ndarray | None = None,
                 sinks: np.ndarray | None = None) -> np.ndarray:
        """float32 [B, heads, value_dim].

        Parameters
        ----------
        q : array of float32 [B, heads, head_dim]
        keys, values : array of float32 [B, kv_heads, context, head_dim or value_dim]
        visible : array of bool [B, context], optional
            Keys that the token sees.
        sinks : array of float32 [heads], optional
        """
        batch, kv_heads = keys.shape[:2]
        group = q.shape[1] // kv_heads
        rows, requests, new = self._rows[layer], [], []
        for row in rows[batch:]:
            self._cache.release(row.heads)
        del rows[batch:]
        for b in range(batch):
            seen = slice(None) if visible is None else visible[b]
            k, v = (_half(x[b][:, seen], layer) for x in (keys, values))
            if b == len(rows):
                form = HeadForm(self._kernels.config, k.shape[2], v.shape[2])
                rows.append(_Row(self._cache.heads(form, kv_heads, b, layer, self._layers),
                                 k[:, :0], v[:, :0]))
            new += self._update(rows[b], k, v)
            queries = _half(q[b], layer).reshape(kv_heads, group, -1)
            requests += [Request(
                head, k.shape[1], queries[h], scale,
                None if sinks is None else sinks.reshape(kv_heads, group)[h])
                for h, head in enumerate(rows[b].heads)]
        append(self._kernels.device, new)
        self.appended += len(new)
        found = self._kernel.run(requests, self.stats)
        return np.stack(found).reshape(batch, kv_heads * group, -1)

    def _update(self, row: _Row, k: np.ndarray, v: np.ndarray) -> list[tuple]:
        """Rows to append, after DRAM has been made to hold all before them."""
        tokens, held = k.shape[1], row.keys.shape[1]
        self._cache.grow(row.heads, tokens)
        kept = held <= tokens <= held + 1 and held and np.array_equal(
            k[:, :held], row.keys) and np.array_equal(v[:, :held], row.values)
        row.keys, row.values = k, v
        if not kept:
            for h, head in enumerate(row.heads):
                load(self._kernels.device, head, k[h], v[h])
            self.loaded += tokens * len(row.heads)
            return []
        return [(head, held, k[h, held], v[h, held])
                for h, head in enumerate(row.heads) if tokens > held]


def _half(x: np.ndarray, layer: int) -> np.ndarray:
    """FP16 patterns of float32 values. Raises ModelError where one is beyond the format."""
    with np.errstate(over="ignore"):
        half = x.astype(np.float16)
    if not np.isfinite(half).all():
        raise ModelError(f"a query, key or value in layer {layer} is not finite in FP16, the "
                         f"format of attention on Logic-PIM: offload(..., attention=False)")
    return half.view(np.uint16)
