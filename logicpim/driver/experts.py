# SPDX-License-Identifier: BSD-2-Clause
"""The experts of a Mixtral on Logic-PIM: their matrices in DRAM, their products on the device."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from ..llm.checkpoint import EXPERT_MATRICES, Checkpoint, expert_name
from ..llm.config import ModelConfig
from ..llm.mixtral import combine, silu
from ..spec.config import Config
from ..spec.device import Device
from ..spec.errors import CapacityError, ModelError
from .kernel import Job, Kernels
from .memory import Matrix, Memory, load
from .stats import Stats


def place_experts(config: Config, model: ModelConfig, bundles: int = 1
                  ) -> dict[tuple[int, int], dict[str, Matrix]]:
    """Room for the matrices w1, w3 and w2 of each (layer, expert).

    Each is dealt over ``bundles`` memory spaces, those of one expert over the same; the experts
    of a layer take the sets of spaces in turn. Raises CapacityError where the DRAM is too small.
    """
    memory, placed = Memory(config), {}
    wide, hidden = model.intermediate_size, model.hidden_size
    try:
        for layer, expert in np.ndindex(model.layers, model.experts):
            space = expert * bundles % config.dram.bundles
            placed[layer, expert] = {
                name: memory.place(*((hidden, wide) if name == "w2" else (wide, hidden)), space,
                                   bundles=bundles)
                for name in EXPERT_MATRICES}
    except CapacityError as error:
        raise CapacityError(f"the experts do not fit the DRAM of {config.name}: {error}") from None
    return placed


class ExpertRunner:
    """Callable as :data:`~logicpim.llm.mixtral.Experts`: runs a layer's experts on a device.

    For each layer it groups the tokens by expert and runs W1 and W3 of all chosen experts in one
    program, ``silu(g) * u`` in numpy float32, then W2 of all in another. Operands are rounded to
    FP16, results come back as FP32.

    Parameters
    ----------
    device : Device
    config : ModelConfig
    checkpoint : Checkpoint
        Experts' matrices that are not FP16 are rounded to it when they are loaded.
    progress : callable
        Called with (done, all) as layers are loaded.
    bundles : int
        Memory spaces that each matrix is dealt over.

    Attributes
    ----------
    phase : str
        What is going on, as :attr:`stats` shall tell it.
    stats : dict of (str, str) to Stats
        What the products cost so far, by phase and matrices: ``w1, w3`` or ``w2``.
    routed : list of int
        Tokens of each chosen expert, in the order of the calls.
    """

    def __init__(self, device: Device, config: ModelConfig, checkpoint: Checkpoint,
                 progress: Callable[[int, int], None] = lambda done, all: None,
                 bundles: int = 1):
        self.device = device
        self.phase = ""
        self.stats: dict[tuple[str, str], Stats] = defaultdict(Stats)
        self.routed: list[int] = []
        self._kernels = Kernels(device)
        self._matrices = place_experts(device.config, config, bundles)
        for layer in range(config.layers):
            progress(layer, config.layers)
            for expert in range(config.experts):
                for name, matrix in self._matrices[layer, expert].items():
                    values = checkpoint.float16(expert_name(layer, expert, name))
                    load(device, matrix, values.view(np.uint16))
        progress(config.layers, config.layers)

    def total(self) -> Stats:
        """The cost of all products."""
        total = Stats()
        for stats in self.stats.values():
            total.add(stats)
        return total

    def __call__(self, layer: int, x: np.ndarray, indices: np.ndarray, weights: np.ndarray
                 ) -> np.ndarray:
        chosen = [int(e) for e in np.unique(indices)]
        operands: dict[tuple, np.ndarray] = {}
        jobs = []
        for expert in chosen:
            tokens = np.nonzero(indices == expert)[0]
            # Experts that serve the same tokens share one array, and so the device's copy of it.
            x_bits = operands.setdefault(tuple(tokens), to_fp16(x[tokens], layer))
            matrices = self._matrices[layer, expert]
            jobs.append(Job(x_bits, (matrices["w1"], matrices["w3"])))
            self.routed.append(len(tokens))
        gate_up = self._kernels.run(jobs, stats=self.stats[self.phase, "w1, w3"])
        inner = [silu(g.view(np.float32)) * u.view(np.float32) for g, u in gate_up]
        jobs = [Job(to_fp16(h, layer), (self._matrices[layer, expert]["w2"],))
                for expert, h in zip(chosen, inner, strict=True)]
        down = self._kernels.run(jobs, stats=self.stats[self.phase, "w2"])
        results = {e: y.view(np.float32) for e, (y,) in zip(chosen, down, strict=True)}
        return combine(x, indices, weights, results)


def to_fp16(x: np.ndarray, layer: int) -> np.ndarray:
    """FP16 patterns of float32 values. Raises ModelError where one is beyond the format."""
    with np.errstate(over="ignore"):
        half = x.astype(np.float16)
    if not np.isfinite(half).all():
        raise ModelError(f"an activation of the experts in layer {layer} is not finite in FP16, "
                         f"the format of operands on Logic-PIM: the model cannot run on it")
    return half.view(np.uint16)
