# SPDX-License-Identifier: BSD-2-Clause
"""From config.json to the kinds of layers, by a row of the table of families."""

import math
from dataclasses import replace

from .families import SIZES, Family
from .fields import Fields
from .kinds import (
    Attention,
    Block,
    Latent,
    Mlp,
    ModelConfig,
    Moe,
    Norm,
    Relative,
    Rope,
)

ROPES = ("default", "linear", "llama3", "yarn", "longrope")
ACTIVATION_NAMES = {"silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh",
                    "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}


class Builder:
    """Reads one config.json for one family."""

    def __init__(self, fields: Fields, family: Family):
        self.f, self.family = fields, family

    def size(self, role: str, default: int | None = None, side: str = "decoder") -> int:
        """A size by its role; of the encoder where that has its own."""
        sizes = SIZES | self.family.sizes
        name = sizes.get(f"{side}_{role}") or sizes[role]
        most = {"layers": 1 << 12, "experts": 1 << 12}.get(role, 1 << 31)
        return self.f.size(name, default, most=most)

    def model(self, name: str, eos_ids: tuple[int, ...]) -> ModelConfig:
        """The whole model."""
        f, family = self.f, self.family
        for refused in family.refuse:
            f.only(*refused)
        quantisation = f.values.get("quantization_config") or {}
        method = quantisation.get("quant_method") if isinstance(quantisation, dict) else "?"
        packed = "packed_up" in family.names
        if quantisation and not (packed and method == "mxfp4"):
            f.fail(f"quantization_config {method!r} is not supported: give a checkpoint in FP16, "
                   f"BF16 or FP32" + ", or MXFP4" * packed)
        hidden, encoder = self.size("hidden"), 0
        blocks = [self.block(i, "decoder") for i in range(self.size("layers"))]
        if "encoder_block" in family.names:
            encoder = self.size("layers", side="encoder")
            cross = replace(blocks[0].attention, causal=False, relative=None)
            blocks = [self.block(i, "encoder") for i in range(encoder)] + [
                replace(block, cross=cross) for block in blocks]
        tied = f.flag(family.tied)
        relative = family.positions == "relative"
        sinusoidal = family.positions == "sinusoidal"
        scaled = sinusoidal and f.flag(("scale_embedding", True))
        return ModelConfig(
            family=name, vocab_size=f.size("vocab_size"), hidden_size=hidden,
            blocks=tuple(blocks), encoder=encoder, norm=self.norm(),
            positions=family.positions if family.positions in ("learned", "sinusoidal") else "",
            embedding_scale=math.sqrt(hidden) if scaled else 1.0,
            head_scale=hidden ** -0.5 if relative and tied else 1.0,
            tied=tied, head_bias=f.flag(family.head_bias),
            max_positions=self.size("positions", 1 << 17), eos_ids=eos_ids,
            start_id=f.size("decoder_start_token_id", 0, 0, f.size("vocab_size") - 1)
            if encoder else None,
            pad_id=f.size("pad_token_id", 1, least=0) if sinusoidal else None,
            storage="mxfp4" if quantisation else "packed" if packed else "each")

    def norm(self) -> Norm:
        """The norm of hidden states."""
        name = (SIZES | self.family.sizes)["eps"]
        eps = self.f.positive(name, self.family.eps) if name else self.family.eps
        return Norm(kind=self.family.norm, eps=eps)

    def block(self, layer: int, side: str) -> Block:
        """A layer, without attention over an encoder."""
        f, family = self.f, self.family
        mlp = self.mlp(self.size("width", side=side))
        if family.sparse is None or not family.sparse(f, layer, side):
            return Block(attention=self.attention(layer, side), ffn=mlp)
        width = self.size("expert_width", side=side)
        shared = f.size("n_shared_experts", 0, least=0) if "shared_w1" in family.names else 0
        moe = Moe(experts=self.size("experts"), expert=replace(mlp, width=width),
                  top_k=self.size("top_k") if (SIZES | family.sizes)["top_k"] else family.top_k,
                  router=family.router(f),
                  shared=replace(mlp, width=shared * width) if shared else None)
        return Block(attention=self.attention(layer, side), ffn=moe)

    def mlp(self, width: int) -> Mlp:
        """A feed-forward layer."""
        f, family = self.f, self.family
        if family.activation == "swiglu_clamped":
            return Mlp(width=width, activation=family.activation, bias=f.flag(family.mlp_bias),
                       alpha=f.positive("swiglu_alpha", 1.702),
                       limit=f.positive("swiglu_limit", 7.0))
        field = (SIZES | family.sizes)["activation"]
        name = f.text(field, family.activation)
        if name not in ACTIVATION_NAMES:
            f.fail(f"{field} {name!r} is not supported: only {', '.join(ACTIVATION_NAMES)} are")
        return Mlp(width=width, activation=ACTIVATION_NAMES[name], gated=family.gated,
                   bias=f.flag(family.mlp_bias))

    def attention(self, layer: int, side: str) -> Attention:
        """Self-attention of a layer."""
        f, family = self.f, self.family
        heads = self.size("heads", side=side)
        if family.latent:
            return self._latent(heads)
        hidden = self.size("hidden")
        head_dim = self.size("head_dim", hidden // heads or 1)
        relative = family.positions == "relative"
        causal = side == "decoder"
        return Attention(
            heads=heads, kv_heads=self.size("kv_heads", heads) if causal else heads,
            head_dim=head_dim, value_dim=head_dim, scale=1.0 if relative else head_dim ** -0.5,
            causal=causal, window=self.window(layer), bias=f.flag(family.bias),
            output_bias=f.flag(family.output_bias), sinks=family.sinks,
            norm=self.norm() if family.head_norm else None,
            rope=self.rope(head_dim) if family.positions == "rotary" else None,
            relative=Relative(buckets=f.size("relative_attention_num_buckets", 32, least=4),
                              max_distance=f.size("relative_attention_max_distance", 128),
                              bidirectional=not causal) if relative else None)

    def _latent(self, heads: int) -> Attention:
        f = self.f
        latent = Latent(rank=f.size("kv_lora_rank"), query_rank=f.size("q_lora_rank", 0, least=0),
                        plain_dim=f.size("qk_nope_head_dim"), rope_dim=f.size("qk_rope_head_dim"),
                        value_dim=f.size("v_head_dim"))
        rope = self.rope(latent.rope_dim)
        scale = (latent.plain_dim + latent.rope_dim) ** -0.5
        # The heads' softmax is sharpened for the longer context, beside what the rotation does.
        if rope.kind != "default" and rope.values.get("mscale_all_dim"):
            scale *= yarn_scale(rope.values["factor"], rope.values["mscale_all_dim"]) ** 2
        return Attention(heads=heads, kv_heads=1, head_dim=latent.rank + latent.rope_dim,
                         value_dim=latent.rank, scale=scale, rope=rope, latent=latent)

    def window(self, layer: int) -> int:
        """Width of the sliding window of a layer, 0 for none."""
        f, kind = self.f, self.family.window
        width = f.size("sliding_window", 0) if kind else 0
        if kind == "upper" and not f.flag(("use_sliding_window", False)):
            return 0
        types = f.values.get("layer_types")
        if kind in ("upper", "alternate") and types is not None:
            if not isinstance(types, list) or len(types) != self.size("layers") or not all(
                    t in ("sliding_attention", "full_attention") for t in types):
                f.fail("layer_types must name each layer sliding_attention or full_attention")
            return width if types[layer] == "sliding_attention" else 0
        if kind == "upper":
            return width if layer >= f.size("max_window_layers", 28, least=0) else 0
        return width if kind == "all" or layer % 2 == 0 else 0

    def rope(self, dim: int) -> Rope:
        """Rotary positions."""
        f = self.f
        # transformers 5 writes rope_parameters; before, rope_theta stood beside rope_scaling.
        values = f.values.get("rope_parameters") or f.values.get("rope_scaling") or {}
        if not isinstance(values, dict):
            f.fail(f"rope_parameters must be an object, not {values!r}")
        kind = values.get("rope_type", values.get("type", "default"))
        kind = "longrope" if kind == "su" else kind
        if kind not in ROPES:
            f.fail(f"rope_type {kind!r} is not supported: only {', '.join(ROPES)} are")
        if values.get("partial_rotary_factor", 1) not in (None, 1):
            f.fail("partial_rotary_factor is not supported: whole heads are turned")
        theta = f.positive("rope_theta", self.family.theta,
                           values if "rope_theta" in values else None)
        known = {name: f.positive(name, None, values) for name in (
            "mscale", "mscale_all_dim", "attention_factor", "short_mscale", "long_mscale")
            if values.get(name) is not None}
        if kind in ("linear", "llama3", "yarn"):
            known["factor"] = f.positive("factor", None, values)
        if kind == "llama3":
            known |= {n: f.positive(n, None, values) for n in ("low_freq_factor",
                                                               "high_freq_factor")}
        if kind == "yarn":
            known |= {n: f.positive(n, d, values) for n, d in (("beta_fast", 32.0),
                                                               ("beta_slow", 1.0))}
            known["truncate"] = values.get("truncate") is not False
        if kind == "longrope":
            known |= {n: f.numbers(n, values, dim // 2) for n in ("short_factor", "long_factor")}
        if kind in ("llama3", "yarn", "longrope"):
            longest = self.size("positions", 1 << 17)
            name = "original_max_position_embeddings"
            known[name] = f.positive(name, f.values.get(name, longest), values)
            if kind == "longrope":
                known["factor"] = f.positive("factor", longest / known[name], values)
        return Rope(dim=dim, theta=theta, kind=kind, values=known,
                    interleaved=f.flag(self.family.interleaved))


def yarn_scale(factor: float, weight: float = 1.0) -> float:
    """By how much attention is sharpened for a context ``factor`` times as long."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0
