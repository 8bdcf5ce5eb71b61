# SPDX-License-Identifier: BSD-2-Clause
"""The model families: a table from config.json and tensor names to the kinds of layers.

A :class:`Family` says where config.json keeps a size, which kinds its layers are of, and how its
tensors are called; :mod:`.build` does the rest, equal for all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .fields import Fields
from .kinds import Router

Flag = bool | tuple[str, bool]
"""A constant, or the name of a field of config.json and its value where it is missing."""

# Roles of sizes, and what config.json calls them unless the family says otherwise; where versions
# of transformers differ, the names have a | between them.
SIZES = {"hidden": "hidden_size", "width": "intermediate_size", "layers": "num_hidden_layers",
         "heads": "num_attention_heads", "kv_heads": "num_key_value_heads",
         "head_dim": "head_dim", "experts": "num_local_experts", "top_k": "num_experts_per_tok",
         "expert_width": "intermediate_size", "positions": "max_position_embeddings",
         "eps": "rms_norm_eps", "activation": "hidden_act"}

# Roles of tensors and their names; those of `block` stand before the roles of a block.
LLAMA = {
    "embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head",
    "block": "model.layers.{layer}.",
    "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm",
    "w1": "mlp.gate_proj", "w3": "mlp.up_proj", "w2": "mlp.down_proj",
    "router": "mlp.gate", "expert": "mlp.experts.{expert}.",
    "expert_w1": "gate_proj", "expert_w3": "up_proj", "expert_w2": "down_proj",
}
MIXTRAL = LLAMA | {"router": "block_sparse_moe.gate",
                   "expert": "block_sparse_moe.experts.{expert}.",
                   "expert_w1": "w1", "expert_w3": "w3", "expert_w2": "w2"}
OPT = {
    "embedding": "model.decoder.embed_tokens", "positions": "model.decoder.embed_positions",
    "norm": "model.decoder.final_layer_norm", "head": "lm_head",
    "block": "model.decoder.layers.{layer}.",
    "attention_norm": "self_attn_layer_norm", "ffn_norm": "final_layer_norm",
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.out_proj", "w1": "fc1", "w2": "fc2",
}
DEEPSEEK = LLAMA | {
    "q_a": "self_attn.q_a_proj", "q_a_norm": "self_attn.q_a_layernorm",
    "q_b": "self_attn.q_b_proj", "kv_a": "self_attn.kv_a_proj_with_mqa",
    "kv_a_norm": "self_attn.kv_a_layernorm", "kv_b": "self_attn.kv_b_proj",
    "correction": "mlp.gate.e_score_correction_bias",
    "shared_w1": "mlp.shared_experts.gate_proj", "shared_w3": "mlp.shared_experts.up_proj",
    "shared_w2": "mlp.shared_experts.down_proj",
}
GPT_OSS = LLAMA | {"sinks": "self_attn.sinks", "router": "mlp.router",
                   "packed_up": "mlp.experts.gate_up_proj", "packed_down": "mlp.experts.down_proj"}
SWITCH = {
    "embedding": "shared", "norm": "decoder.final_layer_norm",
    "encoder_norm": "encoder.final_layer_norm", "head": "lm_head",
    "block": "decoder.block.{layer}.", "encoder_block": "encoder.block.{layer}.",
    "attention_norm": "layer.0.layer_norm",
    "q": "layer.0.SelfAttention.q", "k": "layer.0.SelfAttention.k",
    "v": "layer.0.SelfAttention.v", "o": "layer.0.SelfAttention.o",
    "relative": "layer.0.SelfAttention.relative_attention_bias",
    "cross_norm": "layer.1.layer_norm",
    "cross_q": "layer.1.EncDecAttention.q", "cross_k": "layer.1.EncDecAttention.k",
    "cross_v": "layer.1.EncDecAttention.v", "cross_o": "layer.1.EncDecAttention.o",
    "ffn_norm": "layer.{last}.layer_norm", "w1": "layer.{last}.mlp.wi",
    "w2": "layer.{last}.mlp.wo", "router": "layer.{last}.mlp.router.classifier",
    "expert": "layer.{last}.mlp.experts.expert_{expert}.", "expert_w1": "wi", "expert_w2": "wo",
}
NLLB = {
    "embedding": "model.shared", "norm": "model.decoder.layer_norm",
    "encoder_norm": "model.encoder.layer_norm", "head": "lm_head",
    "block": "model.decoder.layers.{layer}.", "encoder_block": "model.encoder.layers.{layer}.",
    "attention_norm": "self_attn_layer_norm", "ffn_norm": "ff_layer_norm",
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.out_proj", "cross_norm": "cross_attention_layer_norm",
    "cross_q": "cross_attention.q_proj", "cross_k": "cross_attention.k_proj",
    "cross_v": "cross_attention.v_proj", "cross_o": "cross_attention.out_proj",
    "w1": "ffn.fc1", "w2": "ffn.fc2", "router": "ffn.router.classifier",
    "expert": "ffn.experts.expert_{expert}.", "expert_w1": "fc1", "expert_w2": "fc2",
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """A row of the table.

    Parameters
    ----------
    names : mapping of str to str
        Names of the tensors by role.
    sizes : mapping of str to str
        Fields of config.json that differ from ``SIZES``.
    norm : str
    eps, theta : float
        Where config.json does not give them.
    positions : str
        ``rotary``, ``learned``, ``sinusoidal`` or ``relative``.
    interleaved : Flag
        How rotary positions pair elements.
    bias, output_bias, mlp_bias, head_bias, tied : Flag
    head_norm, sinks, latent : bool
        Features of attention.
    window : str
        Layers with a sliding window where config.json does not list them: ``all``,
        ``alternate`` (the first, third, ...) or ``upper`` (from max_window_layers on, and
        only with use_sliding_window).
    gated : bool
    activation : str
        Where config.json does not give it; ``swiglu_clamped`` overrides it.
    sparse : callable or None
        ``sparse(fields, layer, side)``: whether a layer of the ``encoder`` or ``decoder`` has
        experts; None for none.
    router : callable
    top_k : int
        Experts of a token where config.json has no field for it.
    refuse : tuple of (name, values, why)
        Fields whose value must be among some.
    """

    names: Mapping[str, str]
    sizes: Mapping[str, str] = field(default_factory=dict)
    norm: str = "rms"
    eps: float = 1e-6
    theta: float = 1e4
    positions: str = "rotary"
    interleaved: Flag = False
    bias: Flag = False
    output_bias: Flag = False
    mlp_bias: Flag = False
    head_bias: Flag = False
    tied: Flag = ("tie_word_embeddings", False)
    head_norm: bool = False
    sinks: bool = False
    latent: bool = False
    window: str = ""
    gated: bool = True
    activation: str = "silu"
    sparse: Callable[[Fields, int, str], bool] | None = None
    router: Callable[[Fields], Router] = lambda f: Router()
    top_k: int = 1
    refuse: tuple[tuple[str, tuple, str], ...] = ()


def _qwen3_sparse(f: Fields, layer: int, side: str) -> bool:
    dense = f.values.get("mlp_only_layers") or []
    if not isinstance(dense, list):
        f.fail(f"mlp_only_layers must be a list of layers, not {dense!r}")
    return layer not in dense and (layer + 1) % f.size("decoder_sparse_step", 1) == 0


def _step(first: int) -> Callable[[Fields, int, str], bool]:
    """Every step-th layer from layer ``first`` on, counted round where it is negative."""
    def sparse(f, layer, side):
        step = f.size(f"{side}_sparse_step", least=0)
        return step > 0 and layer % step == first % step
    return sparse


def _groups(f: Fields) -> dict:
    grouped = f.values.get("topk_method", "") != "greedy" and f.values.get("n_group")
    return {"groups": f.size("n_group"), "top_groups": f.size("topk_group")} if grouped else {}


_EVERY = {"sparse": lambda f, layer, side: True}
_MLA_ONLY = (("attention_bias", (None, False), "latent attention has no biases"),
             ("moe_layer_freq", (None, 1), "all layers after the first dense ones have experts"))
_DEEPSEEK = {
    "names": DEEPSEEK, "latent": True,
    "sizes": {"experts": "n_routed_experts|num_local_experts",
              "expert_width": "moe_intermediate_size"},
    "sparse": lambda f, layer, side: layer >= f.size("first_k_dense_replace", 0, least=0),
}

FAMILIES = {
    "llama": Family(names=LLAMA, bias=("attention_bias", False),
                    output_bias=("attention_bias", False), mlp_bias=("mlp_bias", False)),
    "mistral": Family(names=LLAMA, window="all"),
    "mixtral": Family(names=MIXTRAL, eps=1e-5, theta=1e6, window="all", **_EVERY),
    "qwen2": Family(names=LLAMA, bias=True, window="upper"),
    "qwen3": Family(names=LLAMA, bias=("attention_bias", False), head_norm=True, window="upper",
                    output_bias=("attention_bias", False)),
    "qwen3_moe": Family(
        names=LLAMA, bias=("attention_bias", False), output_bias=("attention_bias", False),
        head_norm=True, window="upper", sparse=_qwen3_sparse,
        sizes={"experts": "num_experts|num_local_experts", "expert_width": "moe_intermediate_size"},
        router=lambda f: Router(normalise=f.flag(("norm_topk_prob", False)))),
    "phimoe": Family(
        names=MIXTRAL, norm="layer", eps=1e-5, theta=1e6, window="all", **_EVERY,
        bias=("attention_bias", False), output_bias=("attention_bias", False),
        head_bias=("lm_head_bias", False),
        router=lambda f: Router(kind="sparse_mixer", normalise=False,
                                jitter=f.positive("router_jitter_noise", 0.01))),
    "gpt_oss": Family(
        names=GPT_OSS, eps=1e-5, theta=1.5e5, bias=("attention_bias", True), sinks=True,
        output_bias=("attention_bias", True), mlp_bias=True, window="alternate",
        activation="swiglu_clamped", router=lambda f: Router(bias=True), **_EVERY),
    "deepseek_v2": Family(
        **_DEEPSEEK, interleaved=True,
        refuse=(*_MLA_ONLY, ("norm_topk_prob", (None, False), "weights are not normalised"),
                ("scoring_func", (None, "softmax"), "scores go through a softmax"),
                ("topk_method", (None, "greedy", "group_limited_greedy"),
                 "the best are taken, of all or of the best groups")),
        router=lambda f: Router(normalise=False, **_groups(f),
                                scale=f.positive("routed_scaling_factor", 1.0))),
    "deepseek_v3": Family(
        **_DEEPSEEK, interleaved=("rope_interleave", True),
        refuse=(*_MLA_ONLY, ("scoring_func", (None, "sigmoid"), "scores go through a sigmoid")),
        router=lambda f: Router(kind="sigmoid", correction=True, **_groups(f),
                                normalise=f.flag(("norm_topk_prob", True)),
                                scale=f.positive("routed_scaling_factor", 2.5))),
    "opt": Family(
        names=OPT, norm="layer", eps=1e-5, positions="learned", gated=False, activation="relu",
        sizes={"width": "ffn_dim", "activation": "activation_function", "eps": ""},
        bias=("enable_bias", True), output_bias=("enable_bias", True),
        mlp_bias=("enable_bias", True), tied=("tie_word_embeddings", True),
        refuse=(("do_layer_norm_before", (None, True), "norms stand before what they feed"),
                ("_remove_final_layer_norm", (None, False), "there is a last norm"),
                ("layer_norm_elementwise_affine", (None, True), "norms have weights"))),
    "switch_transformers": Family(
        names=SWITCH, positions="relative", gated=False, activation="relu",
        tied=("tie_word_embeddings", True), sparse=_step(1),
        sizes={"hidden": "d_model", "width": "d_ff", "expert_width": "d_ff",
               "encoder_layers": "num_layers", "layers": "num_decoder_layers",
               "heads": "num_heads", "head_dim": "d_kv", "eps": "layer_norm_epsilon",
               "experts": "num_experts|num_local_experts", "top_k": "",
               "activation": "dense_act_fn"},
        router=lambda f: Router(normalise=False, bias=f.flag(("router_bias", False)),
                                capacity=f.size("expert_capacity", 64)),
        refuse=(("feed_forward_proj", (None, "relu"), "the feed-forward layers are not gated"),)),
    "nllb-moe": Family(
        names=NLLB, norm="layer", eps=1e-5, positions="sinusoidal", gated=False,
        activation="relu", bias=True, output_bias=True, mlp_bias=True, top_k=2,
        tied=("tie_word_embeddings", True), sparse=_step(-1),
        sizes={"hidden": "d_model", "width": "decoder_ffn_dim", "expert_width": "decoder_ffn_dim",
               "encoder_width": "encoder_ffn_dim", "encoder_layers": "encoder_layers",
               "layers": "decoder_layers", "heads": "decoder_attention_heads",
               "encoder_heads": "encoder_attention_heads", "eps": "",
               "experts": "num_experts|num_local_experts", "top_k": "",
               "activation": "activation_function"},
        router=lambda f: Router(bias=f.flag(("router_bias", False)),
                                scale=1 - f.share("moe_token_dropout", 0.2)),
        refuse=(("second_expert_policy", (None, "all"), "both experts of a token are used"),
                ("moe_eval_capacity_token_fraction", (None, 1, 1.0), "no token is dropped"))),
}
