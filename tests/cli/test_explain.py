"""``--explain``, ``--costs`` and ``inspect --policy``: decisions for people and for machines."""

import json

import pytest

from logicpim.placement import SHARED
from logicpim.spec.presets import PRESETS

CHANNEL = PRESETS["channel"]


@pytest.fixture
def costs(tmp_path):
    """A table of a channel ten times slower than the rooflines."""
    rows = [{"kernel": "gemm", "weights": "fp16", "bundles": 4, "m": m, "n": n, "k": k,
             "cycles": 10 * n * k // 64 * max(1, m // 8)}
            for m in (1, 4, 8, 32, 64) for n in (8, 4096) for k in (16, 4096)]
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({
        "format": "logicpim cost table", "version": 1, "digest": CHANNEL.digest,
        "configuration": CHANNEL.as_dict(), "clock_hz": CHANNEL.clock_hz,
        "made": {"grid": "small"}, "rows": rows, "held_out": []}))
    return path


@pytest.fixture
def run(logicpim, bundled_model):
    def run(*options):
        return logicpim("run", bundled_model, "--backend", "reference", "--tokens", 2, "--prompt",
                        "Behold", *options)
    return run


def test_explained(run):
    """Each layer of each step: what ran there ran there, and a rule says why."""
    told = run("--policy", "duplex_pe_paper", "--explain", "--json").json
    assert told["costs"] == {"source": "roofline"}
    decisions = told["decisions"]
    assert [(d["step"], d["layer"]) for d in decisions] == [(s, i) for s in (0, 1)
                                                            for i in range(4)]
    assert {d["phase"] for d in decisions} == {"prefill", "decode"}
    on_xpu = sum(r["calls"] for r in told["placements"]
                 if (r["operation"], r["where"]) == ("expert w2", "xPU"))
    assert on_xpu == sum(i["where"] == "xPU" for d in decisions for i in d["items"]) > 0
    text = run("--explain").out
    assert "decode step 1, layer 3, experts" in text and "all experts run on Logic-PIM" in text
    assert "estimates: rooflines" in text
    assert "decisions" not in run("--json").json


@pytest.mark.parametrize("policy, where", [("xpu_only", "xPU"), ("duplex", "Logic-PIM"),
                                           ("opb_threshold", "Logic-PIM")])
def test_attention(run, policy, where):
    """Decode steps attend where the policy says; each layer and context is explained."""
    told = run("--policy", policy, "--attention", "policy", "--explain", "--json").json
    decisions = [d for d in told["decisions"] if d["what"] == "attention"]
    assert decisions and {i["where"] for d in decisions for i in d["items"]} == {where}
    assert {r["where"] for r in told["placements"] if r["phase"] == "decode"
            and r["operation"].startswith("attention scores")} == {where}


def test_costs(run, costs):
    """Where Logic-PIM was measured to be slow the experts go to the xPU; the output says so."""
    for options, where, source in (((), "Logic-PIM", "roofline"),
                                   (("--costs", costs), "xPU", "table")):
        told = run("--policy", "duplex_best_of", "--explain", "--json", *options).json
        assert {i["where"] for d in told["decisions"] for i in d["items"]} == {where}
        assert told["costs"]["source"] == source
    assert told["costs"]["digest"] == CHANNEL.digest and len(told["costs"]["sha256"]) == 64
    assert "as measured in" in run("--policy", "duplex_best_of", "--costs", costs).out
    run("--costs", costs, "--bundles", 2).refused("no points of gemm fp16 2")
    run("--costs", costs, "--set", "refresh=false").refused("another configuration", CHANNEL.digest)
    run("--costs", costs, "--attention", "policy").refused("no points of attention 4")
    run("--costs", "nothing.json").refused("cannot read nothing.json")


@pytest.mark.parametrize("policy", SHARED)
def test_inspect(logicpim, costs, policy):
    call = ("inspect", "mixtral-8x7b", "--stage", "mixed", "--batch", 3, "--policy", policy)
    told = logicpim(*call, "--json").json
    assert told["policy"] == policy and told["costs"]["source"] == "roofline"
    attention, experts = told["decisions"]
    assert (attention["what"], experts["what"]) == ("attention", "experts")
    assert sum(i["tokens"] for i in experts["items"]) == 2 * (3 + 512)
    assert [i["context"] for i in attention["items"]] == [513] * 3 + [512]
    text = logicpim(*call).out
    assert experts["why"] in text and attention["why"] in text


def test_inspect_kinds(logicpim):
    """A decision for each kind of layer; no experts, no decision on them."""
    told = logicpim("inspect", "gpt-oss-20b", "--policy", "duplex", "--json").json
    assert [d["what"] for d in told["decisions"]] == ["attention", "experts", "attention"]
    assert [d["items"][0]["context"] for d in told["decisions"] if d["what"] == "attention"] == [
        128, 513]
    told = logicpim("inspect", "llama3-8b", "--policy", "duplex", "--json").json
    assert [d["what"] for d in told["decisions"]] == ["attention"]
    assert "decisions" not in logicpim("inspect", "llama3-8b", "--json").json
