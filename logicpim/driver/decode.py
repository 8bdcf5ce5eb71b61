# SPDX-License-Identifier: BSD-2-Clause
"""Greedy decoding with the experts on a device, and on the reference in lockstep to check it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..llm.config import ModelConfig
from ..llm.decoder import KvCache, Model
from ..llm.graph import Batch, Operation, operations, step
from ..sim.model import layout
from ..spec.errors import ModelError
from .experts import ExpertRunner
from .placed import PlacedExperts


def check_length(config: ModelConfig, prompt: int, tokens: int) -> int:
    """Length of what the decoder sees. Raises ModelError if the model was made for less."""
    length = tokens + 1 if config.encoder else prompt + tokens
    if max(length, prompt) > config.max_positions:
        raise ModelError(f"{prompt} prompt tokens and {tokens} more are {prompt + tokens}; the "
                         f"model was made for {config.max_positions}: ask for fewer")
    return length


@dataclass
class Decoder:
    """A model and the runner of its experts; a second runner checks the first.

    Parameters
    ----------
    model : Model
    experts : ExpertRunner or PlacedExperts
    reference : ExpertRunner, PlacedExperts or None
        If given, the whole decoder runs again with it, on its own KV cache and the same tokens,
        and every logit is compared bit for bit.

    Attributes
    ----------
    matches : bool or None
        Whether all logits so far were equal; None without a reference.
    operations : dict of str to list of Operation
        What has run so far, by phase: ``prefill`` and ``decode``.
    """

    model: Model
    experts: ExpertRunner | PlacedExperts
    reference: ExpertRunner | PlacedExperts | None = None
    matches: bool | None = None
    operations: dict[str, list[Operation]] = field(
        default_factory=lambda: {"prefill": [], "decode": []})

    @property
    def config(self) -> ModelConfig:
        """Of the model."""
        return self.model.config

    def _phase(self, phase: str) -> None:
        for runner in (self.experts, self.reference):
            if runner is not None:
                runner.phase = phase

    def _routed(self, seen: tuple[list[int], list[int]] = ([], [])) -> tuple[list[int], list[int]]:
        """Tokens of the experts on Logic-PIM and on the xPU, but for those ``seen`` before."""
        on_xpu = self.experts.on_xpu if isinstance(self.experts, PlacedExperts) else []
        return self.experts.routed[len(seen[0]):], on_xpu[len(seen[1]):]

    def greedy(self, prompt: list[int], tokens: int, stop: tuple[int, ...] = (),
               first: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Up to ``tokens`` pairs of the best next token and its logits; ends after one of ``stop``.

        ``first`` is taken as the first token, whatever is best. Raises ModelError where the model
        cannot do it.
        """
        config = self.config
        length = check_length(config, len(prompt), tokens)
        runners = [r for r in (self.experts, self.reference) if r is not None]
        caches = [KvCache(config, length) for _ in runners]
        source = len(prompt) if config.encoder else 0
        self._phase("prefill")
        seen = self._routed()
        bits = 8 * layout.element_dtype(self.experts.weights).itemsize
        with np.errstate(all="ignore"):  # judged by the logits
            ids = [self.model.start(list(prompt), cache, runner)
                   for runner, cache in zip(runners, caches, strict=True)][0]
        if source:
            pim, xpu = self._routed(seen)
            self.operations["prefill"] += operations(
                config, [Batch(sequences=1, tokens=source)], pim, encoder=True, expert_bits=bits,
                xpu_tokens=xpu, whole=self.experts.whole)
        for index in range(tokens):
            past, seen, phase = caches[0].length, self._routed(), "decode" if index else "prefill"
            self._phase(phase)
            with np.errstate(all="ignore"):
                logits = [self.model.forward(ids, cache, runner)
                          for runner, cache in zip(runners, caches, strict=True)]
            pim, xpu = self._routed(seen)
            self.operations[phase] += step(config, len(ids), past, pim, source, bits, xpu,
                                            whole=self.experts.whole)
            if self.reference is not None:
                equal = np.array_equal(logits[0].view(np.uint32), logits[1].view(np.uint32))
                self.matches = equal and self.matches is not False
            if not np.isfinite(logits[0]).all():
                raise ModelError(f"the logits of token {index} are not all finite numbers: the "
                                 f"checkpoint is damaged or needs more range than float32 has")
            ids = [int(logits[0].argmax()) if index or first is None else first]
            yield ids[0], logits[0]
            if ids[0] in stop:
                return
