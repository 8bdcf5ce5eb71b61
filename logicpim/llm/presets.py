# SPDX-License-Identifier: BSD-2-Clause
"""Well-known models by name, as their config.json has them, each with where the sizes are from.

They can be looked at, and evaluated, without a checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ..spec.errors import ModelError
from .config import parse_config
from .fields import Fields
from .kinds import Attention, Block, Mlp, ModelConfig, Moe, Rope


@dataclass(frozen=True)
class Preset:
    """Values of a config.json, or a model made here, and the source of its sizes."""

    source: str
    values: Mapping | ModelConfig

    def config(self, name: str) -> ModelConfig:
        """The model."""
        if isinstance(self.values, ModelConfig):
            return self.values
        return parse_config(Fields(f"preset {name}", dict(self.values)))


def _gqa(hidden, width, layers, heads, kv_heads, vocab, **more) -> dict:
    return {"hidden_size": hidden, "intermediate_size": width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab,
            **more}


def _attention(heads, kv_heads, head_dim, rope=None) -> Attention:
    return Attention(heads=heads, kv_heads=kv_heads, head_dim=head_dim, value_dim=head_dim,
                     scale=head_dim ** -0.5, rope=rope)


def _glam() -> ModelConfig:
    attention = _attention(32, 32, 128)
    mlp = Mlp(width=16384, activation="gelu", gated=False)
    pair = (Block(attention=attention, ffn=mlp),
            Block(attention=attention, ffn=Moe(experts=64, top_k=2, expert=mlp)))
    return ModelConfig(family="glam", vocab_size=256000, hidden_size=4096, blocks=pair * 16,
                       tied=True)


def _grok() -> ModelConfig:
    mlp = Mlp(width=32768, activation="gelu")
    block = Block(attention=_attention(48, 8, 128, Rope(dim=128, theta=1e4)),
                  ffn=Moe(experts=8, top_k=2, expert=mlp))
    return ModelConfig(family="grok-1", vocab_size=131072, hidden_size=6144, blocks=(block,) * 64,
                       tied=True, max_positions=8192)


_MIXTRAL = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2,
            "head_dim": 128, "rope_theta": 1e6, "sliding_window": None}
_LLAMA3 = {"model_type": "llama", "head_dim": 128, "rope_theta": 5e5, "rms_norm_eps": 1e-5,
           "max_position_embeddings": 8192}
_MLA = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
_SWITCH = {"model_type": "switch_transformers", "vocab_size": 32128, "d_kv": 64,
           "num_experts": 128, "encoder_sparse_step": 2, "decoder_sparse_step": 2}
_OSS = _gqa(2880, 2880, 36, 64, 8, 201088, model_type="gpt_oss", head_dim=64, sliding_window=128,
            num_local_experts=128, num_experts_per_tok=4, max_position_embeddings=131072,
            quantization_config={"quant_method": "mxfp4"},
            rope_scaling={"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                          "original_max_position_embeddings": 4096, "truncate": False},
            rope_theta=1.5e5)

PRESETS = {
    "mixtral-8x7b": Preset(
        "the authors' simulator of Duplex (scale-snu/LLMSimulator, model_config.h)",
        _gqa(4096, 14336, 32, 32, 8, 32000, max_position_embeddings=32768, **_MIXTRAL)),
    "mixtral-8x22b": Preset(
        "mistral-community/Mixtral-8x22B-v0.1; the instruct version's vocabulary may be larger",
        _gqa(6144, 16384, 56, 48, 8, 32000, max_position_embeddings=65536, **_MIXTRAL)),
    "llama3-8b": Preset("meta-llama/Meta-Llama-3-8B, as Llama 3.1 8B but for the context",
                        _gqa(4096, 14336, 32, 32, 8, 128256, **_LLAMA3)),
    "llama3-70b": Preset("Duplex, table I; the vocabulary is that of the family",
                         _gqa(8192, 28672, 80, 64, 8, 128256, **_LLAMA3)),
    "opt-66b": Preset("facebook/opt-66b", {
        "model_type": "opt", "hidden_size": 9216, "ffn_dim": 36864, "num_hidden_layers": 64,
        "num_attention_heads": 72, "vocab_size": 50272, "max_position_embeddings": 2048}),
    "glam-143b": Preset("Duplex, table I, and its authors' simulator; the activation, GELU, "
                        "two matrices in a dense layer and one embedding are assumed", _glam()),
    "grok-1": Preset("xai-org/grok-1, run.py and model.py", _grok()),
    "deepseek-v2-lite": Preset("deepseek-ai/DeepSeek-V2-Lite", _gqa(
        2048, 10944, 27, 16, 16, 102400, model_type="deepseek_v2", moe_intermediate_size=1408,
        n_routed_experts=64, num_experts_per_tok=6, n_shared_experts=2, first_k_dense_replace=1,
        topk_method="greedy", max_position_embeddings=163840, **_MLA)),
    "deepseek-v3": Preset("transformers, configuration_deepseek_v3.py", _gqa(
        7168, 18432, 61, 128, 128, 129280, model_type="deepseek_v3", moe_intermediate_size=2048,
        n_routed_experts=256, num_experts_per_tok=8, n_shared_experts=1, first_k_dense_replace=3,
        n_group=8, topk_group=4, q_lora_rank=1536, max_position_embeddings=163840, **_MLA)),
    "qwen3-30b-a3b": Preset("Qwen/Qwen3-30B-A3B", _gqa(
        2048, 6144, 48, 32, 4, 151936, model_type="qwen3_moe", head_dim=128, num_experts=128,
        num_experts_per_tok=8, moe_intermediate_size=768, norm_topk_prob=True, rope_theta=1e6,
        max_position_embeddings=40960)),
    "switch-base-128": Preset(
        "the artifact of Pre-gated MoE (ranggihwang/Pregated_MoE)",
        {**_SWITCH, "d_model": 768, "d_ff": 3072, "num_layers": 12, "num_decoder_layers": 12,
         "num_heads": 12}),
    "switch-large-128": Preset(
        "the artifact of Pre-gated MoE; heads as in flaxformer's switch_large.gin",
        {**_SWITCH, "d_model": 1024, "d_ff": 4096, "num_layers": 24, "num_decoder_layers": 24,
         "num_heads": 16}),
    "nllb-moe-54b": Preset(
        "the sizes of NLLB-3.3B with 128 experts in every fourth layer: 54.5 billion parameters",
        {"model_type": "nllb-moe", "vocab_size": 256206, "d_model": 2048, "encoder_layers": 24,
         "decoder_layers": 24, "encoder_ffn_dim": 8192, "decoder_ffn_dim": 8192,
         "encoder_attention_heads": 16, "decoder_attention_heads": 16, "num_experts": 128,
         "encoder_sparse_step": 4, "decoder_sparse_step": 4, "max_position_embeddings": 1024}),
    "phi-3.5-moe": Preset("transformers, configuration_phimoe.py", _gqa(
        4096, 6400, 32, 32, 8, 32064, model_type="phimoe", num_local_experts=16,
        num_experts_per_tok=2, attention_bias=True, lm_head_bias=True, sliding_window=131072,
        max_position_embeddings=131072)),
    "gpt-oss-20b": Preset("openai/gpt-oss-20b",
                          {**_OSS, "num_hidden_layers": 24, "num_local_experts": 32}),
    "gpt-oss-120b": Preset("transformers, configuration_gpt_oss.py", _OSS),
}


def preset(name: str) -> ModelConfig:
    """The model called ``name``. Raises ModelError with the list of those known."""
    if name not in PRESETS:
        raise ModelError(f"unknown model {name!r}: neither a folder or config.json, nor one of "
                         f"{', '.join(PRESETS)}")
    return PRESETS[name].config(name)
