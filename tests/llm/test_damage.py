"""Damaged model folders: one line with the cause and the cure, whatever the damage."""

import json

import numpy as np
import pytest

from logicpim.llm.checkpoint import Checkpoint
from logicpim.llm.config import load_config
from logicpim.llm.decoder import Model, NumpyExperts
from logicpim.spec.errors import ModelError


def use(folder):
    """Read everything, as decoding does."""
    config = load_config(folder)
    checkpoint = Checkpoint(folder, config)
    return Model(config, checkpoint), NumpyExperts(config, checkpoint)


def refused(folder, *words):
    with pytest.raises(ModelError) as caught:
        use(folder)
    line = str(caught.value)
    assert "\n" not in line and all(word in line for word in words), line


def shard(folder, number=1):
    return folder / f"model-{number}.safetensors"


@pytest.mark.parametrize("keep", [0, 7, 8, 300, -1])
def test_truncated_shard(make_model, keep):
    folder = make_model(shards=3)
    shard(folder).write_bytes(shard(folder).read_bytes()[:keep])
    refused(folder, "model-1.safetensors is truncated", "fetch it again")


@pytest.mark.parametrize("length", [0, 3, 1 << 20, 1 << 62, (1 << 64) - 1])
def test_wrong_length_of_header(make_model, length):
    folder = make_model(shards=2)
    data = shard(folder).read_bytes()
    shard(folder).write_bytes(length.to_bytes(8, "little") + data[8:])
    refused(folder, "model-1.safetensors is truncated or no safetensors file", "fetch it again")


@pytest.mark.parametrize("change", [
    lambda entry: entry.update(shape=[1 << 40, 1 << 40]), lambda entry: entry.pop("shape"),
    lambda entry: entry.update(dtype="F13"), lambda entry: entry.update(data_offsets=[5, 2]),
    lambda entry: entry.update(data_offsets=[0, 1 << 50])])
def test_wrong_header(make_model, change):
    """A header that is JSON but does not describe what follows."""
    folder = make_model(shards=2)
    data = shard(folder).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    change(next(entry for name, entry in header.items() if name != "__metadata__"))
    text = json.dumps(header).encode()
    shard(folder).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size:])
    refused(folder, "model-1.safetensors", "fetch it again")


def test_any_damage(make_model, seed):
    """Bytes changed and cut at random: refused in one line, or other numbers that are finite."""
    folder, random = make_model(shards=2), np.random.default_rng(seed)
    whole, told = shard(folder).read_bytes(), 0
    size = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(60):
        data = bytearray(whole)
        for at in random.integers(0, random.choice([8, size, len(data)]), random.integers(1, 5)):
            data[at] = random.integers(256)
        shard(folder).write_bytes(data[:random.integers(len(data))] if random.random() < 0.2
                                  else data)
        try:
            use(folder)
        except ModelError as error:
            told += 1
            assert "\n" not in str(error) and len(str(error)) < 1000
    assert told > 20


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tensor", [
    "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.input_layernorm.weight",
    "model.layers.1.self_attn.k_proj.weight", "model.layers.0.block_sparse_moe.gate.weight",
    "model.layers.1.block_sparse_moe.experts.3.w2.weight"])
def test_no_numbers(make_model, tensor, value):
    def edit(tensors):
        tensors[tensor].reshape(-1)[-1] = value
    refused(make_model(edit=edit), tensor, "no finite numbers", "fetch it again")


def test_files_missing_or_no_text(make_model):
    folder = make_model(shards=2)
    shard(folder).unlink()
    refused(folder, "cannot read", "model-1.safetensors", "No such file")
    for name in ("model.safetensors.index.json", "config.json"):
        for data, words in ((b"\xff\xfe{", "not"), (b"", "not valid JSON"), (b"[]", "")):
            (folder / name).write_bytes(data)
            refused(folder, name, words)


def test_tensor_missing(make_model):
    for shards in (1, 3):
        folder = make_model(f"of{shards}", shards=shards,
                            edit=lambda t: t.pop("model.layers.1.self_attn.o_proj.weight"))
        refused(folder, "model.layers.1.self_attn.o_proj.weight is missing", "fetch")
