"""config.json: what is read from it, and one line for each thing that is wrong."""

import json

import pytest

from logicpim.llm.config import load_config
from logicpim.spec.errors import ModelError


def test_values(make_model):
    config = load_config(make_model())
    assert (config.hidden_size, config.intermediate_size, config.layers) == (21, 27, 2)
    assert config.expert_layers == (0, 1)
    a = config.blocks[0].attention
    assert (a.heads, a.kv_heads, a.group, a.head_dim, a.cached) == (4, 2, 2, 6, 24)
    assert (config.experts, config.top_k, config.norm.eps) == (4, 2, 1e-5)
    assert (a.rope.theta, config.tied, config.eos_ids) == (1000.0, False, (258,))


def theta(folder):
    return load_config(folder).blocks[0].attention.rope.theta


def test_places_of_rope_theta(make_model):
    old = make_model("old", rope_parameters=None, rope_theta=77.0)
    assert theta(old) == 77.0
    assert theta(make_model("none", rope_parameters=None)) == 1e6
    both = make_model("both", rope_theta=3.0)
    assert theta(both) == 1000.0


def test_head_dim_by_division(make_model):
    assert load_config(make_model(head_dim=None, hidden_size=24)).blocks[0].attention.head_dim == 6


def test_eos_of_generation_config_first(make_model):
    folder = make_model()
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    assert load_config(folder).eos_ids == (1, 2)


@pytest.mark.parametrize("changes, words", [
    ({"model_type": "bloom"}, ["model_type 'bloom'", "mixtral", "nllb-moe"]),
    ({"model_type": None}, ["model_type None", "mixtral"]),
    ({"hidden_size": None}, ["hidden_size is missing"]),
    ({"num_local_experts": None}, ["num_local_experts is missing"]),
    ({"hidden_size": "big"}, ["hidden_size", "'big'"]),
    ({"intermediate_size": 0}, ["intermediate_size", "0"]),
    ({"num_attention_heads": True}, ["num_attention_heads", "True"]),
    ({"num_attention_heads": 3}, ["num_attention_heads 3", "num_key_value_heads 2"]),
    ({"head_dim": 7}, ["head_dim 7 is odd"]),
    ({"num_experts_per_tok": 9}, ["9 experts per token", "than the 4"]),
    ({"hidden_act": "mish"}, ["hidden_act 'mish'", "silu"]),
    ({"hidden_act": 3}, ["hidden_act", "3"]),
    ({"sliding_window": -1}, ["sliding_window", "-1"]),
    ({"quantization_config": {"quant_method": "gptq"}}, ["quantization_config 'gptq'", "FP16"]),
    ({"quantization_config": {"quant_method": "mxfp4"}}, ["quantization_config 'mxfp4'", "FP16"]),
    ({"rope_parameters": {"rope_type": "dynamic", "factor": 2}}, ["rope_type 'dynamic'", "yarn"]),
    ({"rope_parameters": {"rope_type": "yarn"}}, ["factor", "None"]),
    ({"rope_parameters": {"rope_type": "llama3", "factor": 2}}, ["low_freq_factor"]),
    ({"rope_parameters": {"rope_type": "longrope", "short_factor": [1, 2]}},
     ["short_factor", "list of 3 numbers"]),
    ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, ["factor"]),
    ({"rope_parameters": {"partial_rotary_factor": 0.5}}, ["partial_rotary_factor"]),
    ({"rope_parameters": 7}, ["rope_parameters must be an object"]),
    ({"rope_parameters": None, "rope_theta": -1}, ["rope_theta", "-1"]),
    ({"rms_norm_eps": "x"}, ["rms_norm_eps", "'x'"]),
    ({"eos_token_id": "end"}, ["eos_token_id"]),
])
def test_refused(make_model, changes, words):
    folder = make_model()
    values = json.loads((folder / "config.json").read_text()) | changes
    text = json.dumps({k: v for k, v in values.items() if v is not None})
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        load_config(folder)
    line = str(caught.value)
    assert "\n" not in line and "config.json" in line and all(word in line for word in words), line


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_no_json(make_model, text):
    folder = make_model()
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ModelError, match="config.json"):
        load_config(folder)


def test_no_folder(tmp_path):
    with pytest.raises(ModelError, match="not a folder"):
        load_config(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="cannot read .*config.json"):
        load_config(tmp_path)


def test_a_file_alone(make_model):
    folder = make_model()
    assert load_config(folder / "config.json") == load_config(folder)


# As published: the fields that other versions of transformers wrote, and what they must give.
PUBLISHED = {
    "llama-3.1": ({
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 128256, "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "pretraining_tp": 1,
        "max_position_embeddings": 131072, "attention_bias": False, "mlp_bias": False,
        "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"}},
        lambda c: c.blocks[0].attention.rope.kind == "llama3"),
    "deepseek-v2-lite": ({
        "model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944,
        "moe_intermediate_size": 1408, "num_hidden_layers": 2, "num_attention_heads": 16,
        "num_key_value_heads": 16, "vocab_size": 102400, "n_routed_experts": 64,
        "n_shared_experts": 2, "num_experts_per_tok": 6, "q_lora_rank": None, "kv_lora_rank": 512,
        "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_group": 1,
        "topk_group": 1, "topk_method": "greedy", "norm_topk_prob": False, "moe_layer_freq": 1,
        "routed_scaling_factor": 1.0, "scoring_func": "softmax", "first_k_dense_replace": 1,
        "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707,
                         "mscale_all_dim": 0.707, "type": "yarn",
                         "original_max_position_embeddings": 4096}},
        # Of the published code: (0.1 * 0.707 * log(40) + 1) squared.
        lambda c: c.expert_layers == (1,) and c.moe.shared.width == 2816 and
        abs(c.blocks[0].attention.scale * 192 ** 0.5 - 1.2608038 ** 2) < 1e-6),
    "gpt-oss": ({
        "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "head_dim": 64,
        "num_hidden_layers": 2, "num_attention_heads": 64, "num_key_value_heads": 8,
        "vocab_size": 201088, "num_local_experts": 32, "num_experts_per_tok": 4,
        "experts_per_token": 4, "sliding_window": 128, "swiglu_limit": 7.0, "rope_theta": 150000,
        "layer_types": ["sliding_attention", "full_attention"], "eos_token_id": 200002,
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "rope_type": "yarn",
                         "original_max_position_embeddings": 4096, "truncate": False}},
        lambda c: [b.attention.window for b in c.blocks] == [128, 0] and c.storage == "mxfp4"
        and not c.blocks[0].attention.rope.values["truncate"]),
    "phi-3.5-moe": ({
        "model_type": "phimoe", "hidden_size": 4096, "intermediate_size": 6400,
        "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 32064, "num_local_experts": 16, "num_experts_per_tok": 2,
        "attention_bias": True, "lm_head_bias": True, "sliding_window": 131072,
        "original_max_position_embeddings": 4096, "max_position_embeddings": 131072,
        "rope_theta": 10000.0, "router_jitter_noise": 0.01, "rope_scaling": {
            "short_factor": [1.0] * 64, "long_factor": [2.0] * 64, "short_mscale": 1.25,
            "long_mscale": 1.25, "type": "longrope"}},
        lambda c: c.blocks[0].attention.rope.values["original_max_position_embeddings"] == 4096),
    "opt": ({
        "model_type": "opt", "hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 2,
        "num_attention_heads": 12, "vocab_size": 50272, "max_position_embeddings": 2048,
        "do_layer_norm_before": True, "word_embed_proj_dim": 768, "activation_function": "relu",
        "_remove_final_layer_norm": False},
        lambda c: c.tied and c.blocks[0].attention.bias and not c.blocks[0].ffn.gated),
    "switch": ({
        "model_type": "switch_transformers", "d_model": 768, "d_kv": 64, "d_ff": 3072,
        "num_layers": 4, "num_decoder_layers": 4, "num_heads": 12, "num_experts": 8,
        "encoder_sparse_step": 2, "decoder_sparse_step": 2, "vocab_size": 32128,
        "expert_capacity": 64, "feed_forward_proj": "relu", "decoder_start_token_id": 0},
        lambda c: c.expert_layers == (1, 3, 5, 7) and c.encoder == 4 and c.top_k == 1),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_as_published(tmp_path, name):
    values, holds = PUBLISHED[name]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert holds(load_config(tmp_path))
