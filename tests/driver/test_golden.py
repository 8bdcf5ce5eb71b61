"""The bundled model with its experts on the reference device against what transformers says."""

import json

import numpy as np
import pytest

from logicpim.driver.decode import Decoder
from logicpim.driver.experts import ExpertRunner
from logicpim.llm.checkpoint import Checkpoint
from logicpim.llm.config import load_config
from logicpim.llm.decoder import Model
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.presets import PRESETS

BOUND = 0.005
"""On a logit: the experts' operands rounded to FP16 (half of 2**-10 each), over four layers."""


@pytest.fixture(scope="module")
def decoder(bundled_model):
    config = load_config(bundled_model)
    checkpoint = Checkpoint(bundled_model, config)
    runner = ExpertRunner(ReferenceDevice(PRESETS["channel"]), config, checkpoint)
    return Decoder(Model(config, checkpoint), runner)


@pytest.mark.parametrize("name", ["answered", "beginning", "behold", "elders", "grace",
                                  "shepherd", "third-year", "wise-son"])
def test_golden(decoder, bundled_model, name):
    golden = json.loads((bundled_model / "golden" / f"{name}.json").read_text())
    with np.load(bundled_model / "golden" / "logits.npz") as packed:
        logits = packed[name]
    steps = list(decoder.greedy(golden["prompt_token_ids"], 64))
    assert [token for token, _ in steps] == golden["token_ids"]
    found = np.array([steps[position][1] for position in golden["logit_positions"]])
    error = np.abs(found - logits).max()
    print(f"largest error of a logit {error:.2g}, largest logit {np.abs(logits).max():.2g}")
    assert error < BOUND
