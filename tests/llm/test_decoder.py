"""The decoder against transformers' golden files, and against itself where rules must hold."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from logicpim.llm.attention import KvCache
from logicpim.llm.checkpoint import Checkpoint
from logicpim.llm.config import load_config
from logicpim.llm.decoder import Model, NumpyExperts
from logicpim.llm.kinds import Mlp, Moe, Router
from logicpim.llm.ops import softmax
from logicpim.llm.routers import route
from logicpim.llm.tokenizer import Tokenizer
from logicpim.spec.errors import ModelError

GOLDEN = ["answered", "beginning", "elders", "grace"]
BOUND = 2e-5
"""Between two orders of float32 sums; the logits are below 20."""


def load(folder):
    config = load_config(folder)
    checkpoint = Checkpoint(folder, config)
    return Model(config, checkpoint), NumpyExperts(config, checkpoint)


@pytest.fixture(scope="module")
def bundled(bundled_model):
    return load(bundled_model)


@pytest.mark.parametrize("name", GOLDEN)
def test_equals_transformers(bundled, bundled_model, name):
    model, experts = bundled
    golden = json.loads((bundled_model / "golden" / f"{name}.json").read_text())
    with np.load(bundled_model / "golden" / "logits.npz") as packed:
        logits = dict(zip(golden["logit_positions"], packed[name], strict=True))
    tokenizer = Tokenizer(bundled_model, model.config.vocab_size)
    ids = tokenizer.encode(golden["prompt"])
    assert ids == golden["prompt_token_ids"]
    cache = KvCache(model.config, 256)
    tokens, step = [], ids
    for position in range(len(golden["token_ids"])):
        found = model.forward(step, cache, experts)
        if position in logits:
            assert np.abs(found - logits[position]).max() < BOUND
        step = [int(found.argmax())]
        tokens += step
    assert tokens == golden["token_ids"]
    assert tokenizer.continuation(ids, tokens) == golden["text"]


def test_prefill_equals_token_by_token(make_model):
    model, experts = load(make_model())
    ids = [3, 77, 200, 5, 5, 19, 120]
    whole, single = KvCache(model.config, 8), KvCache(model.config, 8)
    at_once = model.forward(ids, whole, experts)
    for token in ids:
        last = model.forward([token], single, experts)
    assert whole.length == single.length == 7
    assert np.abs(at_once - last).max() < 1e-5 and np.abs(at_once).max() > 1
    assert all(np.abs(a - b).max() < 1e-5
               for a, b in zip(whole.keys, single.keys, strict=True))


def test_the_order_of_tokens_counts(make_model):
    model, experts = load(make_model())
    a, b = (model.forward(ids, KvCache(model.config, 4), experts) for ids in ([1, 2, 3], [2, 1, 3]))
    assert np.abs(a - b).max() > 1e-3


def test_tied_head(make_model):
    tied = make_model("tied", tie_word_embeddings=True)
    held = load_file(tied / "model.safetensors")
    held["lm_head.weight"] = held["model.embed_tokens.weight"]
    untied = make_model("untied", edit=lambda tensors: tensors.update(held))
    logits = []
    for folder in (tied, untied):
        model, experts = load(folder)
        logits.append(model.forward([1, 2], KvCache(model.config, 2), experts))
    assert np.array_equal(*logits)


def test_route():
    scores = np.array([[0, 2, 1, -1], [5, 5, 5, 5], [-3, 0, 0, 1]], np.float32)
    indices, weights = route(Moe(experts=4, top_k=2, expert=Mlp(width=1)), scores)
    assert indices[0].tolist() == [1, 2] and indices[2].tolist()[0] == 3
    assert np.allclose(weights.sum(axis=-1), 1)
    assert np.allclose(weights[0], softmax(np.array([2.0, 1.0])))
    assert np.allclose(weights[1], 0.5)


def test_route_without_room():
    """The first two of an expert are served; the third goes without."""
    moe = Moe(experts=2, top_k=1, expert=Mlp(width=1), router=Router(normalise=False, capacity=2))
    indices, weights = route(moe, np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.float32))
    assert indices[:, 0].tolist() == [0, 0, 1, -1]
    share = 1 / (1 + np.exp(-1))
    assert np.allclose(weights[:, 0], [share, share, share, 0])


def test_route_by_groups():
    """Of three pairs the two best count, by their sum; the bias chooses but does not weigh."""
    router = Router(kind="sigmoid", correction=True, groups=3, top_groups=2, scale=2.0)
    moe = Moe(experts=6, top_k=2, expert=Mlp(width=1), router=router)
    scores = np.array([[3, -9, 1, 1, 0, 2]], np.float32)
    indices, weights = route(moe, scores, np.zeros(6, np.float32))
    assert indices[0].tolist() == [5, 2]
    s2, s1 = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))
    assert np.allclose(weights[0], [2 * s2 / (s2 + s1), 2 * s1 / (s2 + s1)])
    indices, weights = route(moe, scores, np.array([0, 0, 0, 1, 0, 0], np.float32))
    assert indices[0].tolist() == [3, 5] and np.allclose(weights[0, 1], 2 * s2 / (s2 + s1))


def test_tokenizer_refuses(make_model):
    folder = make_model()
    with pytest.raises(ModelError, match="no tokens"):
        Tokenizer(folder, 259).encode("")
    with pytest.raises(ModelError, match="knows only 10"):
        Tokenizer(folder, 10).encode("hello")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be read"):
        Tokenizer(folder, 259)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="missing"):
        Tokenizer(folder, 259)


def test_continuation_of_split_characters(make_model):
    tokenizer = Tokenizer(make_model(), 259)
    ids = tokenizer.encode("a\N{SNOWMAN}b")
    assert len(ids) == 5
    assert tokenizer.continuation(ids[:1], ids[1:]) == "\N{SNOWMAN}b"
