# SPDX-License-Identifier: BSD-2-Clause
"""Decoding with experts and attention on a device, and on the reference in lockstep to check it.

Sequences go through the layers side by side. Only calls of experts and of attention see more than
one of them, and their results do not depend on that: a sequence has the same bits alone and in any
company. (Not so where a policy deals the experts over Logic-PIM and xPU: it looks at all tokens.)
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ..llm.attention import KvCache, NumpyAttention
from ..llm.calls import lockstep
from ..llm.config import ModelConfig
from ..llm.decoder import Model
from ..llm.graph import Batch, Operation, operations
from ..sim.model import layout
from ..spec.errors import ModelError
from .experts import ExpertRunner
from .modelled import Pass, metered
from .placed import PlacedExperts

PHASES = ("prefill", "mixed", "decode")


def check_length(config: ModelConfig, prompt: int, tokens: int) -> int:
    """Length of what the decoder sees. Raises ModelError if the model was made for less."""
    length = tokens + 1 if config.encoder else prompt + tokens
    if max(length, prompt) > config.max_positions:
        raise ModelError(f"{prompt} prompt tokens and {tokens} more are {prompt + tokens}; the "
                         f"model was made for {config.max_positions}: ask for fewer")
    return length


def check_logits(logits: np.ndarray, index: int) -> None:
    """Raise ModelError where those of token ``index`` cannot be used."""
    if not np.isfinite(logits).all():
        raise ModelError(f"the logits of token {index} are not all finite numbers: the "
                         f"checkpoint is damaged or needs more range than float32 has")


@dataclass(eq=False)
class Stream:
    """A sequence that is being decoded.

    Attributes
    ----------
    prompt : list of int
    caches : list of KvCache
        The device's, and the reference's if there is one.
    source : int
        Tokens that the encoder reads, where there is one.
    ids : list of int
        What the next pass reads: whoever picks a token puts it here.
    matches : bool or None
        Whether its logits so far were those of the reference; None without one.
    """

    prompt: list[int]
    caches: list[KvCache]
    source: int
    ids: list[int] = field(default_factory=list)
    matches: bool | None = None

    @property
    def past(self) -> int:
        """Tokens that the decoder has read."""
        return self.caches[0].length


@dataclass
class Decoder:
    """A model and the runner of its experts; a second runner checks the first.

    Parameters
    ----------
    model : Model
    experts : ExpertRunner or PlacedExperts
    reference : ExpertRunner, PlacedExperts or None
        If given, the whole decoder runs again with it, on its own KV cache and the same tokens,
        and every logit is compared bit for bit. It runs in a thread of its own.
    attention, reference_attention : NumpyAttention or None
        What attends, and has the caches; None for numpy.
    observe : callable or None
        Called with a :class:`~.modelled.Pass` after each.

    Attributes
    ----------
    matches : bool or None
        Whether all logits so far were equal; None without a reference.
    operations : dict of str to list of Operation
        What has run so far, by phase: ``prefill``, ``decode``, or ``mixed`` where a pass was both.
    """

    model: Model
    experts: ExpertRunner | PlacedExperts
    reference: ExpertRunner | PlacedExperts | None = None
    attention: NumpyAttention | None = None
    reference_attention: NumpyAttention | None = None
    observe: Callable[[Pass], None] | None = None
    matches: bool | None = None
    operations: dict[str, list[Operation]] = field(
        default_factory=lambda: {phase: [] for phase in PHASES})

    def __post_init__(self):
        self.attention = self.attention or NumpyAttention(self.config)
        self.reference_attention = self.reference_attention or NumpyAttention(self.config)

    @property
    def config(self) -> ModelConfig:
        """Of the model."""
        return self.model.config

    @property
    def _sides(self) -> list[tuple]:
        """(experts, attention) of the device, and of the reference if there is one."""
        both = ((self.experts, self.attention), (self.reference, self.reference_attention))
        return [side for side in both if side[0] is not None]

    def open(self, prompt: Sequence[int], tokens: int) -> Stream:
        """A sequence with room for so many more tokens.

        Raises ModelError if the model was not made for them, CapacityError if the cache is full.
        """
        length = check_length(self.config, len(prompt), tokens)
        caches = []
        try:
            for _, attention in self._sides:
                caches.append(attention.cache(length))
        except BaseException:
            self._release(caches)
            raise
        return Stream(list(prompt), caches, len(prompt) if self.config.encoder else 0)

    def close(self, stream: Stream) -> None:
        """Give the room of a sequence back."""
        self._release(stream.caches)
        stream.caches = []

    def _release(self, caches):
        for cache, (_, attention) in zip(caches, self._sides, strict=False):
            attention.release(cache)

    def begin(self, streams: Sequence[Stream]) -> None:
        """Have the encoder, where there is one, read the prompts of new sequences."""
        found = self._run("prefill", streams, lambda stream, cache: self.model.encoding(
            stream.prompt, cache), [Batch(sequences=1, tokens=s.source) for s in streams],
            encoder=True)
        for stream, ids in zip(streams, found[0], strict=True):
            stream.ids = ids

    def step(self, streams: Sequence[Stream]) -> list[np.ndarray]:
        """Float32 logits [vocab_size] of each sequence after its ``ids``.

        If it raises, no sequence has gone on: the step may be had again, of others or of one alone.
        """
        batches = [Batch(sequences=1, tokens=len(s.ids), past=s.past, source=s.source)
                   for s in streams]
        new = sum(not b.past for b in batches)
        phase = "decode" if not new else "prefill" if new == len(batches) else "mixed"
        lengths = [[cache.length for cache in s.caches] for s in streams]
        try:
            found = self._run(phase, streams, lambda stream, cache: self.model.decoding(
                stream.ids, cache), batches)
        except BaseException:
            for stream, before in zip(streams, lengths, strict=True):
                for cache, length in zip(stream.caches, before, strict=True):
                    cache.length = length
            raise
        if self.reference is not None:
            for stream, a, b in zip(streams, *found, strict=True):
                equal = np.array_equal(a.view(np.uint32), b.view(np.uint32))
                stream.matches = equal and stream.matches is not False
                self.matches = equal and self.matches is not False
        return found[0]

    def _run(self, phase, streams, make, batches, encoder=False) -> list[list]:
        """Results of a pass of all sequences, on each side."""
        done, seen = Pass(phase), [len(routed) for routed in self._routed()]

        def run(side):
            experts, attention = self._sides[side]
            experts.phase = attention.phase = phase
            passes = [make(stream, stream.caches[side]) for stream in streams]
            if side == 0:
                experts, attention = (metered(each, done.stages) for each in (experts, attention))
            with np.errstate(all="ignore"):  # judged by the logits
                return lockstep(passes, experts, attention)

        if len(self._sides) == 1:
            found = [run(0)]
        else:
            with ThreadPoolExecutor(2) as pool:
                found = list(pool.map(run, range(2)))
        pim, xpu = (routed[n:] for routed, n in zip(self._routed(), seen, strict=True))
        if not encoder or self.config.encoder:
            bits = 8 * layout.element_dtype(self.experts.weights).itemsize
            done.operations = operations(
                self.config, batches, pim, encoder=encoder, expert_bits=bits, xpu_tokens=xpu,
                whole=self.experts.whole, pieces=self.attention.pieces)
            self.operations[phase] += done.operations
        if self.observe:
            self.observe(done)
        return found

    def _routed(self) -> tuple[list[int], list[int]]:
        """Tokens of the experts on Logic-PIM and on the xPU so far."""
        on_xpu = self.experts.on_xpu if isinstance(self.experts, PlacedExperts) else []
        return self.experts.routed, on_xpu

    def greedy(self, prompt: list[int], tokens: int, stop: tuple[int, ...] = (),
               first: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Up to ``tokens`` pairs of the best next token and its logits; ends after one of ``stop``.

        ``first`` is taken as the first token, whatever is best. Raises ModelError where the model
        cannot do it.
        """
        stream = self.open(prompt, tokens)
        try:
            self.begin([stream])
            for index in range(tokens):
                logits, = self.step([stream])
                check_logits(logits, index)
                token = int(logits.argmax()) if index or first is None else first
                yield token, logits
                if token in stop:
                    return
                stream.ids = [token]
        finally:
            self.close(stream)
