# SPDX-License-Identifier: BSD-2-Clause
"""What a pass of a sequence asks others for, and passes of many sequences side by side.

A pass is a generator: it yields a call, is sent the call's result and at the end returns its own.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .kinds import Attention


@dataclass(frozen=True, eq=False)
class ExpertsCall:
    """Experts of a layer: float32 [T, H] from ``x`` [T, H], ``indices`` [T, top_k] of the chosen
    experts, -1 for none, and float32 ``weights`` [T, top_k] of their results."""

    layer: int
    x: np.ndarray
    indices: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class AttendCall:
    """Attention of a layer: float32 [T, heads, value_dim].

    Whoever attends puts the new keys and values behind those in the cache, from ``cache.length``
    on, and leaves ``length`` to the pass, which counts its tokens when all layers have had them.

    Parameters
    ----------
    layer : int
        Of all blocks, those of the encoder first.
    attention : Attention
    q : array of float32 [T, heads, head_dim]
    k, v : array of float32 [T, kv_heads, head_dim or value_dim] or None
        Of the tokens of this pass; None with ``cross``, whose keys and values
        ``cache.cross[layer - encoder]`` has.
    cache : object or None
        The sequence's; None in the encoder, which sees ``k`` and ``v`` alone.
    bias : array of float32 or None
        To be added to the scores, [T, context] or [heads, T, context]: minus infinity where a query
        does not see a key.
    sinks : array of float32 [heads] or None
        Scores without a value.
    cross : bool
        Attention to what the encoder made.
    """

    layer: int
    attention: Attention
    q: np.ndarray
    k: np.ndarray | None
    v: np.ndarray | None
    cache: Any
    bias: np.ndarray | None = None
    sinks: np.ndarray | None = None
    cross: bool = False


Pass = Generator[ExpertsCall | AttendCall, np.ndarray, Any]
Experts = Callable[[int, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""``experts(layer, x, indices, weights)``: the result of an :class:`ExpertsCall`."""
Attends = Callable[[Sequence[AttendCall]], list[np.ndarray]]
"""``attends(calls)``: their results, all calls of one layer."""


def lockstep(passes: Sequence[Pass], experts: Experts, attends: Attends) -> list:
    """Results of passes of one model, taken through its layers together.

    In each layer the experts of all sequences are one call, their tokens in the order of the
    passes, and so is attention. All else runs pass by pass.
    """
    results, sent = [None] * len(passes), [None] * len(passes)
    while True:
        calls = []
        for index, (each, value) in enumerate(zip(passes, sent, strict=True)):
            try:
                calls.append(each.send(value))
            except StopIteration as end:
                results[index] = end.value
        if not calls:
            return results
        first, *others = calls
        if any((type(c), c.layer) != (type(first), first.layer) for c in others) or \
                len(calls) < len(passes):
            raise ValueError("passes of different lengths cannot run in lockstep")
        sent = attends(calls) if isinstance(first, AttendCall) else _experts(calls, experts)


def _experts(calls: Sequence[ExpertsCall], experts: Experts) -> list[np.ndarray]:
    """Results of the experts of one layer, all tokens in one call."""
    parts = [[getattr(c, name) for c in calls] for name in ("x", "indices", "weights")]
    y = experts(calls[0].layer, *(p[0] if len(p) == 1 else np.concatenate(p) for p in parts))
    return np.split(y, np.cumsum([len(x) for x in parts[0][:-1]]))
