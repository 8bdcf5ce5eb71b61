"""The experts on a device against plain float32, and the decoder with two of them in lockstep."""

import numpy as np
import pytest

from logicpim.driver.decode import Decoder
from logicpim.driver.experts import ExpertRunner
from logicpim.driver.report import placements
from logicpim.llm.checkpoint import Checkpoint
from logicpim.llm.config import load_config
from logicpim.llm.decoder import Model, NumpyExperts
from logicpim.llm.routers import route
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.errors import CapacityError, ModelError
from logicpim.spec.isa import Buffer
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"].replace(channels=2)
CHANNEL = PRESETS["channel"]


def opened(folder):
    config = load_config(folder)
    return config, Checkpoint(folder, config)


def run(experts, x, config, seed):
    gate = np.random.default_rng(seed).standard_normal((config.hidden_size, config.experts))
    return experts(1, x, *route(config.moe, x @ gate.astype(np.float32)))


@pytest.fixture
def x(seed):
    return np.random.default_rng(seed).standard_normal((13, 21)).astype(np.float32)


def test_near_float32(make_model, x, seed):
    config, checkpoint = opened(make_model())
    exact = run(NumpyExperts(config, checkpoint), x, config, seed)
    device = run(ExpertRunner(ReferenceDevice(CHANNEL), config, checkpoint), x, config, seed)
    # Two roundings of operands to 11 bits, in sums of some 20 terms.
    assert np.abs(device - exact).max() < 4e-3 * np.abs(exact).max()
    assert np.any(device != exact)


@pytest.mark.parametrize("channels", [2, 8])
def test_channels_change_no_bit(make_model, x, seed, channels):
    config, checkpoint = opened(make_model())
    one, more = (run(ExpertRunner(ReferenceDevice(CHANNEL.replace(channels=c)), config, checkpoint),
                     x, config, seed) for c in (1, channels))
    assert np.array_equal(one, more)


def test_batch_changes_no_bit_of_a_product(make_model, x, seed):
    config, checkpoint = opened(make_model())
    runner = ExpertRunner(ReferenceDevice(CHANNEL), config, checkpoint)
    gate = np.random.default_rng(seed).standard_normal((config.hidden_size, config.experts))
    indices, weights = route(config.moe, x @ gate.astype(np.float32))
    whole = runner(0, x, indices, weights)
    for t in range(len(x)):
        assert np.array_equal(runner(0, x[t:t + 1], indices[t:t + 1], weights[t:t + 1])[0],
                              whole[t])
    assert sum(runner.routed) == 2 * config.top_k * len(x)


def test_spaces_in_turn(make_model):
    config, checkpoint = opened(make_model())
    runner = ExpertRunner(ReferenceDevice(SMALL), config, checkpoint)
    spaces = [[m.space for m in runner._matrices[0, expert].values()] for expert in range(4)]
    assert spaces == [[0] * 3, [1] * 3, [0] * 3, [1] * 3]


def test_too_large_for_the_dram(make_model):
    config, checkpoint = opened(make_model(num_local_experts=32))
    device = ReferenceDevice(PRESETS["small"])
    with pytest.raises(CapacityError, match="the experts do not fit the DRAM of small: .*channels"):
        ExpertRunner(device, config, checkpoint)


def test_activation_beyond_fp16(make_model, x, seed):
    config, checkpoint = opened(make_model())
    x[3, 3] = 1e5
    with pytest.raises(ModelError, match="layer 1 is not finite in FP16"):
        run(ExpertRunner(ReferenceDevice(CHANNEL), config, checkpoint), x, config, seed)


class Faulty(ReferenceDevice):
    """Inverts a bit of one result of a W2, once."""

    def read_buffer(self, channel, buffer, line, size):
        data = super().read_buffer(channel, buffer, line, size)
        self.reads = getattr(self, "reads", 0) + (buffer == Buffer.TEMP)
        if self.reads == 7:  # of a token that is decoded
            data[2] ^= 1
        return data


@pytest.mark.parametrize("kind, matches", [(ReferenceDevice, True), (Faulty, False)])
def test_lockstep(make_model, kind, matches):
    config, checkpoint = opened(make_model())
    runners = [ExpertRunner(device(SMALL), config, checkpoint)
               for device in (kind, ReferenceDevice)]
    decoder = Decoder(Model(config, checkpoint), *runners)
    assert len(list(decoder.greedy([1, 2, 3], 5))) == 5
    assert decoder.matches is matches


def test_decoder(make_model):
    config, checkpoint = opened(make_model())
    runner = ExpertRunner(ReferenceDevice(SMALL), config, checkpoint)
    decoder = Decoder(Model(config, checkpoint), runner)
    tokens = [token for token, _ in decoder.greedy([1, 2, 3], 6)]
    assert decoder.matches is None and len(tokens) == 6
    again = [token for token, _ in decoder.greedy([1, 2, 3], 6, stop=(tokens[2],))]
    assert again == tokens[:tokens.index(tokens[2]) + 1]
    with pytest.raises(ModelError, match="60 prompt tokens and 5 more are 65.*made for 64"):
        list(decoder.greedy([1] * 60, 5))


@pytest.mark.parametrize("functions", [True, False])
def test_placements(make_model, functions):
    """Experts as a whole, or their products alone."""
    config, checkpoint = opened(make_model())
    device = ReferenceDevice(SMALL.replace(functions=functions))
    runner = ExpertRunner(device, config, checkpoint)
    decoder = Decoder(Model(config, checkpoint), runner)
    list(decoder.greedy([1, 2, 3], 4))
    rows = placements(SMALL, decoder.operations, runner.stats)
    pim = {(r["phase"], r["operation"]): r for r in rows if r["where"] == "Logic-PIM"}
    there = ["expert ffn", "expert activation"] if functions else ["expert w1, w3", "expert w2"]
    assert set(pim) == {(p, o) for p in ("prefill", "decode") for o in there}
    decode = pim["decode", there[0]]
    assert decode["cycles"] is None
    if functions:
        assert (decode["m"], decode["n"], decode["k"]) == ([1, 1], [21, 27], [21, 27])
        assert decode["calls"] == 3 * 2 * 2 * 3
        assert decode["weight_bytes"] == decode["calls"] * 27 * 21 * 2
        return
    assert (decode["m"], decode["n"], decode["k"]) == ([1, 1], [27, 27], [21, 21])
    assert decode["calls"] == 3 * 2 * 2 * 2
    assert decode["weight_bytes"] == decode["calls"] * 27 * 21 * 2
    assert {r["where"] for r in rows if "expert w" not in r["operation"]} == {"xPU"}


def test_logits_that_are_no_numbers(make_model):
    def edit(tensors):
        tensors["model.norm.weight"][:] = 3e38
    config, checkpoint = opened(make_model(edit=edit, dtype=np.float32))
    decoder = Decoder(Model(config, checkpoint),
                      ExpertRunner(ReferenceDevice(SMALL), config, checkpoint))
    with pytest.raises(ModelError, match="not all finite"):
        list(decoder.greedy([1], 1))
