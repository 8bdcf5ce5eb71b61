# SPDX-License-Identifier: BSD-2-Clause
"""``bench`` and ``run`` on a stack: the reference's bits, and those of one channel."""

import json

import pytest

SMALL = ("--config", "small", "--set", "stack=true", "--set", "channels=4",
         "--set", 'formats=["fp16", "int8"]')
REFERENCE = ("--backend", "reference")


def bench(logicpim, *argv):
    return logicpim("bench", *argv, "--json").json


@pytest.mark.parametrize("argv", [
    ("gemm", "--m", 3, "--n", 90, "--k", 5000), ("gemm", "--m", 9, "--n", 5, "--k", 20),
    ("gemm", "--m", 2, "--n", 300, "--k", 200, "--weights", "int8", "--scale-group", 32),
    ("gemm", "--m", 3, "--n", 70, "--k", 30, "--transpose"),
    ("ffn", "--m", 9, "--hidden", 200, "--intermediate", 700)],
    ids=["gemm", "narrow", "int8", "transposed", "ffn"])
def test_paper_on_the_reference(logicpim, argv):
    result = bench(logicpim, *argv, "--config", "paper", *REFERENCE)
    assert result["matches_reference"] is True and result["channels"] == 32


@pytest.mark.parametrize("argv", [
    ("gemm", "--m", 3, "--n", 90, "--k", 300),
    ("ffn", "--m", 2, "--hidden", 100, "--intermediate", 96)], ids=["gemm", "ffn"])
def test_small_on_the_verilog(logicpim, argv):
    result = bench(logicpim, *argv, *SMALL)
    assert result["matches_reference"] is True and result["channels"] == 4
    assert result["cycles"] == result["active"] + sum(result["stalls"].values()) > 0


def test_too_deep(logicpim):
    logicpim("bench", "gemm", "--m", 1, "--n", 1, "--k", 1 << 17, "--config", "paper",
             *REFERENCE).refused("K = 131072 needs 256 operand lines", "input_buffer_bytes")


def test_decode_on_the_reference(logicpim, bundled_model):
    golden = json.loads((bundled_model / "golden" / "beginning.json").read_text())
    result = logicpim("run", bundled_model, "--prompt", golden["prompt"], "--tokens", 4,
                      "--config", "paper", *REFERENCE, "--json").json
    assert result["token_ids"] == golden["token_ids"][:4] and result["channels"] == 32


@pytest.mark.full  # builds another simulator
@pytest.mark.parametrize("channels", [4, 32])
def test_decode_on_the_verilog(logicpim, bundled_model, channels):
    golden = json.loads((bundled_model / "golden" / "beginning.json").read_text())
    result = logicpim("run", bundled_model, "--prompt", golden["prompt"], "--tokens", 2,
                      "--config", "paper", "--set", f"channels={channels}", "--json").json
    assert result["matches_reference"] is True
    assert result["token_ids"] == golden["token_ids"][:2]


@pytest.mark.full  # minutes
def test_an_expert_of_mixtral(logicpim):
    """The whole of it on the whole stack, at a speed that no channel alone would better."""
    result = bench(logicpim, "ffn", "--config", "paper", "--m", 4, "--hidden", 4096,
                   "--intermediate", 14336)
    assert result["matches_reference"] is True and result["channels"] == 32
    assert result["weight_bytes"] == 3 * 4096 * 14336 * 2
    assert result["bandwidth_efficiency"] >= 0.95
