# SPDX-License-Identifier: BSD-2-Clause
"""Norms, softmax and activations in numpy float32."""

import math

import numpy as np

from .kinds import Mlp, Norm


def normalise(norm: Norm, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None
              ) -> np.ndarray:
    """``x`` normalised along its last axis, times ``weight``, plus ``bias``."""
    if norm.kind == "layer":
        x = x - np.mean(x, axis=-1, keepdims=True)
    scale = np.mean(np.square(x), axis=-1, keepdims=True) + np.float32(norm.eps)
    y = weight * (x / np.sqrt(scale))
    return y if bias is None else y + bias


def softmax(x: np.ndarray) -> np.ndarray:
    """Softmax along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def logistic(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    """x times its logistic function."""
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-x))


_erf = np.vectorize(math.erf, otypes=[np.float32])
_ACTIVATIONS = {
    "silu": silu,
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "gelu": lambda x: x * np.float32(0.5) * (1 + _erf(x * np.float32(0.5 ** 0.5))),
    "gelu_tanh": lambda x: x * np.float32(0.5) * (1 + np.tanh(
        np.float32((2 / math.pi) ** 0.5) * (x + np.float32(0.044715) * x * x * x))),
}


def activate(mlp: Mlp, gate: np.ndarray, up: np.ndarray | None = None) -> np.ndarray:
    """What goes into the last matrix, from the products with w1 and, if gated, w3."""
    if mlp.activation == "swiglu_clamped":
        gate = np.minimum(gate, np.float32(mlp.limit))
        up = np.clip(up, -np.float32(mlp.limit), np.float32(mlp.limit))
        return (up + 1) * (gate * logistic(gate * np.float32(mlp.alpha)))
    y = _ACTIVATIONS[mlp.activation](gate)
    return y if up is None else y * up
