"""``logicpim.torch.offload`` without PyTorch: modules that hold numpy arrays."""

import json
from functools import partial

import numpy as np
import pytest

from logicpim.driver.experts import ExpertRunner
from logicpim.llm.checkpoint import Checkpoint
from logicpim.llm.config import load_config
from logicpim.llm.decoder import NumpyExperts
from logicpim.llm.routers import route
from logicpim.llm.tensors import tensor_name
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.errors import LogicPimError, ModelError
from logicpim.spec.presets import PRESETS
from logicpim.torch.families import PACKINGS, ModuleWeights, Packing, model_config
from logicpim.torch.handle import offload as offload_all

offload = partial(offload_all, attention=False)  # that needs transformers
SMALL = PRESETS["small"].replace(channels=2)


class Experts:
    """What transformers has in a layer."""

    def __init__(self, gate_up, down):
        self.gate_up_proj, self.down_proj = gate_up, down

    def forward(self, x, indices, weights):
        raise AssertionError("the model's own experts were called")


class Model:
    """As much of a transformers model as is looked at."""

    def __init__(self, folder):
        self.config, self.hooks = self, []
        self.values = json.loads((folder / "config.json").read_text())
        config = load_config(folder)
        checkpoint = Checkpoint(folder, config)
        self.modules = {f"model.layers.{layer}.mlp.experts": Experts(
            np.stack([np.concatenate([checkpoint.expert(layer, e, m) for m in ("w1", "w3")])
                      for e in range(config.experts)]),
            np.stack([checkpoint.expert(layer, e, "w2") for e in range(config.experts)]))
            for layer in config.expert_layers}

    def to_dict(self):
        return self.values

    def named_modules(self):
        yield "", self
        yield "model.layers.0.mlp", object()
        yield from self.modules.items()

    def register_forward_pre_hook(self, hook, with_kwargs):
        assert with_kwargs
        self.hooks.append(hook)
        return self

    def remove(self):
        self.hooks.clear()

    def experts(self, layer):
        return self.modules[f"model.layers.{layer}.mlp.experts"]


@pytest.fixture(autouse=True)
def no_torch(monkeypatch):
    monkeypatch.setattr("logicpim.torch.handle._require", lambda: None)


@pytest.fixture
def parts(make_model, seed):
    folder = make_model()
    config = load_config(folder)
    random = np.random.default_rng(seed)
    x = random.standard_normal((7, config.hidden_size)).astype(np.float32)
    scores = random.standard_normal((7, config.experts)).astype(np.float32)
    return folder, config, (x, *route(config.moe, scores))


def test_bits_of_the_runner(parts):
    """A layer's call is the runner's, whatever the form of the hidden states."""
    folder, config, (x, indices, weights) = parts
    runner = ExpertRunner(ReferenceDevice(SMALL), config, Checkpoint(folder, config), bundles=2)
    model = Model(folder)
    with offload(model, backend="reference", config=SMALL) as handle:
        for layer in config.expert_layers:
            y = model.experts(layer).forward(x, indices, weights)
            assert np.array_equal(y, runner(layer, x, indices, weights))
            y = model.experts(layer).forward(x[None].astype(np.float64), indices, weights)
            assert y.shape == (1, *x.shape)
        assert handle.stats["tokens"] == 2 * len(config.expert_layers) * len(x) * config.top_k
        assert handle.stats["calls"] == 2 * len(config.expert_layers)


def test_no_expert(parts):
    """A place that an expert does not take is numbered with as many as there are."""
    folder, config, (x, indices, weights) = parts
    model, exact = Model(folder), NumpyExperts(config, Checkpoint(folder, config))
    none = indices.copy()
    none[:, 1] = config.experts
    with offload(model, backend="reference", config=SMALL):
        y = model.experts(0).forward(x, none, weights)
    expected = exact(0, x, np.where(none == config.experts, -1, none), weights)
    assert np.abs(y - expected).max() < 4e-3 * np.abs(expected).max()


def test_restore(parts):
    """All is as it was, also what had been put in place of a module's forward before."""
    folder, config, call = parts
    model, other = Model(folder), object()
    model.experts(1).forward = other
    handle = offload(model, backend="reference", config=SMALL)
    with pytest.raises(LogicPimError, match="already"):
        offload(model, backend="reference", config=SMALL)
    assert model.hooks
    handle.restore()
    handle.restore()
    assert not model.hooks and model.experts(1).forward is other
    with pytest.raises(AssertionError, match="own experts"):
        model.experts(0).forward(*call)
    with offload(model, backend="reference", config=SMALL):
        pass
    with pytest.raises(ZeroDivisionError), offload(model, backend="reference", config=SMALL):
        1 / 0  # noqa: B018
    assert model.experts(1).forward is other


def test_own_device(parts):
    """A device of the caller's stays open and has the experts."""
    folder, _, call = parts
    model, device = Model(folder), ReferenceDevice(SMALL)
    with offload(model, device=device) as handle:
        assert handle.device is device
        model.experts(0).forward(*call)
    assert device.dram(0).any() and handle.stats["weight_bytes"] > 0


def test_phases(parts):
    folder, _, call = parts
    model = Model(folder)
    with offload(model, backend="reference", config=SMALL) as handle:
        for kwargs, phase in (({"input_ids": np.zeros((2, 5))}, "prefill"),
                              ({"input_ids": None, "inputs_embeds": np.zeros((2, 1, 8))},
                               "decode")):
            model.hooks[0](model, (), kwargs)
            model.experts(0).forward(*call)
            assert phase in handle.stats["phases"]


def test_attention_comes_and_goes(parts, monkeypatch):
    """It is installed with the experts and taken back with them."""
    folder, _, _ = parts
    seen, model = [], Model(folder)
    for name in ("install", "restore"):
        monkeypatch.setattr(f"logicpim.torch.handle.{name}",
                            lambda model, *mirror, name=name: seen.append(name))
    with offload_all(model, backend="reference", config=SMALL) as handle:
        assert seen == ["install"] and handle.stats["attention"]["appended"] == 0
    assert seen == ["install", "restore"]
    with pytest.raises(LogicPimError, match="no softmax module.*attention=False"):
        offload_all(model, backend="reference", config=SMALL.replace(functions=False))
    assert seen == ["install", "restore"] and not model.hooks


def test_refused(parts, make_model):
    folder, config, call = parts
    model = Model(folder)
    model.values = model.values | {"model_type": "abacus"}
    with pytest.raises(ModelError, match="model_type 'abacus' is not known"):
        offload(model, backend="reference", config=SMALL)
    model = Model(folder)
    model.values = model.values | {"model_type": "llama"}
    with pytest.raises(ModelError, match=r"experts in layers \[0, 1\], its configuration in \[\]"):
        offload(model, backend="reference", config=SMALL)
    model = Model(folder)
    model.modules.popitem()
    with pytest.raises(ModelError, match=r"has experts in layers \[0\]"):
        offload(model, backend="reference", config=SMALL)
    model = Model(folder)
    model.experts(0).gate_up_proj = None
    with pytest.raises(ModelError, match="load the model unquantised"):
        offload(model, backend="reference", config=SMALL)
    model = Model(folder)
    model.experts(1).down_proj = model.experts(1).down_proj.astype(np.float32)
    model.experts(1).down_proj[2, 0, 0] = 1e6
    with pytest.raises(ModelError, match="w2 of expert 2 in layer 1 has values beyond FP16"):
        offload(model, backend="reference", config=SMALL)
    tiny = SMALL.replace(channels=1)
    with pytest.raises(LogicPimError, match="do not fit the DRAM"):
        offload(Model(make_model("wide", intermediate_size=300, hidden_size=200)),
                backend="reference", config=tiny)
    assert not any("forward" in vars(m) for m in model.modules.values())


def test_packings():
    """Each family's way to hold three matrices, read back."""
    random = np.random.default_rng(1)
    w1, w3, w2 = (random.standard_normal(s).astype(np.float32) for s in ((6, 4), (6, 4), (4, 6)))
    stacked = Experts(np.concatenate([w1, w3])[None], w2[None])
    turns = Experts(np.stack([w1, w3], axis=1).reshape(12, 4).T[None], w2.T[None])
    turns.gate_up_proj_bias = np.arange(12.0)[None]
    turns.down_proj_bias = np.arange(4.0)[None]
    for packing, module in ((PACKINGS["mixtral"], stacked), (PACKINGS["gpt_oss"], turns)):
        for name, matrix in (("w1", w1), ("w3", w3), ("w2", w2)):
            assert np.array_equal(packing.matrix(module, 0, name), matrix)
    packing = Packing(alternate=True, transposed=True)
    assert packing.matrix(turns, 0, "w3", "_bias").tolist() == [1, 3, 5, 7, 9, 11]
    assert packing.matrix(turns, 0, "w2", "_bias").tolist() == [0, 1, 2, 3]


def test_biases(families_folder):
    """Those of gpt-oss, as its checkpoint has them."""
    folder = families_folder / "gpt_oss"
    config = load_config(folder)
    assert model_config(json.loads((folder / "config.json").read_text()), "GptOss").expert.bias
    checkpoint = Checkpoint(folder, config)
    names = {"gate_up_proj": "packed_up", "down_proj": "packed_down"}
    module = Experts(*(checkpoint.read(tensor_name(config, role, 0, part=""))
                       for role in names.values()))
    for name, role in names.items():
        setattr(module, f"{name}_bias", checkpoint.read(tensor_name(config, role, 0, part="_bias")))
    weights = ModuleWeights({0: module}, config)
    for matrix in config.expert.matrices:
        assert np.array_equal(weights.expert16(0, 3, matrix), checkpoint.expert16(0, 3, matrix))
        assert np.array_equal(weights.expert_biases(0, 3)[matrix],
                              checkpoint.expert_biases(0, 3)[matrix])


@pytest.fixture
def families_folder(bundled_model):
    return bundled_model.parents[1] / "tests" / "llm" / "families"
