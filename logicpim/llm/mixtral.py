# SPDX-License-Identifier: BSD-2-Clause
"""The Mixtral decoder in numpy float32: all that runs on the xPU, experts left to a callable.

The mathematics is that of ``MixtralForCausalLM`` in float32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .checkpoint import EXPERT_MATRICES, Checkpoint, expert_name
from .config import ModelConfig

Experts = Callable[[int, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""``experts(layer, x, indices, weights)``: float32 [T, H] from x [T, H], indices [T, top_k] of
the chosen experts and float32 weights [T, top_k] of their results."""


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """``x`` scaled to a root mean square of one along its last axis, times ``weight``."""
    scale = np.mean(np.square(x), axis=-1, keepdims=True) + np.float32(eps)
    return weight * (x / np.sqrt(scale))


def softmax(x: np.ndarray) -> np.ndarray:
    """Softmax along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def silu(x: np.ndarray) -> np.ndarray:
    """x times its logistic function."""
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-x))


def rotary(config: ModelConfig, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine [T, 1, head_dim] of the rotary embedding at the positions."""
    exponent = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequency = np.float32(1) / np.power(np.float32(config.rope_theta), exponent)
    angle = positions.astype(np.float32)[:, None] * frequency
    angle = np.concatenate((angle, angle), axis=-1)[:, None, :]
    return np.cos(angle), np.sin(angle)


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """x [T, heads, head_dim] turned; element i pairs with element i + head_dim / 2."""
    low, high = np.split(x, 2, axis=-1)
    return x * cos + np.concatenate((-high, low), axis=-1) * sin


def route(x: np.ndarray, gate: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Chosen experts [T, top_k], best first, and their weights, which sum to one."""
    probabilities = softmax(x @ gate)
    indices = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top_k]
    weights = np.take_along_axis(probabilities, indices, axis=-1)
    return indices, weights / weights.sum(axis=-1, keepdims=True)


@dataclass
class Layer:
    """Weights of one decoder layer but its experts; projections transposed to [in, out]."""

    input_norm: np.ndarray
    post_norm: np.ndarray
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    o: np.ndarray
    gate: np.ndarray

    @classmethod
    def load(cls, checkpoint: Checkpoint, index: int) -> "Layer":
        """Read layer ``index`` of a checkpoint."""
        def read(name):
            values = checkpoint.float32(f"model.layers.{index}.{name}.weight")
            return np.ascontiguousarray(values.T)
        return cls(input_norm=read("input_layernorm"), post_norm=read("post_attention_layernorm"),
                   **{p: read(f"self_attn.{p}_proj") for p in "qkvo"},
                   gate=read("block_sparse_moe.gate"))


class KvCache:
    """Keys and values of the tokens so far, by layer: [capacity, kv_heads, head_dim] each."""

    def __init__(self, config: ModelConfig, capacity: int):
        shape = (config.layers, capacity, config.kv_heads, config.head_dim)
        self.keys = np.zeros(shape, np.float32)
        self.values = np.zeros(shape, np.float32)
        self.length = 0


class Mixtral:
    """The decoder.

    Parameters
    ----------
    config : ModelConfig
    checkpoint : Checkpoint
        All but the experts' matrices is read here, as float32.
    """

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint):
        self.config = config
        self.embedding = checkpoint.float32("model.embed_tokens.weight")
        self.norm = checkpoint.float32("model.norm.weight")
        head = self.embedding if config.tied else checkpoint.float32("lm_head.weight")
        self.head = np.ascontiguousarray(head.T)
        self.layers = [Layer.load(checkpoint, index) for index in range(config.layers)]

    def forward(self, ids: list[int], cache: KvCache, experts: Experts) -> np.ndarray:
        """Logits [vocab_size] after the last of ``ids``, which are appended to the cache."""
        eps, top_k = self.config.norm_eps, self.config.top_k
        x = self.embedding[np.asarray(ids)]
        turn = rotary(self.config, np.arange(cache.length, cache.length + len(ids)))
        for index, layer in enumerate(self.layers):
            h = rms_norm(x, layer.input_norm, eps)
            x = x + self._attention(index, layer, h, cache, turn)
            h = rms_norm(x, layer.post_norm, eps)
            x = x + experts(index, h, *route(h, layer.gate, top_k))
        cache.length += len(ids)
        return rms_norm(x[-1], self.norm, eps) @ self.head

    def _attention(self, index, layer, x, cache, turn):
        c, tokens = self.config, len(x)
        q = rotate((x @ layer.q).reshape(tokens, c.heads, c.head_dim), *turn)
        k = rotate((x @ layer.k).reshape(tokens, c.kv_heads, c.head_dim), *turn)
        end = cache.length + tokens
        cache.keys[index, cache.length:end] = k
        cache.values[index, cache.length:end] = (x @ layer.v).reshape(k.shape)
        keys = cache.keys[index, :end].transpose(1, 2, 0)[:, None]         # kv, 1, dim, context
        values = cache.values[index, :end].transpose(1, 0, 2)[:, None]     # kv, 1, context, dim
        q = q.reshape(tokens, c.kv_heads, c.group, c.head_dim).transpose(1, 2, 0, 3)
        scores = q @ keys * np.float32(c.head_dim ** -0.5)                 # kv, group, T, context
        future = np.arange(end) > np.arange(cache.length, end)[:, None]
        p = softmax(np.where(future, np.float32(-np.inf), scores))
        mixed = (p @ values).transpose(2, 0, 1, 3).reshape(tokens, c.heads * c.head_dim)
        return mixed @ layer.o


def combine(x: np.ndarray, indices: np.ndarray, weights: np.ndarray,
            results: dict[int, np.ndarray]) -> np.ndarray:
    """Weighted sum [T, H] of the experts' results, added in ascending order of the experts.

    ``results[expert]`` holds a row for each token that chose it, in token order.
    """
    out = np.zeros_like(x)
    for expert in sorted(results):
        token, slot = np.nonzero(indices == expert)
        out[token] += results[expert] * weights[token, slot, None]
    return out


class NumpyExperts:
    """The experts in plain float32 numpy: what Logic-PIM's results are judged against."""

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint):
        self._weights = [[[checkpoint.float32(expert_name(layer, expert, m)).T
                           for m in EXPERT_MATRICES]
                          for expert in range(config.experts)] for layer in range(config.layers)]

    def __call__(self, layer, x, indices, weights):
        results = {}
        for expert in np.unique(indices):
            w1, w3, w2 = self._weights[layer][expert]
            h = x[np.nonzero(indices == expert)[0]]
            results[expert] = (silu(h @ w1) * (h @ w3)) @ w2
        return combine(x, indices, weights, results)
