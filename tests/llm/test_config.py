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
