"""Each family against what transformers says of a tiny random model of it, of odd sizes.

The folders are made by scripts/make_family_goldens.py.
"""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from logicpim.llm.attention import KvCache
from logicpim.llm.checkpoint import Checkpoint
from logicpim.llm.config import load_config, parse_config
from logicpim.llm.decoder import Model, NumpyExperts
from logicpim.llm.families import FAMILIES
from logicpim.llm.fields import Fields
from logicpim.spec.errors import ModelError

FOLDERS = {path.parent.name: path.parent
           for path in sorted(Path(__file__).parent.glob("families/*/golden.json"))}
BOUND = 2e-4
"""Between two orders of float32 sums; the logits are below 50, transformers in FP16 is some 0.05
off."""


def load(folder):
    config = load_config(folder)
    checkpoint = Checkpoint(folder, config)
    return Model(config, checkpoint), NumpyExperts(config, checkpoint) if config.moe else None


@pytest.mark.parametrize("name", FOLDERS)
def test_equals_transformers(goldens, name):
    model, experts = load(FOLDERS[name])
    for golden in goldens(FOLDERS[name]):
        steps = golden.forced(model, experts)
        print(f"error {golden.error(steps):.3g}, FP16 {golden.row['error_16']:.3g}")
        golden.judge(steps)
        assert golden.error(steps) < BOUND


def test_every_family_is_judged():
    assert {load_config(folder).family for folder in FOLDERS.values()} == set(FAMILIES)


@pytest.mark.parametrize("name", FOLDERS)
def test_sizes_are_no_multiples_of_a_tile(name):
    config = load_config(FOLDERS[name])
    if config.storage == "mxfp4":  # which comes in blocks of 32
        return
    assert config.hidden_size % 8 and config.vocab_size % 8
    assert config.expert is None or config.intermediate_size % 8 and config.experts % 4


def damaged(tmp_path, name, edit):
    folder = tmp_path / name
    shutil.copytree(FOLDERS[name], folder)
    edit(folder)
    return folder


@pytest.mark.parametrize("name, field, wrong", [
    ("mistral", "sliding_window", None), ("qwen2", "use_sliding_window", False),
    ("gpt_oss", "swiglu_limit", 0.5), ("deepseek_v2", "routed_scaling_factor", 1.0),
    ("deepseek_v3", "topk_group", 1), ("phimoe", "router_jitter_noise", 0.3),
    ("qwen3_moe", "norm_topk_prob", False), ("switch", "expert_capacity", 64),
    ("switch", "relative_attention_max_distance", 60), ("nllb-moe", "moe_token_dropout", 0.0),
    ("nllb-moe", "scale_embedding", False), ("qwen3", "rms_norm_eps", 0.1),
    ("deepseek_v3", "rope_interleave", False), ("llama", ".high_freq_factor", 4.0),
    ("llama", ".low_freq_factor", 0.5), ("llama-linear", ".factor", 2.0),
    ("gpt_oss", ".truncate", True), ("gpt_oss", ".beta_fast", 8.0),
    ("phimoe", ".short_mscale", 1.0), ("deepseek_v2", ".mscale", 0.8),
    ("deepseek_v2", ".mscale_all_dim", 0.8)])
def test_the_golden_files_see(goldens, tmp_path, name, field, wrong):
    """A constant that is read wrong shows: the fixtures exercise it."""
    def edit(folder):
        values = json.loads((folder / "config.json").read_text())
        at = values["rope_parameters"] if field[0] == "." else values
        assert at[field.strip(".")] != wrong
        at[field.strip(".")] = wrong
        (folder / "config.json").write_text(json.dumps(values))
    folder = damaged(tmp_path, name, edit)
    model, experts = load(folder)
    errors = [golden.error(golden.forced(model, experts)) for golden in goldens(folder)]
    assert max(errors) > 10 * BOUND


@pytest.mark.parametrize("name, wrong", [
    (name, field) for name in FOLDERS
    for field in FAMILIES[load_config(FOLDERS[name]).family].refuse])
def test_what_is_not_supported(name, wrong):
    """The table's refusals, each with its reason."""
    field, allowed, why = wrong
    values = json.loads((FOLDERS[name] / "config.json").read_text())
    value = next(v for v in (True, False, "other", 0.5) if v not in allowed)
    with pytest.raises(ModelError) as caught:
        parse_config(Fields("config.json", values | {field: value}))
    assert all(word in str(caught.value) for word in ("config.json", field, repr(value), why))


def test_unknown_family(tmp_path):
    def edit(folder):
        (folder / "config.json").write_text('{"model_type": "bloom"}')
    with pytest.raises(ModelError, match="'bloom' is not known; known are llama, ") as caught:
        load_config(damaged(tmp_path, "llama", edit))
    assert all(family in str(caught.value) for family in FAMILIES)


def test_shard_with_damaged_values(tmp_path):
    """Bytes of a shard that became no number are found when the tensor is read."""
    def edit(folder):
        shard = sorted(folder.glob("model-*.safetensors"))[1]
        data = bytearray(shard.read_bytes())
        data[-2:] = b"\xff\x7f"
        shard.write_bytes(data)
    folder = damaged(tmp_path, "mistral", edit)
    with pytest.raises(ModelError, match="no finite numbers.*fetch it again") as caught:
        load(folder)
    assert "model-00002" in str(caught.value) and "\n" not in str(caught.value)


def test_mxfp4_needs_whole_blocks(tmp_path):
    def edit(folder):
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(values | {"hidden_size": 60}))
    with pytest.raises(ModelError, match="multiples of 32"):
        load_config(damaged(tmp_path, "gpt_oss-mxfp4", edit))


def fields(values):
    """Paths to the fields of a config.json, those of an object in it too."""
    for key, value in values.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, inner) for inner in value)


WRONG = ["x", -1, 0, 1.5, 1 << 50, [], {"a": 1}, True, None, float("inf")]


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("wrong", [pytest.param(w, marks=[] if w in ("x", -1, []) else
                                                pytest.mark.full) for w in WRONG], ids=repr)
def test_a_wrong_field_is_one_line(name, wrong):
    """Whatever stands in config.json, the model works or one line says why not."""
    folder = FOLDERS[name]
    values = json.loads((folder / "config.json").read_text())
    for path in fields(values):
        changed = copy.deepcopy(values)
        at = changed[path[0]] if len(path) > 1 else changed
        if wrong is None:
            del at[path[-1]]
        else:
            at[path[-1]] = wrong
        try:
            config = parse_config(Fields("config.json", changed))
            model = Model(config, Checkpoint(folder, config))
            cache = KvCache(config, 8)
            with np.errstate(all="ignore"):
                ids = model.start([4, 5, 6], cache, lambda layer, x, *_: x)
                model.forward(ids, cache, lambda layer, x, *_: x)
        except ModelError as error:
            assert "\n" not in str(error)


def test_a_damaged_header_is_one_line(tmp_path, seed):
    """Bits that flip in the head of a file: it is refused, or what it names is still right."""
    folder = damaged(tmp_path, "qwen3", lambda folder: None)
    path = folder / "model.safetensors"
    sound, random = path.read_bytes(), np.random.default_rng(seed)
    config, refused = load_config(folder), 0
    for _ in range(150):
        data = bytearray(sound)
        data[random.integers(0, 2000)] ^= 1 << random.integers(0, 8)
        path.write_bytes(data)
        try:
            Model(config, Checkpoint(folder, config))
        except ModelError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50
