"""Tensors of a model folder: formats, shards, and one line for each thing that is wrong."""

import json

import ml_dtypes
import numpy as np
import pytest

from logicpim.llm.checkpoint import Checkpoint
from logicpim.llm.config import load_config
from logicpim.llm.tensors import tensor_shapes
from logicpim.spec.errors import ModelError

NORM = "model.norm.weight"
EXPERT = "model.layers.1.block_sparse_moe.experts.2.w3.weight"


def opened(folder):
    return Checkpoint(folder, load_config(folder))


def test_shards_hold_the_same(make_model):
    one, three = opened(make_model("one")), opened(make_model("three", shards=3))
    for name, shape in tensor_shapes(load_config(make_model("shape"))).items():
        values = one.read(name)
        assert values.dtype == np.float16 and values.shape == shape
        assert np.array_equal(values, three.read(name))


def to_bf16(folder):
    """Rewrites a float32 checkpoint as BF16, by the format's definition; returns what it holds."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, body, held = json.loads(data[8:8 + size]), b"", {}
    header.pop("__metadata__", None)
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + size + begin:8 + size + end], np.float32)
        held[name] = values.reshape(entry["shape"]).astype(ml_dtypes.bfloat16)
        header[name] = {"dtype": "BF16", "shape": entry["shape"],
                        "data_offsets": [len(body), len(body) + 2 * values.size]}
        body += held[name].tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return held


def test_bf16(make_model):
    folder = make_model(dtype=np.float32)
    held = to_bf16(folder)
    checkpoint = opened(folder)
    assert checkpoint.formats == {"BF16"}
    for name, values in held.items():
        assert np.array_equal(checkpoint.float32(name), values.astype(np.float32))
    assert np.array_equal(checkpoint.expert16(1, 2, "w3"), held[EXPERT].astype(np.float16))


def test_float32_is_rounded_for_logic_pim_only(make_model):
    checkpoint = opened(make_model(dtype=np.float32))
    assert checkpoint.formats == {"F32"}
    exact, rounded = checkpoint.float32(EXPERT), checkpoint.expert16(1, 2, "w3")
    assert rounded.dtype == np.float16 and np.any(rounded != exact)
    assert np.array_equal(rounded, exact.astype(np.float16))


def test_beyond_fp16(make_model):
    def edit(tensors):
        tensors[EXPERT][0, 0] = 70000
    with pytest.raises(ModelError, match="w3 of expert 2 in layer 1.*65504"):
        opened(make_model(dtype=np.float32, edit=edit)).expert16(1, 2, "w3")


def test_tied_needs_no_head(make_model):
    assert "lm_head.weight" not in tensor_shapes(load_config(make_model(tie_word_embeddings=True)))


def shorter(tensors):
    tensors[EXPERT] = tensors[EXPERT][:, :-1].copy()


def integers(tensors):
    tensors[NORM] = tensors[NORM].astype(np.int32)


@pytest.mark.parametrize("edit, words", [
    (lambda tensors: tensors.pop(EXPERT), [EXPERT, "missing", "[27, 21]"]),
    (shorter, [EXPERT, "[27, 20]", "[27, 21]"]),
    (integers, [NORM, "I32", "F16"]),
])
@pytest.mark.parametrize("shards", [1, 2])
def test_wrong_tensor(make_model, edit, words, shards):
    with pytest.raises(ModelError) as caught:
        opened(make_model(edit=edit, shards=shards))
    line = str(caught.value)
    assert "\n" not in line and all(word in line for word in words), line


@pytest.mark.parametrize("keep", [0, 5, 100, 2000, -1])
def test_truncated(make_model, keep):
    folder = make_model()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match="model.safetensors is truncated") as caught:
        opened(folder)
    assert "\n" not in str(caught.value)


def test_missing_files(make_model):
    folder = make_model()
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="neither model.safetensors nor"):
        opened(folder)
    folder = make_model("shards", shards=2)
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot read .*model-1.safetensors"):
        opened(folder)


def test_index_that_lies(make_model):
    folder = make_model(shards=2)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], "model-0.safetensors")
    path.write_text(json.dumps(index))
    with pytest.raises(ModelError, match="missing, though"):
        opened(folder)
    path.write_text('{"weight_map": 3}')
    with pytest.raises(ModelError, match="weight_map"):
        opened(folder)
