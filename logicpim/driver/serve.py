# SPDX-License-Identifier: BSD-2-Clause
"""Continuous batching: requests join and leave between steps, in modelled time.

First come, first served: requests wait in the order of their arrival, those that arrive together in
the order given, and nobody overtakes. Before each step the first ones join for as long as

* no more than ``max_batch`` sequences run,
* the prompts that begin in this step have no more than ``max_prefill`` tokens together (a longer
  one begins in a step of its own),
* there is room for the whole sequence in the KV cache: prompt and all tokens asked for.

A step reads the whole prompts of those that joined and one token of each other sequence. With
nobody running, time goes on to the next arrival. A request that can never run is refused alone.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..llm.graph import ELEMENT_BYTES
from ..llm.kinds import ModelConfig
from ..llm.tensors import parameters
from ..sim.model import layout
from ..spec.config import Config
from ..spec.errors import CapacityError, ModelError
from ..spec.isa import Format
from .decode import Decoder, Stream, check_logits
from .modelled import Clock, Pass, Spent


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt to be continued.

    Parameters
    ----------
    id : str
    prompt : tuple of int
    tokens : int
        At most so many are made.
    arrival : float
        In seconds of modelled time.
    ended : callable
        ``ended(ids)``: whether the tokens made so far end the text.
    """

    id: str
    prompt: tuple[int, ...]
    tokens: int
    arrival: float = 0.0
    ended: Callable[[list[int]], bool] = lambda ids: False


@dataclass(eq=False)
class Served:
    """A request and what has become of it.

    Attributes
    ----------
    ids : list of int
        Tokens so far.
    times : list of float
        Instants at which they were there.
    joined : float or None
        When it joined.
    finish : str or None
        ``stop``, ``length`` or ``error``; None while it waits or runs.
    error : str or None
        Why it was refused or given up.
    matches : bool or None
        Whether all its logits were those of the reference; None without one.
    """

    request: Request
    ids: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    joined: float | None = None
    finish: str | None = None
    error: str | None = None
    matches: bool | None = None
    stream: Stream | None = field(default=None, repr=False)

    @property
    def t2ft(self) -> float | None:
        """Seconds from arrival to the first token."""
        return self.times[0] - self.request.arrival if self.times else None

    @property
    def tbt(self) -> list[float]:
        """Seconds between tokens."""
        return [b - a for a, b in zip(self.times, self.times[1:], strict=False)]

    @property
    def e2e(self) -> float | None:
        """Seconds from arrival to the last token."""
        return self.times[-1] - self.request.arrival if self.times else None


@dataclass(frozen=True)
class Step:
    """A step: when it began, what it took, its sequences, and prompt tokens that it read."""

    begin: float
    spent: Spent
    phase: str
    sequences: int
    prompt_tokens: int


class Server:
    """Serves requests with a decoder.

    Parameters
    ----------
    decoder : Decoder
        Nothing else may use it meanwhile.
    clock : Clock
    max_batch, max_prefill : int
        Sequences that run at once; prompt tokens that begin in one step.

    Attributes
    ----------
    now : float
        Modelled time.
    steps : list of Step
        What has been done.
    """

    def __init__(self, decoder: Decoder, clock: Clock, max_batch: int = 16,
                 max_prefill: int = 2048):
        self.decoder, self.clock = decoder, clock
        self.max_batch, self.max_prefill = max_batch, max_prefill
        self.now, self.steps = 0.0, []
        self._passes: list[Pass] = []
        decoder.observe = self._passes.append

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[Served, np.ndarray | None]]:
        """Each token as it comes, with its logits: the last of ``served.ids``.

        The last one of a request comes with ``served.finish`` set. One that is refused or given up
        comes with its error, and without logits.
        """
        waiting = deque(map(Served, sorted(requests, key=lambda r: r.arrival)))
        running: list[Served] = []
        try:
            while waiting or running:
                if not running:
                    self.now = max(self.now, waiting[0].request.arrival)
                joined, refused = self._join(waiting, running)
                for served in refused:
                    yield served, None
                running += joined
                if running:
                    yield from self._step(running, joined)
                running = [served for served in running if served.finish is None]
        finally:
            for served in running:
                self._leave(served)

    def _join(self, waiting, running) -> tuple[list[Served], list[Served]]:
        """Those that begin in this step, and those that never can."""
        joined, refused, tokens = [], [], 0
        while (waiting and waiting[0].request.arrival <= self.now
               and len(running) + len(joined) < self.max_batch):
            served, request = waiting[0], waiting[0].request
            if joined and tokens + len(request.prompt) > self.max_prefill:
                break
            try:
                served.stream = self.decoder.open(request.prompt, request.tokens)
            except (CapacityError, ModelError) as error:
                if isinstance(error, CapacityError) and (running or joined):
                    break  # there will be room when others have left
                self._give_up(served, error)
                refused.append(served)
            else:
                served.joined = self.now
                tokens += len(request.prompt)
                joined.append(served)
            waiting.popleft()
        return joined, refused

    def _step(self, running, joined):
        """One step of all that run, those that just ``joined`` among them."""
        begin, made = self.now, []
        read = sum(len(served.request.prompt) for served in joined)

        def step(streams):
            made.extend(zip(streams, self.decoder.step(streams), strict=True))

        failed = self._together(self.decoder.begin, joined)
        failed |= self._together(step, [served for served in running if served not in failed])
        if self._passes:
            spent = Spent.of(self.clock.spent(done) for done in self._passes)
            self.now += spent.seconds
            self.steps.append(Step(begin, spent, self._passes[-1].phase, len(running), read))
            self._passes.clear()
        logits = dict(made)
        for served in running:
            if served in failed:
                self._give_up(served, failed[served])
                yield served, None
            else:
                yield self._token(served, logits[served.stream])

    def _together(self, do, group) -> dict[Served, Exception]:
        """Do something to all of a group; if one of them cannot, to each alone, to find it."""
        if not group:
            return {}
        try:
            do([served.stream for served in group])
        except (CapacityError, ModelError) as error:
            if len(group) == 1:
                return {group[0]: error}
            return {served: why for each in group
                    for served, why in self._together(do, [each]).items()}
        return {}

    def _token(self, served, logits):
        """Take the best next token of a sequence."""
        try:
            check_logits(logits, len(served.ids))
        except ModelError as error:
            self._give_up(served, error)
            return served, None
        token = int(logits.argmax())
        served.ids.append(token)
        served.times.append(self.now)
        served.matches, served.stream.ids = served.stream.matches, [token]
        if served.request.ended(served.ids):
            served.finish = "stop"
        elif len(served.ids) == served.request.tokens:
            served.finish = "length"
        if served.finish:
            self._leave(served)
        return served, logits

    def _give_up(self, served, error):
        served.finish, served.error = "error", " ".join(str(error).split())
        self._leave(served)

    def _leave(self, served):
        if served.stream is not None:
            self.decoder.close(served.stream)
            served.stream = None


def kv_room(config: Config, model: ModelConfig, weights: Format = Format.FP16) -> int:
    """Tokens of KV cache that the DRAM holds, in FP16, beside all weights of a model."""
    sizes = parameters(model)
    held = (ELEMENT_BYTES * (sizes.total - sizes.experts)
            + layout.element_dtype(weights).itemsize * sizes.experts)
    token = ELEMENT_BYTES * sum(b.attention.cached for b in model.blocks[model.encoder:])
    return max(0, config.channels * config.capacity_bytes - held) // token
