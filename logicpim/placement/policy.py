# SPDX-License-Identifier: BSD-2-Clause
"""The interface of a placement policy: what it is asked for a layer, and what it answers.

A policy answers with steps in the order of their issue: products on a processor, transfers on the
link. :func:`makespan` is how long they take, the same for all policies.
"""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from .costs import Costs


class Unit(enum.StrEnum):
    """What a step keeps busy."""

    XPU = "xPU"
    PIM = "Logic-PIM"
    TO_XPU = "link to the xPU"
    TO_PIM = "link to Logic-PIM"


@dataclass(frozen=True, kw_only=True)
class Query:
    """A layer that is to be placed.

    Parameters
    ----------
    tokens : tuple of int
        Tokens of each expert.
    costs : Costs
    stage : str
        ``prefill``, ``decode`` or ``mixed``.
    spaces : tuple of int
        Memory space of each expert; empty where it does not matter.
    contexts : tuple of int
        Tokens that each sequence has in the cache.
    following : tuple of int or None
        Tokens of each expert of the next layer as far as they are known or predicted; None in the
        last one, or if nothing is known.
    resident : frozenset of int
        Experts of this layer that lie in the xPU's own memory.
    resident_next : frozenset of int
        Those of the next layer.
    """

    tokens: tuple[int, ...]
    costs: Costs
    stage: str = "decode"
    spaces: tuple[int, ...] = ()
    contexts: tuple[int, ...] = ()
    following: tuple[int, ...] | None = None
    resident: frozenset[int] = frozenset()
    resident_next: frozenset[int] = frozenset()

    @property
    def active(self) -> list[int]:
        """Experts that have tokens."""
        return [e for e, t in enumerate(self.tokens) if t]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A product or a transfer.

    Parameters
    ----------
    unit : Unit
    seconds : float
    expert : int
        In attention, the sequence.
    after : tuple of int
        Steps, by their number, that must be done before.
    bytes : int
        Of a transfer.
    what : str
        ``product``, ``weights`` or ``activations``.
    next_layer : bool
        Whether it is for an expert of the next layer.
    """

    unit: Unit
    seconds: float
    expert: int
    after: tuple[int, ...] = ()
    bytes: int = 0
    what: str = "product"
    next_layer: bool = False


@dataclass
class Plan:
    """The answer: steps in the order of their issue. Each unit does its own in that order.

    ``why`` is the sentence of the rule that decided.
    """

    steps: list[Step] = field(default_factory=list)
    why: str = ""

    def add(self, unit: Unit, seconds: float, expert: int, **more) -> int:
        """Adds a step; returns its number."""
        self.steps.append(Step(unit=unit, seconds=seconds, expert=expert, **more))
        return len(self.steps) - 1

    @property
    def places(self) -> dict[int, Unit]:
        """Where the product of each expert runs."""
        return {s.expert: s.unit for s in self.steps if s.what == "product"}

    @property
    def fetched(self) -> frozenset[int]:
        """Experts of the next layer that are on their way into the xPU's memory."""
        return frozenset(s.expert for s in self.steps if s.next_layer)

    @property
    def bytes(self) -> int:
        """Bytes on the link."""
        return sum(s.bytes for s in self.steps)

    def busy(self, unit: Unit) -> float:
        """Seconds that a unit works."""
        return sum(s.seconds for s in self.steps if s.unit == unit)

    @property
    def seconds(self) -> float:
        """Time until all steps are done."""
        return makespan(self.steps)


Policy = Callable[[Query], Plan]


def time_of(seconds: float) -> str:
    """A time for people."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns" if seconds else "0"


def makespan(steps: Iterable[Step]) -> float:
    """Time until all steps are done, each unit doing its own in the order given."""
    free = dict.fromkeys(Unit, 0.0)
    done: list[float] = []
    for step in steps:
        begin = max([free[step.unit], *(done[i] for i in step.after)])
        free[step.unit] = begin + step.seconds
        done.append(free[step.unit])
    return max(done, default=0.0)


def total(policy: Policy, layers: Iterable[Query]) -> float:
    """Time of layers one after the other; what one fetches is resident in the next."""
    seconds, fetched = 0.0, frozenset()
    for query in layers:
        plan = policy(replace(query, resident=query.resident | fetched))
        seconds, fetched = seconds + plan.seconds, plan.fetched
    return seconds
