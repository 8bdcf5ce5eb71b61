"""Experts of every kind on the reference device, against what transformers says of tiny models."""

from pathlib import Path

import pytest

from logicpim.driver.decode import Decoder
from logicpim.driver.experts import ExpertRunner
from logicpim.llm.checkpoint import Checkpoint
from logicpim.llm.config import load_config
from logicpim.llm.decoder import Model
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.presets import PRESETS

FAMILIES = Path(__file__).resolve().parents[1] / "llm" / "families"
CHANNEL = PRESETS["channel"]


def load(name):
    config = load_config(FAMILIES / name)
    checkpoint = Checkpoint(FAMILIES / name, config)
    return Model(config, checkpoint), ExpertRunner(ReferenceDevice(CHANNEL), config, checkpoint)


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "phimoe", "gpt_oss", "gpt_oss-mxfp4",
                                  "deepseek_v2", "deepseek_v3", "switch", "nllb-moe"])
def test_no_worse_than_fp16(goldens, name):
    model, runner = load(name)
    for golden in goldens(FAMILIES / name):
        steps = golden.forced(model, runner)
        print(f"error {golden.error(steps):.3g}, FP16 {golden.row['error_16']:.3g}")
        golden.judge(steps)
    assert runner.routed


@pytest.mark.parametrize("name", ["switch", "llama", "gpt_oss"])
def test_greedy(goldens, name):
    """Encoder and decoder, a model without experts, and one with: the decoder does them all."""
    model, runner = load(name)
    golden = goldens(FAMILIES / name)[0].row
    decoder = Decoder(model, runner)
    tokens = [token for token, _ in decoder.greedy(golden["prompt_token_ids"], 6)]
    assert tokens == golden["token_ids"][:6]
    names = {o.name for phase in decoder.operations.values() for o in phase}
    assert ("cross-attention scores" in names) == (name == "switch")
    assert any(n.startswith("expert w1") for n in names) == (name != "llama")
    done = sum(o.m * o.calls for phase in decoder.operations.values() for o in phase
               if o.name == "expert w2")
    assert done == sum(runner.routed)
