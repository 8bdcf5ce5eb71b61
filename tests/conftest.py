"""Models for the tests: the bundled one, and random ones of any shape."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from logicpim.llm.attention import NumpyAttention
from logicpim.llm.config import load_config
from logicpim.llm.tensors import tensor_shapes

BUNDLED = Path(__file__).resolve().parents[1] / "models" / "tiny-mixtral"

# No multiple of any tile; heads in groups of two.
SHAPE = {"model_type": "mixtral", "vocab_size": 259, "hidden_size": 21, "intermediate_size": 27,
         "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
         "num_local_experts": 4, "num_experts_per_tok": 2, "rms_norm_eps": 1e-5,
         "max_position_embeddings": 64, "hidden_act": "silu", "eos_token_id": 258,
         "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}


class Golden:
    """A prompt of a tiny model and what transformers makes of it; see make_family_goldens.py."""

    def __init__(self, row, logits):
        self.row, self.logits = row, logits

    def forced(self, model, experts, attends=None):
        """Logits of each position, the golden tokens fed."""
        prompt, tokens = self.row["prompt_token_ids"], self.row["token_ids"]
        attends = attends or NumpyAttention(model.config)
        cache = attends.cache(len(prompt) + len(tokens))
        ids, steps = model.start(prompt, cache, experts), []
        for token in tokens:
            steps.append(model.forward(ids, cache, experts, attends))
            ids = [token]
        return np.array(steps)

    def error(self, steps):
        """Of the logits that are known."""
        return np.abs(steps[self.row["logit_positions"]] - self.logits).max()

    def judge(self, steps):
        """Logits no further off than transformers' in FP16, tokens equal where its are."""
        best, row = steps.argmax(axis=-1), self.row
        assert self.error(steps) <= row["error_16"]
        assert all(mine == exact for mine, exact, half in zip(
            best, row["token_ids"], row["token_ids_16"], strict=True) if exact == half)


@pytest.fixture(scope="session")
def goldens():
    """Reads what is known of a tiny model's folder: a list of Golden."""
    def read(folder):
        with np.load(folder / "logits.npz") as packed:
            logits = packed["logits"]
        rows = json.loads((folder / "golden.json").read_text())["prompts"]
        return [Golden(*pair) for pair in zip(rows, logits, strict=True)]
    return read


@pytest.fixture(scope="session")
def bundled_model():
    return BUNDLED


@pytest.fixture
def make_model(tmp_path):
    """Makes a folder with random weights; keywords change config.json, None removes a key."""
    def make(name="model", *, dtype=np.float16, shards=1, edit=lambda tensors: None, **changes):
        folder = tmp_path / name
        folder.mkdir()
        values = {k: v for k, v in (SHAPE | changes).items() if v is not None}
        (folder / "config.json").write_text(json.dumps(values))
        random = np.random.default_rng(5)
        tensors = {}
        for tensor, shape in tensor_shapes(load_config(folder)).items():
            scale = 1 if len(shape) == 1 else 1.5 * shape[1] ** -0.5
            tensors[tensor] = (random.standard_normal(shape) * scale).astype(dtype)
        edit(tensors)
        save(folder, tensors, shards)
        byte_level = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {c: i for i, c in enumerate([*byte_level, "<s>", "<unk>", "</s>"])}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.save(str(folder / "tokenizer.json"))
        return folder
    return make


def save(folder, tensors, shards):
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return
    weight_map = {name: f"model-{i % shards}.safetensors" for i, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        save_file({n: t for n, t in tensors.items() if weight_map[n] == file}, folder / file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
