# SPDX-License-Identifier: BSD-2-Clause
"""A model in numpy float32: all that runs on the xPU, experts and attention left to others.

A pass of a sequence knows nothing of others, so no bit of it depends on what runs beside it.
The mathematics is that of the family's model in transformers in float32.
"""

import numpy as np

from .attention import KvCache, NumpyAttention
from .calls import AttendCall, Attends, Experts, ExpertsCall, Pass, lockstep
from .checkpoint import Checkpoint
from .kinds import Mlp, ModelConfig, Moe, Norm
from .ops import activate, normalise
from .positions import relative_buckets, rotary, rotate, sinusoids
from .routers import route

Weights = dict[str, np.ndarray]

LATENT_NORM = Norm(eps=1e-6)  # of the latent vectors; config.json has no say


class Model:
    """The model.

    Parameters
    ----------
    config : ModelConfig
    checkpoint : Checkpoint
        All but the experts' matrices is read here, as float32.
    """

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint):
        self.config = config
        self.outer = checkpoint.model()
        head = self.outer["embedding"] if config.tied else self.outer["head"]
        self.head = np.ascontiguousarray(head.T)
        self.blocks = [checkpoint.block(index) for index in range(config.layers)]

    def start(self, prompt: list[int], cache: KvCache, experts: Experts,
              attends: Attends | None = None) -> list[int]:
        """What :meth:`encoding` returns, of one sequence alone."""
        return lockstep([self.encoding(prompt, cache)], experts,
                        attends or NumpyAttention(self.config))[0]

    def forward(self, ids: list[int], cache: KvCache, experts: Experts,
                attends: Attends | None = None) -> np.ndarray:
        """What :meth:`decoding` returns, of one sequence alone."""
        return lockstep([self.decoding(ids, cache)], experts,
                        attends or NumpyAttention(self.config))[0]

    def encoding(self, prompt: list[int], cache: KvCache) -> Pass:
        """What the decoder reads first: the prompt, or if an encoder read that the start token.

        Keys and values of the encoder's result go to ``cache.cross``.
        """
        config = self.config
        if not config.encoder:
            return prompt
        x = self._embed(prompt, 0)
        for layer in range(config.encoder):
            x = yield from self._block(layer, x, None)
        x = self._norm("encoder_norm", self.outer, x)
        for layer in range(config.encoder, config.layers):
            a, w = config.blocks[layer].cross, self.blocks[layer]
            cache.cross.append((_heads(linear(w, "cross_k", x), a.kv_heads),
                                _heads(linear(w, "cross_v", x), a.kv_heads)))
        return [config.start_id]

    def decoding(self, ids: list[int], cache: KvCache) -> Pass:
        """Logits [vocab_size] after the last of ``ids``, which are appended to the cache."""
        x = self._embed(ids, cache.length)
        for layer in range(self.config.encoder, self.config.layers):
            x = yield from self._block(layer, x, cache)
        cache.length += len(ids)
        x = self._norm("norm", self.outer, x[-1]) * np.float32(self.config.head_scale)
        logits = x @ self.head
        return logits + self.outer["head.bias"] if self.config.head_bias else logits

    def _embed(self, ids, past):
        config, ids = self.config, np.asarray(ids)
        x = self.outer["embedding"][ids] * np.float32(config.embedding_scale)
        at = np.arange(past, past + len(ids))
        if config.positions == "learned":
            x = x + self.outer["positions"][at + 2]
        if config.positions == "sinusoidal":
            # Tokens that stand for none are not counted, and stand nowhere.
            real = ids != config.pad_id
            at = (np.cumsum(real) + past) * real + config.pad_id
            x = x + sinusoids(at, config.hidden_size) * real[:, None]
        return x

    def _norm(self, role, weights, x):
        return normalise(self.config.norm, x, weights[role], weights.get(f"{role}.bias"))

    def _block(self, layer, x, cache):
        block, w = self.config.blocks[layer], self.blocks[layer]
        mixed = yield from self._attention(layer, self._norm("attention_norm", w, x), cache)
        x = x + mixed
        if block.cross:
            h = self._norm("cross_norm", w, x)
            q = _heads(linear(w, "cross_q", h), block.cross.heads)
            mixed = yield AttendCall(layer, block.cross, q, None, None, cache, cross=True)
            x = x + linear(w, "cross_o", mixed.reshape(len(x), -1))
        h = self._norm("ffn_norm", w, x)
        if isinstance(block.ffn, Mlp):
            return x + feed_forward(block.ffn, w, h)
        moe: Moe = block.ffn
        y = yield ExpertsCall(layer, h, *route(moe, linear(w, "router", h), w.get("correction")))
        if moe.shared:
            y = y + feed_forward(moe.shared, w, h, "shared_")
        return x + y

    def _attention(self, layer, x, cache):
        a, w, tokens = self.config.blocks[layer].attention, self.blocks[layer], len(x)
        past = cache.length if cache is not None else 0
        at = np.arange(past, past + tokens)
        turn = rotary(a.rope, at) if a.rope else None
        q, k, v = (_latent_qkv if a.latent else _qkv)(a, w, x, turn)
        bias = self._bias(layer, a, at, np.arange(past + tokens))
        mixed = yield AttendCall(layer, a, q, k, v, cache, bias, w.get("sinks"))
        if a.latent:
            mixed = mixed.transpose(1, 0, 2) @ _latent_matrices(a, w)[1]  # heads, T, value
            mixed = mixed.transpose(1, 0, 2)
        return linear(w, "o", mixed.reshape(tokens, -1))

    def _bias(self, layer, a, queries, keys):
        """What is added to the scores; None for nothing."""
        seen = np.ones((len(queries), len(keys)), bool)
        if a.causal:
            seen &= keys <= queries[:, None]
        if a.window:
            seen &= keys > queries[:, None] - a.window
        bias = np.where(seen, np.float32(0), np.float32(-np.inf))
        if not a.relative:
            return None if seen.all() else bias
        first = self.blocks[0 if layer < self.config.encoder else self.config.encoder]
        learned = first["relative"][relative_buckets(a.relative, queries, keys)]
        return learned.transpose(2, 0, 1) + bias


def linear(w: Weights, role: str, x: np.ndarray) -> np.ndarray:
    """``x`` times the matrix of a role, plus its bias if it has one."""
    y = x @ w[role]
    return y + w[f"{role}.bias"] if f"{role}.bias" in w else y


def feed_forward(mlp: Mlp, w: Weights, x: np.ndarray, prefix: str = "") -> np.ndarray:
    """A feed-forward layer with the matrices and biases ``prefix + w1`` and so on, [in, out]."""
    inner = activate(mlp, *(linear(w, prefix + m, x) for m in mlp.matrices[:-1]))
    return linear(w, f"{prefix}w2", inner)


def _heads(x, heads):
    return x.reshape(len(x), heads, -1)


def _qkv(a, w, x, turn):
    q, k, v = (_heads(linear(w, role, x), n)
               for role, n in (("q", a.heads), ("k", a.kv_heads), ("v", a.kv_heads)))
    if a.norm:
        q, k = normalise(a.norm, q, w["q_norm"]), normalise(a.norm, k, w["k_norm"])
    if a.rope:
        q, k = rotate(a.rope, q, turn), rotate(a.rope, k, turn)
    return q, k, v


def _latent_matrices(a, w):
    """By head: [plain_dim, rank] from a query to latent space, [rank, value_dim] out of it."""
    m = a.latent
    both = w["kv_b"].reshape(m.rank, a.heads, m.plain_dim + m.value_dim)
    return both[..., :m.plain_dim].transpose(1, 2, 0), both[..., m.plain_dim:].transpose(1, 0, 2)


def _latent_qkv(a, w, x, turn):
    m = a.latent
    if m.query_rank:
        q = linear(w, "q_b", normalise(LATENT_NORM, linear(w, "q_a", x), w["q_a_norm"]))
    else:
        q = linear(w, "q", x)
    q = _heads(q, a.heads)
    plain = q[..., :m.plain_dim].transpose(1, 0, 2) @ _latent_matrices(a, w)[0]
    turned = rotate(a.rope, q[..., m.plain_dim:], turn)
    q = np.concatenate((plain.transpose(1, 0, 2), turned), axis=-1)
    made = linear(w, "kv_a", x)[:, None]
    k = np.concatenate((normalise(LATENT_NORM, made[..., :m.rank], w["kv_a_norm"]),
                        rotate(a.rope, made[..., m.rank:], turn)), axis=-1)
    return q, k, k[..., :m.rank]


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
        self._expert = config.expert
        self._weights = {
            (layer, e): {m: checkpoint.expert(layer, e, m).astype(np.float32).T
                         for m in config.expert.matrices}
            | {f"{m}.bias": b for m, b in checkpoint.expert_biases(layer, e).items()}
            for layer in config.expert_layers for e in range(config.experts)}

    def __call__(self, layer, x, indices, weights):
        results = {int(e): feed_forward(self._expert, self._weights[layer, int(e)],
                                        x[np.nonzero(indices == e)[0]])
                   for e in np.unique(indices[indices >= 0])}
        return combine(x, indices, weights, results)
