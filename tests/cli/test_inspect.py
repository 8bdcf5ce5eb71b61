"""``logicpim inspect``: its table, its keys, and one line for what is wrong."""

import json
from pathlib import Path

import pytest

FAMILIES = Path(__file__).resolve().parents[1] / "llm" / "families"


def total(result, key, *, where=None, word=""):
    return sum(r[key] for r in result["operations"]
               if where in (None, r["where"]) and word in r["operation"])


def test_decode(logicpim):
    """32 sequences of Mixtral 8x7B: each of 8 experts serves 8 tokens, at 8 Op/B."""
    result = logicpim("inspect", "mixtral-8x7b", "--batch", 32, "--context", 2048, "--json").json
    assert result["parameters"]["one_expert"] == 3 * 4096 * 14336
    assert result["weight_bytes"] == 2 * result["parameters"]["total"]
    assert result["kv_bytes_per_token"] == 2 * 32 * 2 * 8 * 128
    assert (result["experts"], result["top_k"], result["expert_matrices"]) == (8, 2, 3)
    experts = [r for r in result["operations"] if r["where"] == "Logic-PIM"]
    assert [(r["m"], r["n"], r["k"], r["calls"]) for r in experts] == [
        (8, 14336, 4096, 2 * 8 * 32), (8, 4096, 14336, 8 * 32)]
    assert all(r["flops"] == 2 * r["m"] * r["n"] * r["k"] * r["calls"] for r in experts)
    assert all(7.9 < r["op_b"] < 8 for r in experts)
    assert result["flops"] == total(result, "flops") and result["bytes"] == total(result, "bytes")


def test_stages(logicpim):
    """A mixed stage does the decode's scores and the prefill's, and its experts see all tokens."""
    decode, prefill, mixed = (
        logicpim("inspect", "llama3-8b", "--batch", batch, "--lin", 100, "--context", 50,
                 "--stage", stage, "--json").json
        for stage, batch in (("decode", 6), ("prefill", 1), ("mixed", 6)))
    for word in ("scores", "attention values", "output"):
        assert total(mixed, "flops", word=word) == sum(total(r, "flops", word=word)
                                                       for r in (decode, prefill))
    ffn, = (r for r in mixed["operations"] if r["operation"] == "feed-forward w2")
    assert (ffn["m"], ffn["calls"]) == (106, 32)
    assert total(mixed, "bytes", word="feed-forward w2") < sum(
        total(r, "bytes", word="feed-forward w2") for r in (decode, prefill))


def test_encoder(logicpim):
    prefill = logicpim("inspect", "switch-base-128", "--stage", "prefill", "--lin", 64,
                       "--json").json
    encoder = [r for r in prefill["operations"] if r["part"] == "encoder"]
    assert {r["m"] for r in encoder if r["operation"] == "attention output"} == {64}
    cross, = (r for r in encoder if r["operation"] == "cross-attention k, v")
    assert (cross["m"], cross["n"], cross["calls"]) == (64, 2 * 768, 12)
    decode = logicpim("inspect", "switch-base-128", "--lin", 64, "--json").json
    assert {r["part"] for r in decode["operations"]} == {"decoder"}
    scores, = (r for r in decode["operations"] if r["operation"] == "cross-attention scores")
    assert (scores["m"], scores["n"], scores["calls"]) == (1, 64, 12 * 12)


def test_folder_and_file(logicpim, make_model, bundled_model):
    folder = make_model()
    whole = logicpim("inspect", folder, "--lin", 8, "--json").json
    (folder / "model.safetensors").unlink()
    bare = logicpim("inspect", folder, "--lin", 8, "--json").json
    alone = logicpim("inspect", folder / "config.json", "--lin", 8, "--json").json
    assert whole["operations"] == bare["operations"] == alone["operations"]
    text = logicpim("inspect", bundled_model).out  # made for 256 tokens
    assert "after 128" in text
    assert "expert w1, w3" in text and "Op/B" in text and "{" not in text


def test_every_family(logicpim):
    for folder in sorted(FAMILIES.iterdir()):
        for stage in ("prefill", "decode", "mixed"):
            result = logicpim("inspect", folder, "--stage", stage, "--lin", 20, "--json").json
            assert all(r["flops"] > 0 and r["bytes"] > 0 for r in result["operations"])


def test_memory(logicpim):
    """Eight stacks of 16 GiB hold Mixtral 8x7B and 32 sequences; five do not hold its experts."""
    options = ("--batch", 32, "--context", 4095, "--memory", "paper")
    found = logicpim("inspect", "mixtral-8x7b", *options, "--stacks", 8, "--json").json["memory"]
    assert sum(map(sum, found.values())) <= 8 << 34
    assert found["KV cache"][3] == 0 and sum(found["KV cache"]) == 32 * 4096 * 131072
    assert sum(found["experts"]) == 2 * 32 * 8 * 3 * 4096 * 14336
    assert sum(found["prefill"]) == 0
    text = logicpim("inspect", "mixtral-8x7b", *options, "--stacks", 8).out
    assert "space 3" in text and "free" in text
    logicpim("inspect", "mixtral-8x7b", *options, "--stacks", 5).refused(
        "would hold", "experts", "more stacks")
    logicpim("inspect", "mixtral-8x7b", "--memory", "huge").refused("huge")


def test_wrong(logicpim, make_model):
    logicpim("inspect", "gpt-5").refused("unknown model 'gpt-5'", "mixtral-8x7b", "folder")
    logicpim("inspect", "opt-66b", "--context", 2048).refused("2049 tokens", "2048", "--context")
    folder = make_model()
    (folder / "model.safetensors").write_bytes(b"x")
    logicpim("inspect", folder, "--lin", 8).refused("truncated")
    (folder / "config.json").write_text(json.dumps({"model_type": "rwkv"}))
    logicpim("inspect", folder).refused("'rwkv' is not known", "llama", "gpt_oss")


@pytest.mark.parametrize("option", ["--batch", "--lin"])
def test_wrong_numbers(logicpim, option):
    logicpim("inspect", "grok-1", option, "0").refused(option, "'0'")
