"""``model.generate`` with experts on Logic-PIM gives the tokens that it gives without.

Needs PyTorch and transformers, which `make setup` does not install: pip install '.[torch]'.
"""

import json
import warnings
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is missing: pip install 'logicpim[torch]'")
pytest.importorskip("transformers", reason="transformers is missing: pip install 'logicpim[torch]'")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of other packages at import are not ours
    import torch
    import transformers

from logicpim.spec.errors import LogicPimError
from logicpim.torch import offload

pytestmark = pytest.mark.filterwarnings("ignore")
FOLDERS = Path(__file__).parents[1] / "llm" / "families"
FAMILIES = ["mixtral", "qwen3_moe", "phimoe", "gpt_oss", "deepseek_v2", "deepseek_v3"]
OPTIONS = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


@pytest.fixture
def load(bundled_model):
    def load(name):
        folder = bundled_model if name == "tiny" else FOLDERS / name
        # Odd sizes: transformers' grouped products want rows of 16 bytes.
        eager = {} if name in DENSE else {"experts_implementation": "eager"}
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, **eager).eval()
    return load


@pytest.fixture
def prompts():
    """Makes of a folder's golden prompts, 3 and 9 long, a batch with padding on the left.

    For these it is known that rounding to FP16 sends no token to another expert.
    """
    def prompts(name):
        rows = json.loads((FOLDERS / name / "golden.json").read_text())["prompts"][:2]
        ids = [row["prompt_token_ids"] for row in rows]
        length = max(map(len, ids))
        return {"input_ids": torch.tensor([[0] * (length - len(i)) + i for i in ids]),
                "attention_mask": torch.tensor([[0] * (length - len(i)) + [1] * len(i)
                                                for i in ids])}
    return prompts


DENSE = ["llama", "mistral", "qwen2", "qwen3", "opt"]


@pytest.mark.parametrize("name", [
    f if f in FAMILIES[:2] else pytest.param(f, marks=pytest.mark.full) for f in FAMILIES + DENSE])
def test_same_tokens(load, prompts, name):
    """A batch with padding, on the reference; experts and decode attention, or attention alone."""
    model = load(name)
    inputs = prompts(name)
    expected = model.generate(**inputs, **OPTIONS)
    with offload(model, backend="reference") as handle:
        same = model.generate(**inputs, **OPTIONS) == expected
        stats = handle.stats
    # At its last step the two best logits of this family's first prompt are 0.019 apart, less than
    # what rounding changes.
    assert same[:, :-1].all() if name == "deepseek_v2" else same.all()
    assert set(stats["phases"]) == (set() if name in DENSE else {"prefill", "decode"})
    assert stats["attention"]["appended"] > 0
    assert torch.equal(model.generate(**inputs, **OPTIONS), expected)


@pytest.mark.full
@pytest.mark.parametrize("name", ["tiny", "mixtral", "qwen3_moe"])
def test_same_tokens_on_the_rtl(load, prompts, name):
    model, inputs = load(name), prompts("mixtral" if name == "tiny" else name)
    expected = model.generate(**inputs, **OPTIONS)
    with offload(model) as handle:
        assert torch.equal(model.generate(**inputs, **OPTIONS), expected)
        stats = handle.stats
    assert stats["cycles"] > 0 and 0 < stats["bandwidth_efficiency"] < 1


def test_experts_alone_and_beams(load, prompts):
    """Attention left out; beams change places in the cache, and DRAM follows."""
    model, inputs = load("mixtral"), prompts("mixtral")
    expected = model.generate(**inputs, **OPTIONS, num_beams=2)
    for attention in (False, True):
        with offload(model, backend="reference", attention=attention) as handle:
            assert torch.equal(model.generate(**inputs, **OPTIONS, num_beams=2), expected)
            assert (handle.stats["attention"] is not None) == attention


def test_types_and_gradients(load):
    """A half-precision layer is answered in its type; training is refused."""
    model = load("mixtral").bfloat16()
    layer = model.model.layers[0].mlp
    x = torch.randn(1, 3, model.config.hidden_size, dtype=torch.bfloat16)
    with torch.no_grad():
        expected = layer(x)
        with offload(model, backend="reference"):
            y = layer(x)
            assert y.dtype == torch.bfloat16 and y.shape == x.shape
            assert (y - expected).abs().max() < 0.02 * expected.abs().max()
    with offload(model, backend="reference"), pytest.raises(LogicPimError, match="no gradients"):
        layer(x.requires_grad_())
