# SPDX-License-Identifier: BSD-2-Clause
"""A pass of a model as a list of operations: sizes, work, memory traffic and Op/B of each.

Bytes count each operand and result once, two bytes an element, as an FP16 device moves them;
:attr:`Operation.weight_bits` says where weights take less.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .kinds import Attention, Block, Mlp, ModelConfig, Moe

ELEMENT_BYTES = 2
STORED_BITS = {"each": 16.0, "packed": 16.0, "mxfp4": 4.25}
"""Bits of an expert's weight as the checkpoint holds it: MXFP4 has 8 bits of scale for 32."""


class Place(enum.StrEnum):
    """Where an operation runs."""

    XPU = "xPU"
    LOGIC_PIM = "Logic-PIM"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """``calls`` equal operations of a pass.

    Parameters
    ----------
    name : str
        What it computes; equal over all layers.
    place : Place
    m, n, k : int
        GEMM sizes: tokens or queries, output rows, reduction. ``k`` is 0 where nothing is reduced
        over a second operand: then ``m * n`` elements are worked on.
    calls : int
        Equal operations in the pass: layers, heads, experts.
    element_ops : int
        Operations on each element where ``k`` is 0.
    weight_bits : float
        Bits of an element of the second operand.
    """

    name: str
    place: Place
    m: int
    n: int
    k: int = 0
    calls: int = 1
    element_ops: int = 1
    weight_bits: float = 8.0 * ELEMENT_BYTES

    @property
    def flops(self) -> int:
        """Operations of all calls; a multiply-accumulate is two."""
        return self.calls * self.m * self.n * (2 * self.k or self.element_ops)

    @property
    def bytes(self) -> int:
        """Bytes that all calls read and write."""
        operands = ELEMENT_BYTES * (self.m * self.k or self.m * self.n)
        weights = round(self.n * self.k * self.weight_bits / 8)
        return self.calls * (operands + weights + ELEMENT_BYTES * self.m * self.n)

    @property
    def op_b(self) -> float:
        """Operations per byte."""
        return self.flops / self.bytes


@dataclass(frozen=True, kw_only=True)
class Batch:
    """``sequences`` equal sequences of a pass.

    Parameters
    ----------
    sequences, tokens, past : int
        How many, tokens of each in this pass, and those in its KV cache before.
    source : int
        Tokens that the encoder read, where there is one.
    """

    sequences: int
    tokens: int
    past: int = 0
    source: int = 0


Pieces = Callable[[Attention, int, int], int]
"""``pieces(attention, tokens, past)``."""


def even(tokens: int, experts: int, top_k: int) -> list[int]:
    """Tokens of each chosen expert of a layer if all experts are chosen as often as can be."""
    each, more = divmod(tokens * top_k, experts)
    return [n for n in [each + 1] * more + [each] * (experts - more) if n]


def operations(config: ModelConfig, batches: Sequence[Batch],
               expert_tokens: Sequence[int] | None = None, *, encoder: bool = False,
               stored: bool = False, expert_bits: float | None = None,
               xpu_tokens: Sequence[int] = (), whole: bool = False,
               pieces: Pieces = lambda attention, tokens, past: 0) -> list[Operation]:
    """Operations of one pass of all batches together, in the order of the data.

    Parameters
    ----------
    expert_tokens : list of int or None
        Tokens of each expert that was chosen at all, over all layers; None for :func:`even`.
    encoder : bool
        The pass through the encoder, and of its result into keys and values, instead of the
        decoder's.
    stored : bool
        Count weights as the checkpoint holds them, not as FP16.
    expert_bits : float, optional
        Count so many bits for an element of the experts' weights on Logic-PIM.
    xpu_tokens : list of int
        Tokens of each expert that runs on the xPU.
    whole : bool
        Experts on Logic-PIM run there as a whole, with their activation.
    pieces : callable
        Pieces of the context that attention takes on Logic-PIM; 0: it runs on the xPU.
    """
    if expert_bits is None:
        expert_bits = STORED_BITS[config.storage] if stored else 16.0
    side = config.blocks[:config.encoder] if encoder else config.blocks[config.encoder:]
    graph = _Graph(config, batches, expert_bits, xpu_tokens, whole, pieces)
    return graph.run(side, expert_tokens, encoder)


class _Graph:
    """Operations of a pass; ``op`` makes one with ``tokens`` of all sequences as M."""

    def __init__(self, config, batches, expert_bits, xpu_tokens, whole, pieces):
        self.pieces = pieces
        self.config, self.batches = config, batches
        self.expert_bits, self.xpu_tokens, self.whole = expert_bits, xpu_tokens, whole
        self.tokens = sum(b.sequences * b.tokens for b in batches)

    def op(self, name, calls, *, n, m=None, k=0, element_ops=1, place=Place.XPU, bits=16.0):
        return Operation(name=name, place=place, m=self.tokens if m is None else m, n=n, k=k,
                         calls=calls, element_ops=element_ops, weight_bits=bits)

    def run(self, blocks, expert_tokens, encoder):
        config, hidden = self.config, self.config.hidden_size
        norms = sum(3 if b.cross else 2 for b in blocks) + 1
        rows = [self.op("norms", norms, n=hidden, element_ops=4)]
        for block, layers in _kinds(blocks, lambda b: (b.attention, b.cross)):
            rows += self.attention(block.attention, layers)
            if block.cross:
                rows += self.cross(block.cross, layers)
        for block, layers in _kinds(blocks, lambda b: b.ffn):
            if isinstance(block.ffn, Mlp):
                rows += self.ffn("feed-forward", block.ffn, self.tokens, layers)
            else:
                rows += self.moe(block.ffn, layers, expert_tokens)
        if encoder:
            cross = config.blocks[config.encoder].cross
            width = cross.kv_heads * (cross.head_dim + cross.value_dim)
            return [*rows, self.op("cross-attention k, v", config.layers - config.encoder,
                                   n=width, k=hidden)]
        last = sum(b.sequences for b in self.batches)
        return [*rows, self.op("language-model head", 1, m=last, n=config.vocab_size, k=hidden)]

    def attention(self, a: Attention, layers):
        hidden = self.config.hidden_size
        queries = a.heads * (a.latent.plain_dim + a.latent.rope_dim if a.latent else a.head_dim)
        if m := a.latent:
            into = m.query_rank or hidden
            if m.query_rank:
                yield self.op("attention latent q", layers, n=into, k=hidden)
            yield self.op("attention q", layers, n=queries, k=into)
            yield self.op("attention latent k, v", layers, n=a.head_dim, k=hidden)
            yield self.op("attention q to latent", layers * a.heads, n=m.rank, k=m.plain_dim)
        else:
            yield self.op("attention q, k, v", layers, n=queries + a.cached, k=hidden)
        if a.rope:
            yield self.op("attention rotary", layers, n=(a.heads + a.kv_heads) * a.rope.dim,
                          element_ops=3)
        for batch in self.batches:
            context = batch.past + batch.tokens
            if a.window:
                context = min(context, a.window + batch.tokens - 1)
            pieces = self.pieces(a, batch.tokens, batch.past)
            yield from self.core("attention", a, layers, batch, context, pieces)
        if m:
            yield self.op("attention values of latent", layers * a.heads, n=m.value_dim, k=m.rank)
        yield self.op("attention output", layers, n=hidden,
                      k=a.heads * (m.value_dim if m else a.value_dim))

    def core(self, name, a, layers, batch, context, pieces=0):
        calls = layers * batch.sequences
        rows, place = a.group * batch.tokens, Place.LOGIC_PIM if pieces else Place.XPU
        yield self.op(f"{name} scores", calls * a.kv_heads, m=rows, n=context, k=a.head_dim,
                      place=place)
        yield self.op(f"{name} softmax", calls, m=a.heads * batch.tokens, n=context,
                      element_ops=4, place=place)
        yield self.op(f"{name} values", calls * a.kv_heads, m=rows, n=a.value_dim, k=context,
                      place=place)
        if pieces + a.sinks > 1 and pieces:  # the scores are read again, for what they sum to
            yield self.op(f"{name} merge", calls, m=a.heads * batch.tokens,
                          n=context + pieces * a.value_dim, element_ops=2)

    def cross(self, a, layers):
        hidden = self.config.hidden_size
        yield self.op("cross-attention q", layers, n=a.heads * a.head_dim, k=hidden)
        for batch in self.batches:
            yield from self.core("cross-attention", a, layers, batch, batch.source)
        yield self.op("cross-attention output", layers, n=hidden, k=a.heads * a.value_dim)

    def ffn(self, name, mlp: Mlp, tokens, calls, place=Place.XPU, bits=16.0, whole=False):
        hidden, first = self.config.hidden_size, mlp.matrices[:-1]
        yield self.op(f"{name} {', '.join(first)}", calls * len(first), m=tokens, n=mlp.width,
                      k=hidden, place=place, bits=bits)
        yield self.op(f"{name} activation", calls, m=tokens, n=mlp.width, element_ops=5,
                      place=place if whole else Place.XPU)
        yield self.op(f"{name} w2", calls, m=tokens, n=hidden, k=mlp.width, place=place,
                      bits=bits)

    def moe(self, moe: Moe, layers, expert_tokens):
        yield self.op("router", layers, n=moe.experts, k=self.config.hidden_size)
        if expert_tokens is None:
            expert_tokens = even(self.tokens, moe.experts, moe.top_k) * layers
        rows = [row for routed, place, bits in ((expert_tokens, Place.LOGIC_PIM, self.expert_bits),
                                                (self.xpu_tokens, Place.XPU, 16.0))
                for m in sorted(set(routed)) if m for row in self.ffn(
                    "expert", moe.expert, m, sum(1 for t in routed if t == m), place, bits,
                    self.whole)]
        for kind in range(3):  # the first matrices of all, the activations, the last ones
            yield from rows[kind::3]
        if moe.shared:
            yield from self.ffn("shared expert", moe.shared, self.tokens, layers)
        yield self.op("expert combine", layers, m=moe.top_k * self.tokens,
                      n=self.config.hidden_size, element_ops=2)


def _kinds(blocks: Sequence[Block], key) -> list[tuple[Block, int]]:
    """One block of each kind, in the order they come, and how many there are."""
    found: list[list] = []
    for block in blocks:
        same = next((entry for entry in found if key(entry[0]) == key(block)), None)
        if same:
            same[1] += 1
        else:
            found.append([block, 1])
    return [(block, count) for block, count in found]
