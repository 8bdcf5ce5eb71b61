"""Passes side by side: the bits of a sequence alone, whatever company it has."""

from pathlib import Path

import numpy as np
import pytest

from logicpim.llm.attention import NumpyAttention
from logicpim.llm.calls import ExpertsCall, lockstep
from logicpim.llm.checkpoint import Checkpoint
from logicpim.llm.config import load_config
from logicpim.llm.decoder import Model, feed_forward

FAMILIES = Path(__file__).resolve().parent / "families"
PROMPTS = [[5, 17, 3], [9], [2, 4, 8, 16, 32, 64, 7], [5, 17, 3]]


class RowExperts:
    """Every row by itself, as the device has it: no bit of a token depends on others."""

    def __init__(self, config, checkpoint):
        self.expert, self.sizes = config.expert, []
        self.weights = {(layer, e): {m: checkpoint.expert(layer, e, m).astype(np.float32).T
                                     for m in self.expert.matrices}
                        | {f"{m}.bias": b for m, b in checkpoint.expert_biases(layer, e).items()}
                        for layer in config.expert_layers for e in range(config.experts)}

    def __call__(self, layer, x, indices, weights):
        self.sizes.append(len(x))
        y = np.zeros_like(x)
        for row, (of, shares) in enumerate(zip(indices, weights, strict=True)):
            for e, share in zip(of, shares, strict=True):
                if e >= 0:
                    y[row] += share * feed_forward(self.expert, self.weights[layer, int(e)],
                                                   x[row:row + 1])[0]
        return y


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss", "deepseek_v3", "switch", "nllb-moe"])
def test_company_changes_no_bit(name):
    """Three passes of prompts of all lengths, some joined by new sequences in their second."""
    config = load_config(FAMILIES / name)
    checkpoint = Checkpoint(FAMILIES / name, config)
    model, experts, attends = (Model(config, checkpoint), RowExperts(config, checkpoint),
                               NumpyAttention(config))

    def logits(groups):
        """Of each prompt, its passes; groups join one after the other."""
        caches, ids, made = {}, {}, {}
        for turn in range(len(groups) + 2):
            new = groups[turn] if turn < len(groups) else []
            caches |= {i: attends.cache(16) for i in new}
            read = lockstep([model.encoding(PROMPTS[i], caches[i]) for i in new], experts, attends)
            ids |= dict(zip(new, read, strict=True))
            found = lockstep([model.decoding(ids[i], caches[i]) for i in caches], experts, attends)
            for i, row in zip(caches, found, strict=True):
                made.setdefault(i, []).append(row)
                ids[i] = [int(row.argmax())]
        return made

    alone = {i: logits([[i]])[i] for i in range(len(PROMPTS))}
    experts.sizes.clear()
    together = logits([[0, 2], [1, 3]])
    assert max(experts.sizes) > max(map(len, PROMPTS))
    for i, rows in alone.items():
        for a, b in zip(rows, together[i], strict=False):
            assert np.array_equal(a.view(np.uint32), b.view(np.uint32))
    assert not np.array_equal(alone[0][0], alone[1][0])


def test_different_lengths_are_refused():
    def one(calls):
        for call in calls:
            assert (yield call) is not None

    call = ExpertsCall(0, *(np.zeros((1, 1)),) * 3)
    with pytest.raises(ValueError, match="lockstep"):
        lockstep([one([call, call]), one([call])], lambda layer, x, *_: x, None)
