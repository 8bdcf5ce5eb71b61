# SPDX-License-Identifier: BSD-2-Clause
"""Modelled time of passes: Logic-PIM as measured, the xPU by rooflines, stage after stage.

The operations of a layer depend on each other, so they run one after the other. Only experts that
a policy deals over both processors run side by side: a layer's take as long as the slower half.

* Logic-PIM: the clocks that it counted, of the slowest channel in each program, at ``clock_hz``.
  An untimed device counts none; then the roofline of its tiles and of the added TSVs stands in.
* xPU: of each operation of the pass its FLOPs at the peak or its bytes at the bandwidth, whichever
  takes longer. For each channel it has the 1/160 of an H100's FP16 peak and the ordinary path
  (:data:`~.decisions.XPU_FLOPS`, a granule a clock).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..llm.graph import Operation, Place
from ..llm.kinds import ModelConfig
from ..placement.costs import roofline
from ..spec.config import Config
from .decisions import XPU_FLOPS
from .placed import costs_of


@dataclass(frozen=True)
class Stage:
    """A call of a layer: clocks that Logic-PIM took, tokens of the experts on it and on the xPU."""

    cycles: int
    pim: tuple[int, ...] = ()
    xpu: tuple[int, ...] = ()


@dataclass
class Pass:
    """What a pass of some sequences was made of.

    Parameters
    ----------
    phase : str
    operations : list of Operation
        On both processors.
    stages : list of Stage
        Its calls of experts and of attention.
    """

    phase: str
    operations: list[Operation] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)


def metered(runner: Callable, stages: list[Stage]) -> Callable:
    """The same runner of experts or of attention, each call noted in ``stages``."""
    def cycles():
        return sum(s.cycles for s in getattr(runner, "stats", {}).values())

    def call(*args):
        lists = [getattr(runner, name, []) for name in ("routed", "on_xpu")]
        seen, before = [len(tokens) for tokens in lists], cycles()
        result = runner(*args)
        stages.append(Stage(cycles() - before, *(
            tuple(tokens[n:]) for tokens, n in zip(lists, seen, strict=True))))
        return result
    return call


@dataclass(frozen=True)
class Spent:
    """Modelled seconds: of a whole pass, and how long each processor worked in it."""

    seconds: float = 0.0
    pim: float = 0.0
    xpu: float = 0.0

    @classmethod
    def of(cls, parts: Iterable["Spent"]) -> "Spent":
        """The sum of passes one after the other."""
        total = cls()
        for part in parts:
            total = cls(total.seconds + part.seconds, total.pim + part.pim, total.xpu + part.xpu)
        return total


class Clock:
    """Seconds of passes on a configuration and the xPU beside it.

    Parameters
    ----------
    config : Config
    model : ModelConfig
    timed : bool
        Whether the device counts clocks.
    weight_bytes : float
        Of an element of the experts' weights on Logic-PIM.
    """

    def __init__(self, config: Config, model: ModelConfig, timed: bool, weight_bytes: float = 2.0):
        self.config, self.timed = config, timed
        rate = config.clock_hz * config.channels
        self._xpu = XPU_FLOPS * config.channels, rate * config.granule_bytes
        self._pim = 2 * config.tile.macs * rate, rate * config.beat_bytes
        self._expert_xpu = self._expert_pim = lambda tokens: 0.0
        if expert := model.expert:
            self._expert_xpu = costs_of(config, model).xpu
            self._expert_pim = roofline(
                len(expert.matrices), model.hidden_size, expert.width, peak=self._pim[0],
                bandwidth=self._pim[1], element_bytes=weight_bytes)

    def spent(self, done: Pass) -> Spent:
        """Seconds of a pass."""
        both = xpu = pim = 0.0
        for stage in done.stages:
            there = sum(map(self._expert_xpu, stage.xpu))
            here = (stage.cycles / self.config.clock_hz if self.timed
                    else sum(map(self._expert_pim, stage.pim)))
            both, xpu, pim = both + max(here, there), xpu + there, pim + here
        others = [o for o in done.operations if not o.name.startswith("expert w")]
        dense = sum(_roofline(others, Place.XPU, *self._xpu))
        if not self.timed:
            untimed = sum(_roofline((o for o in others if o.name.startswith("attention")),
                                    Place.LOGIC_PIM, *self._pim))
            both, pim = both + untimed, pim + untimed
        return Spent(both + dense, pim, xpu + dense)


def _roofline(operations: Iterable[Operation], place: Place, peak: float, bandwidth: float):
    """Seconds of those operations that run there."""
    for o in operations:
        if o.place == place:
            yield max(o.flops / peak, o.bytes / bandwidth)
