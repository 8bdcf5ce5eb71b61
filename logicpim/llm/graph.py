# SPDX-License-Identifier: BSD-2-Clause
"""One step of a Mixtral as a list of operations: sizes, work, memory traffic and Op/B of each.

Bytes count each operand and result once, two bytes an element, as an FP16 device moves them.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from .config import ModelConfig

ELEMENT_BYTES = 2


class Place(enum.StrEnum):
    """Where an operation runs."""

    XPU = "xPU"
    LOGIC_PIM = "Logic-PIM"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """``calls`` equal operations of a step.

    Parameters
    ----------
    name : str
        What it computes; equal over all layers.
    place : Place
    m, n, k : int
        GEMM sizes: tokens or queries, output rows, reduction. ``k`` is 0 where nothing is reduced
        over a second operand: then ``m * n`` elements are worked on.
    calls : int
        Equal operations in the step: layers, heads, experts.
    element_ops : int
        Operations on each element where ``k`` is 0.
    """

    name: str
    place: Place
    m: int
    n: int
    k: int = 0
    calls: int = 1
    element_ops: int = 1

    @property
    def flops(self) -> int:
        """Operations of all calls; a multiply-accumulate is two."""
        return self.calls * self.m * self.n * (2 * self.k or self.element_ops)

    @property
    def bytes(self) -> int:
        """Bytes that all calls read and write."""
        operands = (self.m + self.n) * self.k or self.m * self.n
        return self.calls * ELEMENT_BYTES * (operands + self.m * self.n)

    @property
    def op_b(self) -> float:
        """Operations per byte."""
        return self.flops / self.bytes


def step(config: ModelConfig, tokens: int, past: int,
         expert_tokens: Sequence[int]) -> list[Operation]:
    """Operations of one forward pass, in the order of the data.

    Parameters
    ----------
    tokens, past : int
        Tokens of this pass, and those in the KV cache before it.
    expert_tokens : list of int
        Tokens of each expert that was chosen at all, over all layers.
    """
    c, layers, context = config, config.layers, past + tokens
    xpu, pim = Place.XPU, Place.LOGIC_PIM
    hidden, heads = c.hidden_size, c.heads * c.head_dim

    def op(name, place=xpu, *, m=tokens, n, k=0, calls=layers, element_ops=1):
        return Operation(name=name, place=place, m=m, n=n, k=k, calls=calls,
                         element_ops=element_ops)

    routed = [m for m in sorted(set(expert_tokens)) if m]
    count = {m: sum(1 for value in expert_tokens if value == m) for m in routed}
    return [
        op("norms", n=hidden, calls=2 * layers + 1, element_ops=4),
        op("attention q, k, v", n=heads + 2 * c.kv_heads * c.head_dim, k=hidden),
        op("attention rotary", n=heads + c.kv_heads * c.head_dim, element_ops=3),
        op("attention scores", m=c.group * tokens, n=context, k=c.head_dim,
           calls=layers * c.kv_heads),
        op("attention softmax", m=c.heads * tokens, n=context, element_ops=4),
        op("attention values", m=c.group * tokens, n=c.head_dim, k=context,
           calls=layers * c.kv_heads),
        op("attention output", n=hidden, k=heads),
        op("router", n=c.experts, k=hidden),
        *(op("expert w1, w3", pim, m=m, n=c.intermediate_size, k=hidden, calls=2 * count[m])
          for m in routed),
        *(op("expert SiLU gate", m=m, n=c.intermediate_size, calls=count[m], element_ops=5)
          for m in routed),
        *(op("expert w2", pim, m=m, n=hidden, k=c.intermediate_size, calls=count[m])
          for m in routed),
        op("expert combine", m=c.top_k * tokens, n=hidden, element_ops=2),
        op("language-model head", m=1, n=c.vocab_size, k=hidden, calls=1),
    ]
