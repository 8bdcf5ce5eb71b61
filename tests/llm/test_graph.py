"""The graph of a step: work and Op/B by closed formulas."""

import pytest

from logicpim.llm.graph import Batch, Place, even, operations
from logicpim.llm.presets import PRESETS, preset
from logicpim.llm.tensors import parameters

CONFIG = preset("mixtral-8x7b")
EXPERT = 4096 * 14336  # one matrix


def find(operations, name):
    return [o for o in operations if o.name == name]


def step(config, tokens, past, expert_tokens, source=0):
    batch = Batch(sequences=1, tokens=tokens, past=past, source=source)
    return operations(config, [batch], expert_tokens)


def test_decode():
    found = step(CONFIG, 1, 1023, [1] * 64)
    experts = [o for o in found if o.place == Place.LOGIC_PIM]
    assert sum(o.calls for o in experts) == 32 * 2 * 3
    assert sum(o.flops for o in experts) == 2 * 3 * 4096 * 14336 * 2 * 32
    assert all(0.99 < o.op_b < 1 for o in experts)
    # Grouped attention reads each key for four queries: 2 * 4 operations on 2 bytes.
    scores, = find(found, "attention scores")
    assert (scores.m, scores.n, scores.k, scores.calls) == (4, 1024, 128, 256)
    assert 3.8 < scores.op_b < 4


def test_op_b_grows_with_the_tokens_of_an_expert():
    up = find(step(CONFIG, 64, 0, [8, 8, 32]), "expert w1, w3")
    assert [(o.m, o.calls) for o in up] == [(8, 4), (32, 2)]
    assert 7.9 < up[0].op_b < 8 and 31 < up[1].op_b < 32


def weights(found):
    return sum(o.n * o.k * o.calls for o in found if o.k and "scores" not in o.name
               and o.name not in ("attention values", "cross-attention values"))


@pytest.mark.parametrize("name", PRESETS)
def test_weights_of_a_model(name):
    """One token through all experts uses each matrix once: the parameters, but no vectors."""
    config = preset(name)
    layers, side = len(config.expert_layers), config.blocks[config.encoder:]
    found = step(config, 1, 0, [1] * config.experts * sum(
        i >= config.encoder for i in config.expert_layers), source=1)
    used = weights(found)
    if config.encoder:
        assert layers == 2 * sum(b.ffn is config.moe or b.ffn == config.moe for b in side)
        used += weights(operations(config, [Batch(sequences=1, tokens=1)],
                                   [1] * config.experts * (layers // 2), encoder=True))
    total = parameters(config).total - (0 if config.tied else
                                        config.vocab_size * config.hidden_size)
    assert abs(used - total) < 0.003 * total


# Billions of parameters, but norms and biases, by arithmetic of others.
KNOWN = {
    "mixtral-8x7b": 46.7, "mixtral-8x22b": 140.6, "llama3-8b": 8.03, "llama3-70b": 70.6,
    "opt-66b": 65.7, "glam-143b": 142.8, "grok-1": 315.7, "deepseek-v2-lite": 15.7,
    "deepseek-v3": 671.0, "qwen3-30b-a3b": 30.5, "switch-base-128": 7.4,
    "switch-large-128": 26.3, "nllb-moe-54b": 54.5, "phi-3.5-moe": 41.9, "gpt-oss-20b": 20.9,
    "gpt-oss-120b": 116.8}


@pytest.mark.parametrize("name", PRESETS)
def test_sizes_of_presets(name):
    config = preset(name)
    billions = parameters(config).total / 1e9
    assert round(billions, len(str(KNOWN[name]).split(".")[1])) == KNOWN[name]
    if config.expert:
        two = ("glam-143b", "switch-base-128", "switch-large-128", "nllb-moe-54b")
        assert len(config.expert.matrices) == (2 if name in two else 3)


def test_head_dim_is_not_the_hidden_size_by_heads():
    for name, head_dim in (("qwen3-30b-a3b", 128), ("gpt-oss-20b", 64), ("grok-1", 128)):
        assert preset(name).blocks[0].attention.head_dim == head_dim
    # Latent attention keeps 512 + 64 elements of a token.
    assert preset("deepseek-v3").blocks[0].attention.cached == 576


def test_batches():
    """Dense layers see all tokens; each sequence has its own scores."""
    found = operations(CONFIG, [Batch(sequences=7, tokens=1, past=99),
                                Batch(sequences=1, tokens=50)])
    qkv, = find(found, "attention q, k, v")
    assert (qkv.m, qkv.n, qkv.k, qkv.calls) == (57, 6144, 4096, 32)
    decode, prefill = find(found, "attention scores")
    assert (decode.m, decode.n, decode.calls) == (4, 100, 32 * 7 * 8)
    assert (prefill.m, prefill.n, prefill.calls) == (200, 50, 32 * 8)
    head, = find(found, "language-model head")
    assert head.m == 8


def test_window():
    """A query of a windowed layer sees the window's keys; every second layer has one."""
    found = find(operations(preset("gpt-oss-20b"), [Batch(sequences=1, tokens=1, past=4095)]),
                 "attention scores")
    assert [(o.n, o.calls) for o in found] == [(128, 12 * 8), (4096, 12 * 8)]


def test_bytes_as_stored():
    batch = [Batch(sequences=1, tokens=1)]
    as_fp16, stored = (find(operations(preset("gpt-oss-20b"), batch, stored=flag),
                            "expert w2")[0] for flag in (False, True))
    assert as_fp16.calls == stored.calls == 24 * 4
    vectors = 2 * 2 * 2880
    assert as_fp16.bytes == 96 * (2 * 2880 * 2880 + vectors)
    assert stored.bytes == 96 * (2880 * 2880 // 2 + 2880 * 2880 // 32 + vectors)


def test_even():
    assert even(1, 8, 2) == [1, 1]
    assert sorted(even(5, 4, 2)) == [2, 2, 3, 3]
    assert even(64, 8, 2) == [16] * 8
