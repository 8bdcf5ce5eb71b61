"""Experts dealt over two processors by a policy: none twice, none left out, the same sums."""

import numpy as np
import pytest

from logicpim.driver.decode import Decoder
from logicpim.driver.experts import ExpertRunner
from logicpim.driver.placed import PlacedExperts, costs_of
from logicpim.driver.report import placements
from logicpim.llm.checkpoint import Checkpoint
from logicpim.llm.config import load_config
from logicpim.llm.decoder import Model, NumpyExperts
from logicpim.llm.presets import preset
from logicpim.llm.routers import route
from logicpim.placement import SHARED
from logicpim.placement.shared import split
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"].replace(channels=2)


@pytest.fixture
def parts(make_model):
    folder = make_model()
    config = load_config(folder)
    checkpoint = Checkpoint(folder, config)

    def placed(policy):
        return PlacedExperts(ExpertRunner(ReferenceDevice(SMALL), config, checkpoint),
                             NumpyExperts(config, checkpoint), policy, costs_of(SMALL, config), 4)
    return config, checkpoint, placed


@pytest.fixture
def call(parts, seed):
    config, _, _ = parts
    random = np.random.default_rng(seed)
    x = random.standard_normal((9, config.hidden_size)).astype(np.float32)
    scores = random.standard_normal((9, config.experts)).astype(np.float32)
    return 1, x, *route(config.moe, scores)


def test_one_processor(parts, call):
    """All on one: its bits."""
    config, checkpoint, placed = parts
    runner = ExpertRunner(ReferenceDevice(SMALL), config, checkpoint)
    assert np.array_equal(placed(SHARED["pim_only"])(*call), runner(*call))
    exact = NumpyExperts(config, checkpoint)
    assert np.array_equal(placed(SHARED["xpu_only"])(*call), exact(*call))


@pytest.mark.parametrize("pim", [{0}, {1, 3}, {0, 1, 2}])
def test_two_processors(parts, call, pim):
    config, checkpoint, placed = parts
    experts = placed(lambda query: split(query, pim))
    exact = NumpyExperts(config, checkpoint)(*call)
    assert np.abs(experts(*call) - exact).max() < 4e-3 * np.abs(exact).max()
    counts = np.bincount(call[2].ravel(), minlength=4)
    assert sorted(experts.routed) == sorted(counts[[e for e in range(4) if e in pim]])
    assert sorted(experts.on_xpu) == sorted(counts[[e for e in range(4) if e not in pim]])


@pytest.mark.parametrize("name", SHARED)
def test_decoder(parts, name):
    """In lockstep with itself; what is told of the experts is what they did."""
    config, checkpoint, placed = parts
    experts = placed(SHARED[name])
    decoder = Decoder(Model(config, checkpoint), experts, placed(SHARED[name]))
    assert len(list(decoder.greedy([1, 2, 3, 4, 5], 4))) == 4 and decoder.matches
    rows = placements(SMALL, decoder.operations, experts.stats)
    tokens = {where: sum(o.m * o.calls for done in decoder.operations.values() for o in done
                         if o.name == "expert w2" and o.place == where)
              for where in ("xPU", "Logic-PIM")}
    assert tokens == {"xPU": sum(experts.on_xpu), "Logic-PIM": sum(experts.routed)}
    assert sum(tokens.values()) == (5 + 3) * config.layers * config.top_k
    assert all("cycles" not in row for row in rows if row["where"] == "xPU")


def test_costs():
    """A channel: four times the xPU's bandwidth, level up to 8 tokens; the xPU far beyond."""
    costs = costs_of(PRESETS["channel"], preset("mixtral-8x7b"))
    assert costs.xpu(1) / costs.pim(1) == pytest.approx(4)
    assert costs.pim(7) < 1.01 * costs.pim(1) and costs.pim(16) == pytest.approx(2 * costs.pim(8),
                                                                                rel=0.01)
    assert costs.pim(1) == pytest.approx(3 * 4096 * 14336 * 2 / 83.2e9, rel=1e-3)
    assert costs.xpu(64) < 1.05 * costs.xpu(1) and costs.xpu(64) < costs.pim(64)
