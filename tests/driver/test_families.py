"""Experts and attention of every kind on the reference device, against transformers."""

from pathlib import Path

import numpy as np
import pytest

from logicpim.driver.attend import AttentionRunner
from logicpim.driver.decode import Decoder
from logicpim.driver.experts import ExpertRunner
from logicpim.llm.attention import NumpyAttention, attend
from logicpim.llm.checkpoint import Checkpoint
from logicpim.llm.config import load_config
from logicpim.llm.decoder import Model, NumpyExperts
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


class RoundedAttention(NumpyAttention):
    """Decode steps of float32 on queries, keys and values rounded to FP16: what no FP16 cache can
    do better."""

    def _one(self, call):
        if call.cross or call.cache is None or len(call.q) > 1:
            return super()._one(call)
        a, index = call.attention, call.layer - self.config.encoder
        held = call.cache.extended(index, a, call.k, call.v)
        return attend(a, *(x.astype(np.float16).astype(np.float32) for x in (call.q, *held)),
                      call.bias, call.sinks)


@pytest.mark.parametrize("name", [
    "gpt_oss", "deepseek_v3", "switch",
    *(pytest.param(other, marks=pytest.mark.full) for other in (
        "llama", "llama-linear", "mistral", "mixtral", "nllb-moe", "qwen2", "qwen3", "qwen3_moe",
        "phimoe", "gpt_oss-mxfp4", "deepseek_v2", "opt"))])
def test_attention(goldens, name):
    """Decode steps on the device: windows, sinks, grouped or not, latent; tokens those of float32
    but for ties, logits no further off than transformers' in FP16 are in one of the prompts."""
    model, runner = load(name)
    config, rows = model.config, goldens(FAMILIES / name)
    attention = AttentionRunner(runner.kernels, config, runner.memory, bundles=2)
    experts = NumpyExperts(config, Checkpoint(FAMILIES / name, config)) if config.experts else None
    judged = 0
    for golden in rows:
        rounded = golden.error(golden.forced(model, experts, RoundedAttention(config)))
        if rounded > 0.5:  # the router chooses another expert: nothing to be measured
            continue
        steps, exact = golden.forced(model, runner, attention), golden.forced(model, experts)
        error, judged = golden.error(steps), judged + 1
        print(f"error {error:.3g}, of rounding alone {rounded:.3g}, "
              f"FP16 {golden.row['error_16']:.3g}")
        assert error <= max(other.row["error_16"] for other in rows)
        best, sure = np.sort(exact)[:, -2:].T, exact.argmax(axis=-1)
        differ = sure != steps.argmax(axis=-1)
        assert (best[1] - best[0])[differ].max(initial=0) <= 2 * error
    assert judged >= 2
    # The scores of Switch have a bias: all of it stays in numpy.
    assert bool(attention.stats) == (name != "switch")


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
