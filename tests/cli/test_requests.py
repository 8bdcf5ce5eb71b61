"""``run --requests``: each as if alone, one line for what is wrong, nothing half-written."""

import json

import pytest

from logicpim.llm.tokenizer import Tokenizer

GOOD = [{"id": "a", "prompt": "ab", "tokens": 5}, {"id": 7, "prompt_ids": [3, 4, 5], "tokens": 2},
        {"prompt": "hello", "arrival_s": 1e-6}]


@pytest.fixture
def serve(logicpim, tmp_path):
    """Calls ``run --requests`` with lines (objects, or bytes as they are) on the reference."""
    def call(folder, lines, *more):
        path = tmp_path / "requests.jsonl"
        path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode()
                                    for line in lines))
        return logicpim("run", folder, "--requests", path, "--backend", "reference", "--tokens", 4,
                        "--ignore-eos", *more)
    return call


def test_each_as_alone(serve, logicpim, make_model):
    folder = make_model()
    called = serve(folder, GOOD, "--json")
    result = called.json
    assert [(r["id"], r["line"]) for r in result["results"]] == [("a", 1), ("7", 2), ("3", 3)]
    for request, found in zip(GOOD, result["results"], strict=True):
        prompt = (["--prompt", request["prompt"]] if "prompt" in request else
                  ["--prompt-ids", ",".join(map(str, request["prompt_ids"]))])
        alone = logicpim("run", folder, *prompt, "--tokens", request.get("tokens", 4), "--backend",
                         "reference", "--ignore-eos", "--json").json
        assert found["token_ids"] == alone["token_ids"] and found["finish"] == "length"
        if "prompt" in request:
            assert found["text"] == alone["text"]
            said = [line for line in called.err.split("\n") if line.startswith(f"[{found['id']}]")]
            assert "".join(json.loads(line.split(" ", 1)[1]) for line in said) == alone["text"]
        assert found["prompt_tokens"] == len(alone["prompt_token_ids"])
        assert found["e2e_s"] == pytest.approx(found["t2ft_s"] + sum(found["tbt_s"]))
    assert result["tokens"] == 11 and result["failed"] == 0 and result["timed"] is False
    assert result["outside_simulator"] is None and result["wall_tokens_per_s"] > 0
    assert result["t2ft_s"]["p50"] <= result["t2ft_s"]["p99"]
    assert result["tokens_per_s"] == pytest.approx(11 / result["modelled_s"])
    assert result["pim_share"] + result["xpu_share"] == pytest.approx(1)


def test_for_people(serve, make_model, tmp_path):
    folder = make_model()
    called = serve(folder, GOOD)
    assert called.status == 0
    rows = [json.loads(line) for line in called.out.splitlines()]
    assert [r["id"] for r in rows] == ["a", "7", "3"]
    assert "roofline" in called.err and "tokens a second" in called.err
    called = serve(folder, GOOD, "--output", tmp_path / "out.jsonl")
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == rows
    assert "tokens a second" in called.out and "{" not in called.out
    assert {p.name for p in tmp_path.iterdir()} == {"model", "out.jsonl", "requests.jsonl"}


BAD = [
    (b"nonsense", "not valid JSON"), (b"[1]", "not an object"), (b"\xff\xfe", "not UTF-8 (byte 1)"),
    (b'{"id": "a", "prompt": "x"}', "id 'a' is that of line 1"),
    ({"prompt": "x", "tokens": 0}, "tokens must be a whole number >= 1"),
    ({"prompt": "x", "arrival_s": -1}, "arrival_s must be seconds >= 0"),
    (b'{"prompt": "x", "arrival_s": Infinity}', "arrival_s must be seconds"),
    ({"prompt": ""}, "no tokens"), ({"prompt": 5}, "prompt must be text, not 5"),
    ({"id": "x"}, "give either prompt or prompt_ids"),
    ({"prompt": "x", "prompt_ids": [1]}, "give either"), ({"prompt_ids": []}, "one at least"),
    ({"prompt_ids": [1, 259]}, "token 259 of prompt_ids is unknown to the model: it has 259"),
    ({"prompt_ids": [1, "2"]}, "a list of token ids"), ({"id": True, "prompt": "x"}, "id must be"),
    ({"prompt": "x", "stop": [""]}, "none empty"), ({"prompt": "x", "max": 3}, "unknown key 'max'"),
    ({"prompt_ids": [1] * 62, "tokens": 3}, "the model was made for 64"),
    ({"prompt_ids": [1] * 20, "tokens": 40}, "do not fit the KV cache, which has room for 50"),
]


def test_bad_lines(serve, make_model):
    """Each has a record that says its line and what is wrong; the others are as without them."""
    folder = make_model()
    good = serve(folder, GOOD[:1], "--json", "--attention", "xpu").json["results"][0]
    called = serve(folder, [GOOD[0], b"", *(line for line, _ in BAD)], "--attention", "xpu",
                   "--kv-tokens", 50)
    rows = [json.loads(line) for line in called.out.splitlines()]
    assert called.status == 1 and len(rows) == len(BAD) + 1
    assert rows[0]["token_ids"] == good["token_ids"] and rows[0]["text"] == good["text"]
    for number, ((_, words), row) in enumerate(zip(BAD, rows[1:], strict=True), 3):
        assert row["finish"] == "error" and row["line"] == number
        assert words in row["error"] and "\n" not in row["error"], row
    assert f"{len(BAD) + 1} requests, {len(BAD)} failed" in called.err


def test_without_tokenizer(serve, make_model):
    """Texts are refused one by one; ids are served, and stand for themselves."""
    folder = make_model()
    (folder / "tokenizer.json").unlink()
    called = serve(folder, GOOD, "--output", "out.jsonl", "--json")
    assert called.status == 1
    a, b, c = json.loads(called.out)["results"]
    assert b["text"] == "".join(f" {i}" for i in b["token_ids"]) and len(b["token_ids"]) == 2
    assert all("tokenizer.json is missing" in r["error"] for r in (a, c))


def test_stops(serve, make_model):
    folder = make_model()
    ids = serve(folder, [{"prompt": "ab", "tokens": 6}], "--json").json["results"][0]["token_ids"]
    texts = [Tokenizer(folder, 259).continuation([66, 67], ids[:n]) for n in range(7)]
    stop = texts[3][len(texts[2]):] or "never"
    rows = serve(folder, [{"prompt": "ab", "tokens": 6, "stop_ids": [ids[2]]},
                          {"prompt": "ab", "tokens": 6, "stop": stop}], "--json").json["results"]
    end = ids.index(ids[2])
    assert rows[0]["token_ids"] == ids[:end + 1] and rows[0]["finish"] == "stop"
    assert rows[0]["text"] == texts[end]
    assert stop not in rows[1]["text"] and rows[1]["finish"] in ("stop", "length")


@pytest.mark.parametrize("lines, words", [
    ([], "requests.jsonl is empty"), ([b" ", b"\r"], "is empty")])
def test_empty(serve, make_model, lines, words):
    serve(make_model(), lines, "--output", "out.jsonl").refused(words, '{"id": "a"')


def test_wrong_options(serve, logicpim, make_model, tmp_path):
    folder = make_model()
    (tmp_path / "folder").mkdir()
    serve(folder, GOOD, "--output", "folder").refused("folder: it is a folder")
    serve(folder, GOOD, "--output", "no/where").refused("its folder is not there")
    serve(folder, GOOD, "--first-id", 3).refused("--first-id goes with --prompt")
    logicpim("run", folder, "--requests", "none.jsonl").refused("cannot read none.jsonl")
    logicpim("run", folder, "--prompt", "a", "--max-batch", 3).refused("--max-batch goes with")
    serve(folder, GOOD, "--kv-tokens", 9).refused("--kv-tokens goes with --attention xpu")
    serve("nowhere", GOOD).refused("nowhere is not a folder")


@pytest.mark.full
@pytest.mark.parametrize("attention", ["pim", "xpu"])
def test_verilator(logicpim, bundled_model, tmp_path, attention):
    """Sixteen requests on the RTL, eight at a time: every logit the reference's, every token that
    of the request alone; and most of the time is the simulator's."""
    texts = ["In the beginning", "And he said", "Grace be", "Behold, I", "The LORD is my shepherd",
             "A wise son", "Now in the third year", "The elders"]
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps({"prompt": text, "tokens": 3 + i % 5,
                                        "arrival_s": 2e-5 * i}) + "\n"
                            for i, text in enumerate(2 * texts)))
    options = ["--max-batch", 8, "--attention", attention, "--json"]
    result = logicpim("run", bundled_model, "--requests", path, *options).json
    assert result["matches_reference"] is True and result["failed"] == 0
    assert result["timed"] and 0.4 < result["pim_share"] < 1 and result["mean_batch"] > 4
    assert result["outside_simulator"] < 0.35
    for row, text in zip(result["results"], 2 * texts, strict=True):
        alone = logicpim("run", bundled_model, "--prompt", text, "--tokens", len(row["token_ids"]),
                         "--attention", attention, "--backend", "reference", "--json").json
        assert row["token_ids"] == alone["token_ids"] and row["matches_reference"]
