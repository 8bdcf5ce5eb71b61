"""Attention over mirrored keys and values: near plain arithmetic, whatever a cache does."""

import numpy as np
import pytest

from logicpim.driver.kernel import Kernels
from logicpim.driver.memory import Memory
from logicpim.llm.config import load_config
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.errors import LogicPimError, ModelError
from logicpim.spec.presets import PRESETS
from logicpim.torch.attention import visible_keys
from logicpim.torch.mirror import Mirror

SMALL = PRESETS["small"].replace(channels=2)
HEADS, GROUP, SIZE, SCALE = 2, 3, 8, 0.4


@pytest.fixture
def mirror(make_model):
    device = ReferenceDevice(SMALL)
    return Mirror(Kernels(device), load_config(make_model()), Memory(SMALL), 2)


class Sequences:
    """Keys and values of a batch that grow as in a model."""

    def __init__(self, seed, batch, tokens):
        self.random = np.random.default_rng(seed)
        self.keys, self.values = self.draw(batch, tokens), self.draw(batch, tokens)

    def draw(self, batch, tokens):
        return self.random.standard_normal((batch, HEADS, tokens, SIZE)).astype(np.float32)

    def grow(self):
        batch = len(self.keys)
        self.keys = np.concatenate([self.keys, self.draw(batch, 1)], axis=2)
        self.values = np.concatenate([self.values, self.draw(batch, 1)], axis=2)

    def judge(self, mirror, layer=0, visible=None, sinks=None):
        """Ask, and compare with float64."""
        batch = len(self.keys)
        q = self.random.standard_normal((batch, HEADS * GROUP, SIZE)).astype(np.float32)
        y = mirror(layer, q, self.keys, self.values, SCALE, visible, sinks)
        k, v = (np.repeat(x.astype(float), GROUP, axis=1) for x in (self.keys, self.values))
        scores = np.einsum("bhd,bhnd->bhn", q.astype(float), k) * SCALE
        if visible is not None:
            scores[~np.broadcast_to(visible[:, None], scores.shape)] = -np.inf
        if sinks is not None:
            scores = np.concatenate([scores, np.broadcast_to(
                sinks[None, :, None], (*scores.shape[:2], 1))], axis=2)
        p = np.exp(scores - scores.max(axis=2, keepdims=True))
        p = (p / p.sum(axis=2, keepdims=True))[..., :v.shape[2]]
        assert np.abs(y - np.einsum("bhn,bhnd->bhd", p, v)).max() < 5e-3 * np.abs(v).max()


def counts(mirror):
    return mirror.appended, mirror.loaded


def test_grows(mirror, seed):
    """Once laid in, a token more is all that is written; layers are apart."""
    s = Sequences(seed, 2, 5)
    s.judge(mirror)
    assert counts(mirror) == (0, 2 * HEADS * 5)
    for step in range(1, 12):
        s.grow()
        s.judge(mirror)
        assert counts(mirror) == (step * 2 * HEADS, 2 * HEADS * 5)
    s.judge(mirror, layer=1)
    assert mirror.loaded == 2 * HEADS * (5 + 16)
    s.judge(mirror)  # the same again: nothing to write
    assert mirror.appended == 11 * 2 * HEADS and mirror.stats.weight_bytes > 0


def test_changes(mirror, seed):
    """Beams that swap, another prompt, a smaller and a larger batch: laid in anew, never stale."""
    s = Sequences(seed, 3, 6)
    s.judge(mirror)
    s.keys, s.values = s.keys[[1, 0, 2]], s.values[[1, 0, 2]]
    s.grow()
    s.judge(mirror)
    assert counts(mirror) == (HEADS, HEADS * (3 * 6 + 2 * 7))
    for batch, tokens in ((1, 4), (3, 9), (2, 1)):
        Sequences(seed + batch, batch, tokens).judge(mirror)
    free = mirror._cache.free_bytes
    for _ in range(5):
        Sequences(seed, 3, 6).judge(mirror)
        Sequences(seed, 1, 6).judge(mirror)
    assert mirror._cache.free_bytes >= free - 2 * 9 * 9 * 1024  # given back, not piled up


def test_padding_windows_and_sinks(mirror, seed):
    """What is not seen is not there; the rest may be anywhere."""
    s = Sequences(seed, 2, 7)
    visible = np.ones((2, 7), bool)
    visible[0, :3] = visible[1, 2] = False
    s.judge(mirror, visible=visible)
    loaded = mirror.loaded
    s.grow()
    s.judge(mirror, visible=np.concatenate([visible, np.ones((2, 1), bool)], axis=1))
    assert counts(mirror) == (2 * HEADS, loaded)
    s.keys, s.values = s.keys[:, :, 1:], s.values[:, :, 1:]
    s.judge(mirror, layer=1, sinks=s.random.standard_normal(HEADS * GROUP))


def test_refused(mirror, make_model, seed):
    s = Sequences(seed, 1, 3)
    s.keys[0, 0, 1, 0] = 1e6
    with pytest.raises(ModelError, match="not finite in FP16.*attention=False"):
        s.judge(mirror)
    bare = SMALL.replace(functions=False)
    with pytest.raises(LogicPimError, match="no softmax module"):
        Mirror(Kernels(ReferenceDevice(bare)), load_config(make_model("b")), Memory(bare), 2)


def test_visible_keys():
    """Masks of both kinds that transformers makes; none where all is seen."""
    assert visible_keys(None, 2, 4) is None
    seen = np.array([[[[True, True, True]]]])
    assert visible_keys(seen, 2, 3) is None
    seen[..., 0] = False
    assert visible_keys(seen, 2, 3).tolist() == [[False, True, True]] * 2
    added = np.where(seen, 0, np.finfo(np.float32).min)
    assert visible_keys(added, 1, 3).tolist() == [[False, True, True]]
    assert visible_keys(added, 1, 2) is None  # the mask's end is the context's
