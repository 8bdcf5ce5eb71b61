# SPDX-License-Identifier: BSD-2-Clause
"""Where a token stands: rotary, sinusoidal and relative positions, in numpy float32."""

import math

import numpy as np

from .build import yarn_scale
from .kinds import Relative, Rope


def rotary(rope: Rope, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine [T, 1, dim / 2] of the rotary embedding at the positions.

    ``longrope`` takes the frequencies of long texts if the last position is beyond the length
    the model was first trained for.
    """
    v, theta = rope.values, np.float32(rope.theta)
    exponent = np.arange(0, rope.dim, 2, dtype=np.float32) / np.float32(rope.dim)
    frequency = np.float32(1) / np.power(theta, exponent)
    scale = 1.0
    if rope.kind == "linear":
        frequency = frequency / np.float32(v["factor"])
    elif rope.kind == "llama3":
        frequency = _llama3(frequency, v)
    elif rope.kind == "yarn":
        frequency = _yarn(rope, frequency)
        factor = v["factor"]
        scale = yarn_scale(factor)
        if v.get("mscale") and v.get("mscale_all_dim"):
            scale = yarn_scale(factor, v["mscale"]) / yarn_scale(factor, v["mscale_all_dim"])
    elif rope.kind == "longrope":
        original = v["original_max_position_embeddings"]
        size = "long" if positions[-1] + 1 > original else "short"
        frequency = frequency / np.array(v[f"{size}_factor"], np.float32)
        if v["factor"] > 1:
            scale = math.sqrt(1 + math.log(v["factor"]) / math.log(original))
        scale = v.get(f"{size}_mscale", scale)
    scale = np.float32(v.get("attention_factor", scale))
    angle = positions.astype(np.float32)[:, None, None] * frequency
    return np.cos(angle) * scale, np.sin(angle) * scale


def _llama3(frequency: np.ndarray, v) -> np.ndarray:
    """Slow frequencies divided by the factor, fast ones kept, a ramp between."""
    turns = v["original_max_position_embeddings"] * frequency / np.float32(2 * math.pi)
    low, high = v["low_freq_factor"], v["high_freq_factor"]
    ramp = np.clip((turns - low) / (high - low), 0, 1).astype(np.float32)
    return (1 - ramp) * frequency / np.float32(v["factor"]) + ramp * frequency


def _yarn(rope: Rope, frequency: np.ndarray) -> np.ndarray:
    """As ``_llama3``, the ramp linear in the element instead of the frequency."""
    v, original = rope.values, rope.values["original_max_position_embeddings"]

    def element(turns):
        return rope.dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = element(v["beta_fast"]), element(v["beta_slow"])
    if v.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dim - 1)
    high += 0.001 * (low == high)
    ramp = (np.arange(rope.dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low)
    ramp = np.clip(ramp, 0, 1)
    return frequency / np.float32(v["factor"]) * ramp + frequency * (1 - ramp)


def rotate(rope: Rope, x: np.ndarray, turn: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """x [T, heads, dim] turned by cosine and sine."""
    cos, sin = turn
    a, b = (x[..., ::2], x[..., 1::2]) if rope.interleaved else np.split(x, 2, axis=-1)
    return np.concatenate((a * cos - b * sin, b * cos + a * sin), axis=-1)


def sinusoids(positions: np.ndarray, width: int) -> np.ndarray:
    """[T, width]: sines of falling frequencies, then their cosines, then 0 if ``width`` is odd."""
    half = width // 2
    frequency = np.exp(np.arange(half, dtype=np.float32) * np.float32(-math.log(1e4) / (half - 1)))
    angle = positions.astype(np.float32)[:, None] * frequency
    rest = np.zeros((len(positions), width % 2), np.float32)
    return np.concatenate((np.sin(angle), np.cos(angle), rest), axis=-1)


def relative_buckets(relative: Relative, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Bucket [queries, keys] of the distance from each query to each key.

    Half of the buckets are for one distance each, the rest grow up to ``max_distance``. Both
    directions have their own, or those after the query count as distance 0.
    """
    distance, count = keys[None, :] - queries[:, None], relative.buckets
    base = np.zeros(distance.shape, np.int64)
    if relative.bidirectional:
        count //= 2
        base = np.where(distance > 0, count, 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = count // 2
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(
        math.log(relative.max_distance / exact)) * np.float32(count - exact)
    far = np.minimum(exact + ratio.astype(np.int64), count - 1)
    return base + np.where(distance < exact, distance, far)
