"""Positions by closed formulas in float64, that share no code with the model's."""

import math

import numpy as np
import pytest

from logicpim.llm.kinds import Relative, Rope
from logicpim.llm.positions import relative_buckets, rotary, rotate, sinusoids

AT = np.array([0, 1, 7, 300])


def close(rope, frequencies, scale=1.0):
    cos, sin = rotary(rope, AT)
    angle = AT[:, None, None] * np.array(frequencies)
    assert cos.shape == (4, 1, rope.dim // 2) and cos.dtype == np.float32
    assert np.allclose(cos, scale * np.cos(angle), atol=1e-4)
    assert np.allclose(sin, scale * np.sin(angle), atol=1e-4)


def test_default_and_linear():
    plain = [100.0 ** (-2 * i / 8) for i in range(4)]
    close(Rope(dim=8, theta=100.0), plain)
    close(Rope(dim=8, theta=100.0, kind="linear", values={"factor": 4.0}), [f / 4 for f in plain])


def test_llama3():
    """By the wavelength: short ones stay, long ones are stretched, a ramp in the frequency."""
    values = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 200.0}
    expected, kinds = [], set()
    for i in range(8):
        f = 1000.0 ** (-i / 8)
        length = 2 * math.pi / f
        if length < 200 / 4:
            kinds.add("kept")
        elif length > 200:
            kinds.add("stretched")
            f /= 8
        else:
            kinds.add("between")
            share = (200 / length - 1) / (4 - 1)
            f = (1 - share) * f / 8 + share * f
        expected.append(f)
    assert len(kinds) == 3
    close(Rope(dim=16, theta=1000.0, kind="llama3", values=values), expected)


@pytest.mark.parametrize("truncate", [True, False])
def test_yarn(truncate):
    """A ramp in the element, between those that turn beta_fast and beta_slow times."""
    values = {"factor": 16.0, "beta_fast": 8.0, "beta_slow": 1.0, "truncate": truncate,
              "original_max_position_embeddings": 512.0}
    bounds = [16 * math.log(512 / (2 * math.pi * turns)) / (2 * math.log(1000)) for turns in (8, 1)]
    low, high = (math.floor(bounds[0]), math.ceil(bounds[1])) if truncate else bounds
    expected = []
    for i in range(8):
        ramp = min(max((i - low) / (high - low), 0), 1)
        expected.append(1000.0 ** (-i / 8) * ((1 - ramp) + ramp / 16))
    assert 0 < low < high < 8
    close(Rope(dim=16, theta=1000.0, kind="yarn", values=values), expected,
          0.1 * math.log(16) + 1)


@pytest.mark.parametrize("original, size", [(301, "short"), (300, "long")])
def test_longrope(original, size):
    """The factors of long texts from the first position beyond the original length on."""
    factors = {"short": [1.0, 1.5, 2.0, 3.0], "long": [2.0, 4.0, 8.0, 16.0]}
    values = {"short_factor": factors["short"], "long_factor": factors["long"], "factor": 4.0,
              "original_max_position_embeddings": float(original)}
    expected = [100.0 ** (-2 * i / 8) / f for i, f in enumerate(factors[size])]
    close(Rope(dim=8, theta=100.0, kind="longrope", values=values), expected,
          math.sqrt(1 + math.log(4) / math.log(original)))


@pytest.mark.parametrize("interleaved", [False, True])
def test_turning(interleaved, seed):
    """Pairs turn as complex numbers; a score depends on the distance alone."""
    rope = Rope(dim=6, theta=50.0, interleaved=interleaved)
    x = np.random.default_rng(seed).standard_normal((4, 3, 6)).astype(np.float32)
    low, high = (x[..., ::2], x[..., 1::2]) if interleaved else (x[..., :3], x[..., 3:])
    angle = AT[:, None, None] * 50.0 ** (-np.arange(3) / 3)
    turned = (low + 1j * high) * np.exp(1j * angle)
    found = rotate(rope, x, rotary(rope, AT))
    assert np.allclose(found[..., :3], turned.real, atol=1e-3)
    assert np.allclose(found[..., 3:], turned.imag, atol=1e-3)


def test_sinusoids():
    found = sinusoids(AT, 7)
    frequency = [10000.0 ** (-i / 2) for i in range(3)]
    angle = AT[:, None] * np.array(frequency)
    assert np.allclose(found, np.concatenate(
        (np.sin(angle), np.cos(angle), np.zeros((4, 1))), axis=1), atol=1e-4)


def test_relative_buckets():
    """One by one up to half, then by the logarithm; each direction its own where both count."""
    one_way = Relative(buckets=8, max_distance=32, bidirectional=False)
    found = relative_buckets(one_way, np.array([40]), np.arange(45))[0]
    assert found[40:].tolist() == [0] * 5 and found[39:35:-1].tolist() == [1, 2, 3, 4]
    by_distance = [4 + int(4 * math.log(d / 4) / math.log(8)) for d in range(5, 32)]
    assert found[35:8:-1].tolist() == by_distance and set(found[:9]) == {7}
    both = Relative(buckets=16, max_distance=32, bidirectional=True)
    found = relative_buckets(both, np.array([20]), np.arange(41))[0]
    assert found[20] == 0 and found[19] == 1 and found[21] == 9
    assert np.array_equal(found[21:], found[:20][::-1] + 8)
