# SPDX-License-Identifier: BSD-2-Clause
"""Experts dealt over xPU and Logic-PIM by a placement policy, layer by layer."""

from collections import Counter

import numpy as np

from ..llm.decoder import NumpyExperts
from ..llm.kinds import ModelConfig
from ..placement.costs import Costs
from ..placement.policy import Policy, Query, Unit
from ..spec.config import Config
from .decisions import Decision, Estimates, decide_experts
from .experts import ExpertRunner
from .stats import Stats


def costs_of(config: Config, model: ModelConfig) -> Costs:
    """Rooflines of an expert on the Logic-PIM of a configuration and on the xPU beside it."""
    return Estimates(config, model).experts()


class PlacedExperts:
    """Callable as :data:`~logicpim.llm.calls.Experts`: asks a policy where the experts run.

    Those for the xPU run in numpy float32. Both sums are added, Logic-PIM's first.

    Parameters
    ----------
    runner : ExpertRunner
    xpu : NumpyExperts
    policy : Policy
        Of processors that share the memory.
    costs : Costs
    spaces : int
        Memory spaces that the experts are dealt over one by one, or sets of them if a matrix lies
        in several.
    explain : bool
        Whether to keep ``decisions``.

    Attributes
    ----------
    on_xpu : list of int
        Tokens of each expert that ran on the xPU, in the order of the calls; ``routed`` are those
        on Logic-PIM.
    decisions : list of Decision
        One for each call, with ``explain``.
    """

    def __init__(self, runner: ExpertRunner, xpu: NumpyExperts, policy: Policy, costs: Costs,
                 spaces: int, explain: bool = False):
        self.runner, self.on_xpu = runner, []
        self._xpu, self._policy, self._costs, self._spaces = xpu, policy, costs, spaces
        self.routed, self.stats, self.weights = runner.routed, runner.stats, runner.weights
        self.whole = runner.whole
        self.decisions: list[Decision] = []
        self._explain, self._calls = explain, Counter()

    @property
    def phase(self) -> str:
        """What is going on, for the statistics and the policy."""
        return self.runner.phase

    @phase.setter
    def phase(self, phase: str):
        self.runner.phase = phase

    def total(self) -> Stats:
        """The cost of all products on Logic-PIM."""
        return self.runner.total()

    def __call__(self, layer: int, x: np.ndarray, indices: np.ndarray, weights: np.ndarray
                 ) -> np.ndarray:
        tokens = np.bincount(indices[indices >= 0])
        plan, decision = decide_experts(self._policy, Query(
            tokens=tuple(tokens.tolist()), costs=self._costs, stage=self.phase,
            spaces=tuple(e % self._spaces for e in range(len(tokens)))),
            step=self._calls[layer], layer=layer)
        self._calls[layer] += 1
        if self._explain:
            self.decisions.append(decision)
        here = [e for e, unit in plan.places.items() if unit == Unit.XPU]
        there = np.where(np.isin(indices, here), -1, indices)
        y = np.zeros_like(x)
        if (there >= 0).any():
            y = self.runner(layer, x, there, weights)
        if here:
            self.on_xpu += tokens[sorted(here)].tolist()
            y = y + self._xpu(layer, x, np.where(np.isin(indices, here), indices, -1), weights)
        return y
