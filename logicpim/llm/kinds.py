# SPDX-License-Identifier: BSD-2-Clause
"""The handful of layer kinds that the model families are made of; each says what it costs.

A model is a :class:`ModelConfig`: a tuple of :class:`Block` and what stands before and after.
Construction refuses sizes that do not fit together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..spec.errors import ModelError

ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu", "swiglu_clamped")


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A normalisation: ``rms`` (weight only) or ``layer`` (weight and bias)."""

    kind: str = "rms"
    eps: float = 1e-5

    @property
    def bias(self) -> bool:
        """Whether it has a bias."""
        return self.kind == "layer"


@dataclass(frozen=True, kw_only=True)
class Rope:
    """Rotary positions of ``dim`` elements of a head.

    Parameters
    ----------
    dim : int
    theta : float
    kind : str
        ``default``, ``linear``, ``llama3``, ``yarn`` or ``longrope``; ``values`` holds what
        config.json says for it.
    interleaved : bool
        Element 2i pairs with 2i + 1 instead of i with i + dim / 2.
    """

    dim: int
    theta: float
    kind: str = "default"
    values: Mapping = field(default_factory=dict)
    interleaved: bool = False

    def __post_init__(self):
        if self.dim % 2:
            raise ModelError(f"head_dim {self.dim} is odd: rotary embedding needs pairs")


@dataclass(frozen=True, kw_only=True)
class Relative:
    """A learned bias of a score by the distance of key and query, in logarithmic buckets."""

    buckets: int
    max_distance: int
    bidirectional: bool


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Multi-head latent attention: keys and values of all heads come from one vector a token.

    Parameters
    ----------
    rank, query_rank : int
        Widths of the vectors that keys and values, and queries, are made of; a ``query_rank`` of 0
        makes queries from the hidden state.
    plain_dim, rope_dim, value_dim : int
        Widths of a head: without and with rotary positions, and of its value.
    """

    rank: int
    query_rank: int
    plain_dim: int
    rope_dim: int
    value_dim: int


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Attention of ``heads`` query heads over ``kv_heads`` key/value heads.

    With ``latent`` the cache holds one key of ``rank + rope_dim`` elements a token whose first
    ``rank`` are the value too, so ``kv_heads`` is 1, ``head_dim`` that width and ``value_dim`` the
    rank: the queries are multiplied by the heads' key matrices instead of the keys.

    Parameters
    ----------
    heads, kv_heads, head_dim, value_dim : int
    scale : float
        Factor of the scores.
    causal : bool
    window : int
        Keys that a query sees, itself included; 0 means all.
    bias, output_bias : bool
        Of the projections.
    norm : Norm or None
        Of each head's query and key.
    sinks : bool
        Whether each head has a learned score that takes its share and gives no value.
    rope : Rope or None
    relative : Relative or None
    latent : Latent or None
    """

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    scale: float
    causal: bool = True
    window: int = 0
    bias: bool = False
    output_bias: bool = False
    norm: Norm | None = None
    sinks: bool = False
    rope: Rope | None = None
    relative: Relative | None = None
    latent: Latent | None = None

    def __post_init__(self):
        if self.heads % self.kv_heads:
            raise ModelError(f"num_attention_heads {self.heads} is not a multiple of "
                             f"num_key_value_heads {self.kv_heads}")

    @property
    def group(self) -> int:
        """Query heads that share one key/value head."""
        return self.heads // self.kv_heads

    @property
    def cached(self) -> int:
        """Elements that a token keeps in the cache."""
        return self.kv_heads * (self.head_dim + (0 if self.latent else self.value_dim))


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """A feed-forward layer ``width`` wide.

    Gated it is ``down(act(gate(x)) * up(x))``, else ``down(act(up(x)))``. ``swiglu_clamped`` is
    ``(up + 1) * gate * logistic(alpha * gate)`` with gate and up held within ``limit``.
    """

    width: int
    activation: str = "silu"
    gated: bool = True
    bias: bool = False
    alpha: float = 1.702
    limit: float = 7.0

    def __post_init__(self):
        if self.activation not in ACTIVATIONS:
            raise ModelError(f"activation {self.activation!r} is not supported: only "
                             f"{', '.join(ACTIVATIONS)} are")

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of the matrices: w1 (gate, or the only one before the activation), w3, w2."""
        return ("w1", "w3", "w2") if self.gated else ("w1", "w2")


@dataclass(frozen=True, kw_only=True)
class Router:
    """How tokens choose their experts.

    Parameters
    ----------
    kind : str
        ``softmax`` or ``sigmoid`` of the scores, the best taken; or ``sparse_mixer``: one after
        the other, each weight a softmax over the scores within ``2 * jitter`` of the best.
    normalise : bool
        Whether the weights are divided by their sum.
    scale : float
        Factor of the weights, after that.
    bias, correction : bool
        A bias of the scores; one that counts for the choice only.
    groups, top_groups : int
        Experts are chosen from the best ``top_groups`` of so many groups.
    jitter : float
    capacity : int
        Tokens of a pass that an expert takes, the others go without; 0 means all.
    """

    kind: str = "softmax"
    normalise: bool = True
    scale: float = 1.0
    bias: bool = False
    correction: bool = False
    groups: int = 1
    top_groups: int = 1
    jitter: float = 0.0
    capacity: int = 0


@dataclass(frozen=True, kw_only=True)
class Moe:
    """``experts`` feed-forward layers of which a token uses ``top_k``, and a shared one."""

    experts: int
    top_k: int
    expert: Mlp
    router: Router = field(default_factory=Router)
    shared: Mlp | None = None

    def __post_init__(self):
        if self.top_k > self.experts:
            raise ModelError(f"{self.top_k} experts per token are more than the {self.experts} "
                             f"there are")
        r = self.router
        if self.experts % r.groups or self.top_k > self.experts // r.groups * r.top_groups:
            raise ModelError(f"{self.experts} experts in {r.groups} groups, {r.top_groups} of them "
                             f"chosen, do not give {self.top_k} experts")
        if r.kind == "sparse_mixer" and self.top_k != 2:
            raise ModelError(f"sparse-mixer routing takes 2 experts per token, not {self.top_k}")


@dataclass(frozen=True, kw_only=True)
class Block:
    """Attention, in a decoder of an encoder perhaps attention over that, and feed-forward.

    Each is added to its input, after a norm of it.
    """

    attention: Attention
    ffn: Mlp | Moe
    cross: Attention | None = None


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model: blocks and what stands before and after them.

    Parameters
    ----------
    family : str
        What config.json calls ``model_type``.
    vocab_size, hidden_size : int
    blocks : tuple of Block
        Those of the encoder first, if there is one.
    norm : Norm
        Of all norms of hidden states.
    encoder : int
        Blocks of the encoder; 0 where there is only a decoder.
    positions : str
        Added to the embedding: ``learned`` (two rows into their table), ``sinusoidal`` or none
        (empty).
    embedding_scale, head_scale : float
        Factors of the embedding and of what goes into the language-model head.
    tied, head_bias : bool
        Whether the language-model head is the embedding, and has a bias.
    max_positions : int
        Longest sequence the model was made for.
    eos_ids : tuple of int
        Tokens that end a text.
    start_id, pad_id : int or None
        First token of a decoder that has an encoder; the token that stands for none.
    storage : str
        How the experts' matrices are stored: ``each`` its own tensor, ``packed`` or ``mxfp4``.
    """

    vocab_size: int
    hidden_size: int
    blocks: tuple[Block, ...]
    family: str = "mixtral"
    norm: Norm = field(default_factory=Norm)
    encoder: int = 0
    positions: str = ""
    embedding_scale: float = 1.0
    head_scale: float = 1.0
    tied: bool = False
    head_bias: bool = False
    max_positions: int = 1 << 17
    eos_ids: tuple[int, ...] = ()
    start_id: int | None = None
    pad_id: int | None = None
    storage: str = "each"

    def __post_init__(self):
        kinds = {(b.ffn.experts, b.ffn.expert) for b in self.blocks if isinstance(b.ffn, Moe)}
        if len(kinds) > 1:
            raise ModelError("layers with different experts are not supported")
        if self.storage == "mxfp4" and any(k % 32 for k in (self.hidden_size,
                                                            self.intermediate_size)):
            raise ModelError("MXFP4 experts need hidden_size and intermediate_size in multiples "
                             "of 32")

    @property
    def layers(self) -> int:
        """Blocks of encoder and decoder."""
        return len(self.blocks)

    @property
    def moe(self) -> Moe | None:
        """What a block with experts has, equal in all of them; None in a dense model."""
        return next((b.ffn for b in self.blocks if isinstance(b.ffn, Moe)), None)

    @property
    def expert(self) -> Mlp | None:
        """One of the experts."""
        return self.moe and self.moe.expert

    @property
    def expert_layers(self) -> tuple[int, ...]:
        """Blocks that have experts."""
        return tuple(i for i, b in enumerate(self.blocks) if isinstance(b.ffn, Moe))

    @property
    def experts(self) -> int:
        """Experts of a block that has some."""
        return self.moe.experts if self.moe else 0

    @property
    def top_k(self) -> int:
        """Experts of a token."""
        return self.moe.top_k if self.moe else 0

    @property
    def intermediate_size(self) -> int:
        """Width of an expert."""
        return self.expert.width if self.expert else 0
