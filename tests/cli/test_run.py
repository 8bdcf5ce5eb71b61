"""``logicpim run`` on the reference: golden tokens, what is printed, one line for what is wrong."""

import json
from pathlib import Path

import pytest

from logicpim.llm.tokenizer import Tokenizer

KEYS = {"text", "token_ids", "matches_reference", "placements", "cycles", "bandwidth_efficiency",
        "wall_s"}


@pytest.fixture
def run(logicpim):
    def call(model, *more, prompt="In the beginning"):
        return logicpim("run", model, "--prompt", prompt, "--backend", "reference", *more)
    return call


@pytest.mark.parametrize("name", ["beginning", "elders"])
def test_golden(run, bundled_model, name):
    golden = json.loads((bundled_model / "golden" / f"{name}.json").read_text())
    result = run(bundled_model, "--json", prompt=golden["prompt"]).json
    assert KEYS <= set(result)
    assert result["token_ids"] == golden["token_ids"] and result["text"] == golden["text"]
    assert result["matches_reference"] is True and result["cycles"] is None
    assert {row["where"] for row in result["placements"]} == {"xPU", "Logic-PIM"}


def test_policy(run, bundled_model):
    """Co-processing takes the experts with most tokens of the prompt to the xPU, the rest stays."""
    golden = json.loads((bundled_model / "golden" / "beginning.json").read_text())
    result = run(bundled_model, "--tokens", 8, "--policy", "duplex_pe_paper", "--json").json
    assert result["policy"] == "duplex_pe_paper"
    assert result["token_ids"] == golden["token_ids"][:8]
    rows = {(r["operation"], r["where"]): r for r in result["placements"]
            if r["phase"] == "prefill" and r["operation"].startswith("expert")}
    here, there = rows["expert w2", "xPU"], rows["expert ffn", "Logic-PIM"]
    assert here["m"][0] >= there["m"][0]
    for row, where in ((here, "xPU"), (there, "Logic-PIM")):
        assert rows["expert activation", where]["m"] == row["m"]
    run(bundled_model, "--policy", "luck").refused("luck", "duplex_pe_paper")


def test_attention(run, bundled_model):
    """Decode steps attend on Logic-PIM, the prompt on the xPU; on request all of it there."""
    golden = json.loads((bundled_model / "golden" / "beginning.json").read_text())

    def call(*more):
        result = run(bundled_model, "--tokens", 8, "--json", *more).json
        assert result["token_ids"] == golden["token_ids"][:8]
        return result["attention"], {
            (r["phase"], r["operation"]): r for r in result["placements"]
            if r["operation"].startswith("attention s") and r["where"] == "Logic-PIM"}

    kind, rows = call()
    past = len(golden["prompt_token_ids"])
    assert kind == "pim" and set(rows) == {("decode", "attention scores, values"),
                                           ("decode", "attention softmax")}
    products = rows["decode", "attention scores, values"]
    contexts = range(past + 1, past + 8)
    assert products["weight_bytes"] == 4 * 2 * sum(contexts) * 2 * 16 * 2  # layers, heads, K and V
    assert products["n"] == [min(16, past + 1), max(16, past + 7)]
    for more in (["--attention", "xpu"], ["--attention", "policy", "--policy", "xpu_only"]):
        assert call(*more) == (more[1], {})
    assert call("--attention", "policy", "--policy", "opb_threshold")[1].keys() == rows.keys()


def test_what_cannot_attend(run, make_model, logicpim):
    folder = make_model()
    called = run(folder, "--tokens", 3, "--set", "functions=false", "--json", prompt="ab")
    assert "attention runs on the xPU: there is no softmax module" in called.err
    assert not any(r["operation"].startswith("attention") for r in called.json["placements"]
                   if r["where"] == "Logic-PIM")
    called = logicpim("run", FAMILIES / "switch", "--prompt-ids", "5,6", "--tokens", 2,
                      "--backend", "reference", "--json")
    assert "attention runs on the xPU: its scores have a bias" in called.err and called.json


def test_for_people(run, bundled_model):
    golden = json.loads((bundled_model / "golden" / "beginning.json").read_text())
    result = run(bundled_model, "--tokens", 8)
    text, rest = result.out.split("\n", 1)
    assert golden["text"].startswith(text.removeprefix(golden["prompt"])) and len(text) > 20
    assert "Logic-PIM" in rest and "{" not in rest


def test_check_against_itself(run, bundled_model):
    assert run(bundled_model, "--tokens", 3, "--check", "--json").json["matches_reference"]


@pytest.mark.parametrize("config", [["--config", "small", "--set", "dram.rows=1024"],
                                    ["--channels", "4"]])
def test_configuration_changes_no_token(run, make_model, config):
    folder = make_model()
    one = run(folder, "--tokens", 6, "--json", prompt="ab").json
    other = run(folder, "--tokens", 6, "--json", *config, prompt="ab").json
    assert (one["token_ids"], one["text"]) == (other["token_ids"], other["text"])


def test_ends_with_the_text(run, make_model):
    folder = make_model()
    ids = run(folder, "--tokens", 6, "--json", "--ignore-eos", prompt="ab").json["token_ids"]
    assert len(ids) == 6
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids[2]}))
    short = run(folder, "--tokens", 6, "--json", prompt="ab").json
    kept = ids[:ids.index(ids[2])]
    assert short["token_ids"] == [*kept, ids[2]]
    assert short["text"] == Tokenizer(folder, 259).continuation(
        short["prompt_token_ids"], kept)


def test_rounding_is_said(run, make_model):
    import numpy as np
    result = run(make_model(dtype=np.float32), "--tokens", 2, "--json", prompt="ab")
    assert result.json["rounded_to_fp16"] == ["F32"]
    assert "rounded to FP16" in result.err


FAMILIES = Path(__file__).resolve().parents[1] / "llm" / "families"


@pytest.mark.parametrize("name", ["gpt_oss", "opt", "nllb-moe"])
def test_prompt_ids(logicpim, name):
    golden = json.loads((FAMILIES / name / "golden.json").read_text())["prompts"][0]
    ids = golden["prompt_token_ids"]
    called = logicpim("run", FAMILIES / name, "--prompt-ids", ",".join(map(str, ids)),
                      "--tokens", 5, "--backend", "reference", "--ignore-eos", "--json")
    result = called.json
    assert ("no experts" in called.err) == (name == "opt")
    assert result["prompt_token_ids"] == ids and result["token_ids"] == golden["token_ids"][:5]
    assert result["text"] == "".join(f" {i}" for i in result["token_ids"])
    assert {row["where"] for row in result["placements"]} == {"xPU", "Logic-PIM"}


def test_first_id(logicpim):
    """The answer begins with it, and goes on as if it had been the best."""
    def call(*more):
        return logicpim("run", FAMILIES / "nllb-moe", "--prompt-ids", "7,8,9", "--tokens", 6,
                        "--backend", "reference", "--ignore-eos", "--json", *more)
    plain = call().json["token_ids"]
    assert call("--first-id", plain[0]).json["token_ids"] == plain
    other = call("--first-id", 50).json["token_ids"]
    assert other[0] == 50 and other[1:] != plain[1:]
    call("--first-id", 109).refused("token 109 of --first-id", "has 109")


def test_wrong_prompt_ids(logicpim):
    for ids, words in (("5,x", ["token ids", "'5,x'"]), ("", ["token ids"]),
                       ("5,131", ["token 131", "has 131"])):
        logicpim("run", FAMILIES / "mixtral", "--prompt-ids", ids).refused(*words)
    logicpim("run", FAMILIES / "mixtral", "--prompt-ids", ",".join(["5"] * 90), "--tokens", 9,
             "--backend", "reference").refused("90 prompt tokens and 9 more are 99", "96")
    logicpim("run", FAMILIES / "mixtral", "--prompt", "a").refused("tokenizer.json is missing")


@pytest.mark.parametrize("more, first", [
    (["--weights", "int8"], " of the first year of the first year"),
    (["--weights", "int8", "--scale-group", 32], " of the first year of the first year"),
    (["--weights", "fp8_e4m3"], " of the first year of the LORD")])
def test_quantised(run, bundled_model, more, first):
    """Sense, and what FP16 says at first; half the bytes in the experts."""
    result = run(bundled_model, "--tokens", 16, "--json", *more).json
    assert result["text"].startswith(first) and result["weights"] == more[1]
    pim = [row for row in result["placements"] if row["where"] == "Logic-PIM"
           and row["operation"].startswith("expert")]
    assert all(row["weight_bytes"] == row["calls"] * row["n"][0] * row["k"][0] for row in pim)
    assert all(1.9 < row["op_b"] for row in pim if row["phase"] == "decode")


def test_missing_folder(run):
    run("nowhere").refused("nowhere is not a folder", "config.json")


def broken_json(folder):
    (folder / "config.json").write_text("{")


def truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def no_number(folder):
    """The last of the tensors, as the file has them, ends in a NaN: a router's or an expert's."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2] + b"\xff\x7e")


@pytest.mark.parametrize("damage, words", [
    (no_number, ["tensor model.", "no finite numbers", "fetch it again"]),
    (broken_json, ["config.json", "not valid JSON"]),
    (truncated, ["model.safetensors is truncated", "fetch it again"]),
    (no_tokenizer, ["tokenizer.json is missing", "token ids"]),
])
def test_damaged(run, make_model, damage, words):
    folder = make_model()
    damage(folder)
    before = sorted(folder.iterdir())
    run(folder, "--tokens", 4, "--json").refused(*words)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("changes, words", [
    ({"model_type": "bloom"}, ["model_type 'bloom'", "mixtral"]),
    ({"hidden_size": 22}, ["has shape [259, 21], [259, 22] was expected"]),
    ({"num_hidden_layers": 3}, ["tensor model.layers.2.", "missing"]),
])
def test_wrong_config(run, make_model, changes, words):
    folder = make_model()
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))
    run(folder).refused(*words)


def test_too_much(run, make_model):
    folder = make_model()
    run(folder, "--tokens", 64, prompt="ab").refused("2 prompt tokens and 64 more are 66", "64")
    run(folder, "--tokens", 4, "--config", "small", "--set", "dram.rows=4").refused(
        "do not fit", "channels")
    run(make_model("wide", head_dim=64), "--tokens", 40, "--config", "small", "--bundles", "1",
        prompt="ab").refused("KV cache is full", "in a row", "dram.rows")
    run(folder, prompt="").refused("no tokens")
    run(folder, "--trace", "t.csv").refused("--trace", "verilator")
    run(folder, "--tokens", 4, "--config", "huge").refused("unknown preset")
