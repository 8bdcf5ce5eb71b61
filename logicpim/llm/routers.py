# SPDX-License-Identifier: BSD-2-Clause
"""Which experts serve a token, and with what weight."""

import numpy as np

from .kinds import Moe
from .ops import logistic, softmax


def route(moe: Moe, scores: np.ndarray, correction: np.ndarray | None = None
          ) -> tuple[np.ndarray, np.ndarray]:
    """Chosen experts [T, top_k] and their weights, float32, from scores [T, experts].

    An index of -1 with a weight of 0 stands for an expert that had no room.
    """
    router = moe.router
    if router.kind == "sparse_mixer":
        indices, weights = _sparse_mixer(scores, router.jitter)
    else:
        values = logistic(scores) if router.kind == "sigmoid" else softmax(scores)
        choice = values if correction is None else values + correction
        if router.groups > 1:
            choice = _limited(choice, router)
        indices = np.argsort(-choice, axis=-1, kind="stable")[:, :moe.top_k]
        weights = np.take_along_axis(values, indices, axis=-1)
    if router.normalise:
        weights = weights / weights.sum(axis=-1, keepdims=True)
    if router.capacity:
        indices, weights = _dropped(indices, weights, router.capacity)
    return indices, weights * np.float32(router.scale)


def _limited(choice: np.ndarray, router) -> np.ndarray:
    """Minus infinity for experts beyond the best groups.

    A group is as good as its best expert, or for a sigmoid router as its best two together.
    """
    grouped = choice.reshape(len(choice), router.groups, -1)
    best = np.sort(grouped, axis=-1)[..., -2 if router.kind == "sigmoid" else -1:].sum(axis=-1)
    order = np.argsort(-best, axis=-1, kind="stable")[:, :router.top_groups]
    kept = np.zeros(best.shape, bool)
    np.put_along_axis(kept, order, True, axis=-1)
    return np.where(kept[..., None], grouped, np.float32(-np.inf)).reshape(choice.shape)


def _sparse_mixer(scores: np.ndarray, jitter: float) -> tuple[np.ndarray, np.ndarray]:
    """The two best; a weight is the share among those not much below the best of the rest."""
    indices, weights, rest = [], [], scores.copy()
    for _ in range(2):
        best = rest.argmax(axis=-1)[:, None]
        top = np.take_along_axis(rest, best, axis=-1)
        near = (top - scores) / np.maximum(np.abs(scores), top) <= np.float32(2 * jitter)
        share = softmax(np.where(near, rest, np.float32(-np.inf)))
        indices.append(best)
        weights.append(np.take_along_axis(share, best, axis=-1))
        np.put_along_axis(rest, best, np.float32(-np.inf), axis=-1)
    return np.concatenate(indices, axis=-1), np.concatenate(weights, axis=-1)


def _dropped(indices: np.ndarray, weights: np.ndarray, capacity: int
             ) -> tuple[np.ndarray, np.ndarray]:
    """Without the tokens beyond the first ``capacity`` of each expert."""
    indices, weights = indices.copy(), weights.copy()
    for expert in np.unique(indices):
        token, slot = np.nonzero(indices == expert)
        indices[token[capacity:], slot[capacity:]] = -1
        weights[token[capacity:], slot[capacity:]] = 0
    return indices, weights
