# SPDX-License-Identifier: BSD-2-Clause
"""The experts of a model on Logic-PIM: their matrices in DRAM, their products on the device."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import product

import numpy as np

from ..llm.checkpoint import Checkpoint
from ..llm.config import ModelConfig
from ..llm.decoder import combine
from ..llm.kinds import Mlp
from ..llm.ops import activate
from ..llm.tensors import matrix_shape
from ..spec.config import Config
from ..spec.device import Device
from ..spec.errors import CapacityError, ModelError
from ..spec.functions import Function
from ..spec.isa import Format
from .ffn import FfnJob, FfnKernels
from .kernel import Job, Kernels
from .memory import Matrix, Memory, load, load_quantised
from .network import Ffn, operand_unit
from .stats import Stats


def place_experts(config: Config, model: ModelConfig, bundles: int = 1,
                  weights: Format = Format.FP16, memory: Memory | None = None
                  ) -> dict[tuple[int, int], dict[str, Matrix]]:
    """Room for the matrices of each (layer, expert): w1, where it is gated w3, and w2.

    They lie in ``memory``, behind what is there already. Each is dealt over ``bundles`` memory
    spaces, those of one expert over the same; the experts of a layer take the sets of spaces in
    turn. Raises CapacityError where the DRAM is too small.
    """
    memory, placed = Memory(config) if memory is None else memory, {}
    try:
        for layer, expert in product(model.expert_layers, range(model.experts)):
            space = expert * bundles % config.dram.bundles
            *before, after = model.expert.matrices
            units = dict.fromkeys(before, operand_unit(config, weights)) | {after: 0}
            placed[layer, expert] = {
                name: memory.place(*matrix_shape(model.expert, model.hidden_size, name), space,
                                   bundles=bundles, fmt=weights, unit=unit)
                for name, unit in units.items()}
    except CapacityError as error:
        raise CapacityError(f"the experts do not fit the DRAM of {config.name}: {error}") from None
    return placed


class ExpertRunner:
    """Callable as :data:`~logicpim.llm.calls.Experts`: runs a layer's experts on a device.

    For each layer it groups the tokens by expert. Gated FP16 experts without biases, of a function
    that the activation module has, run on the device as a whole: W1, W3, activation and W2 of all
    chosen experts are one program. With several channels, whose W2 are dealt by rows so that no
    bit depends on their number, the host passes the activations on between two programs, unless
    they are a stack, where each has those of the others. Other
    experts have biases and activation in numpy float32 between W1, W3 and W2. Operands are
    rounded to FP16, results come back as FP32.

    Parameters
    ----------
    device : Device
    config : ModelConfig
    checkpoint : Checkpoint
        Experts' matrices that are not in the format of ``weights`` are rounded to it when they are
        loaded.
    progress : callable
        Called with (done, all) as layers are loaded.
    bundles : int
        Memory spaces that each matrix is dealt over.
    weights : Format
        FP16, or one of 8 bits: then they are quantised, with scales.
    scale_group : int
        Elements of K that share a scale; 0: a row.

    Attributes
    ----------
    phase : str
        What is going on, as :attr:`stats` shall tell it.
    stats : dict of (str, str) to Stats
        What the products cost so far, by phase and matrices: ``w1, w3`` (``w1`` if
        not gated) or ``w2``; ``ffn`` where they run as a whole.
    routed : list of int
        Tokens of each chosen expert, in the order of the calls.
    kernels : Kernels
        Of the device, for all who run programs on it: it keeps what the counters said last.
    memory : Memory
        Where the experts lie.
    """

    def __init__(self, device: Device, config: ModelConfig, checkpoint: Checkpoint,
                 progress: Callable[[int, int], None] = lambda done, all: None,
                 bundles: int = 1, weights: Format = Format.FP16, scale_group: int = 0):
        self.weights = weights
        self.device = device
        self.phase = ""
        self.stats: dict[tuple[str, str], Stats] = defaultdict(Stats)
        self.routed: list[int] = []
        self.kernels, self.memory = Kernels(device), Memory(device.config)
        self._expert = config.expert
        self._matrices = place_experts(device.config, config, bundles, weights, self.memory)
        self._biases = {at: checkpoint.expert_biases(*at) for at in self._matrices}
        for layer in config.expert_layers:
            progress(layer, config.layers)
            for expert in range(config.experts):
                matrices = self._matrices[layer, expert]
                for name, matrix in matrices.items():
                    if weights == Format.FP16:
                        values = checkpoint.expert16(layer, expert, name)
                        load(device, matrix, values.view(np.uint16))
                    else:
                        matrices[name] = load_quantised(
                            device, matrix, checkpoint.expert(layer, expert, name), scale_group)
        progress(config.layers, config.layers)
        function = None
        if weights == Format.FP16:
            function = device_function(device.config, config.expert, self._biases)
        self._ffn = None if function is None else FfnKernels(self.kernels, function)

    @property
    def whole(self) -> bool:
        """Whether experts run as a whole, with their activation."""
        return self._ffn is not None

    def total(self) -> Stats:
        """The cost of all products."""
        total = Stats()
        for stats in self.stats.values():
            total.add(stats)
        return total

    def __call__(self, layer: int, x: np.ndarray, indices: np.ndarray, weights: np.ndarray
                 ) -> np.ndarray:
        chosen = [int(e) for e in np.unique(indices[indices >= 0])]
        before, after = self._expert.matrices[:-1], self._expert.matrices[-1]
        operands: dict[tuple, np.ndarray] = {}
        jobs = []
        for expert in chosen:
            tokens = np.nonzero(indices == expert)[0]
            # Experts that serve the same tokens share one array, and so the device's copy of it.
            x_bits = operands.setdefault(tuple(tokens), to_fp16(x[tokens], layer))
            matrices = self._matrices[layer, expert]
            jobs.append(Job(x_bits, tuple(matrices[name] for name in before)))
            self.routed.append(len(tokens))
        if self._ffn is not None:
            return combine(x, indices, weights, self._whole(layer, chosen, jobs))
        first = self.kernels.run(jobs, stats=self.stats[self.phase, ", ".join(before)])
        inner = [activate(self._expert, *(self._biased(layer, expert, name, y)
                                          for name, y in zip(before, ys, strict=True)))
                 for expert, ys in zip(chosen, first, strict=True)]
        jobs = [Job(to_fp16(h, layer), (self._matrices[layer, expert][after],))
                for expert, h in zip(chosen, inner, strict=True)]
        down = self.kernels.run(jobs, stats=self.stats[self.phase, after])
        results = {e: self._biased(layer, e, after, y)
                   for e, (y,) in zip(chosen, down, strict=True)}
        return combine(x, indices, weights, results)

    def _whole(self, layer: int, chosen: list[int], jobs: list[Job]) -> dict[int, np.ndarray]:
        """Results of experts whose activation the device makes."""
        down = [self._matrices[layer, expert]["w2"] for expert in chosen]
        stats = self.stats[self.phase, "ffn"]
        ffns = [FfnJob(job.x_bits, Ffn(*job.matrices, (w,)))
                for job, w in zip(jobs, down, strict=True)]
        if self.device.config.channels == 1 or self.device.config.stack:
            return dict(zip(chosen, self._ffn.run(ffns, stats), strict=True))
        inner = self._ffn.inner(ffns, stats)
        ys = self.kernels.run([Job(h, (w,)) for h, w in zip(inner, down, strict=True)],
                               stats=stats)
        return {e: y.view(np.float32) for e, (y,) in zip(chosen, ys, strict=True)}

    def _biased(self, layer: int, expert: int, name: str, y: np.ndarray) -> np.ndarray:
        """FP32 results of a matrix as numbers, plus its bias if it has one."""
        bias = self._biases[layer, expert].get(name)
        values = y.view(np.float32)
        return values if bias is None else values + bias


def device_function(config: Config, expert: Mlp | None, biases: Mapping) -> Function | None:
    """The function that the device applies to gate and up of such experts; None if it cannot."""
    if not config.functions or expert is None or not expert.gated or any(biases.values()):
        return None
    return {"silu": Function.SILU, "relu": Function.RELU,
            "gelu_tanh": Function.GELU}.get(expert.activation)


def to_fp16(x: np.ndarray, layer: int) -> np.ndarray:
    """FP16 patterns of float32 values. Raises ModelError where one is beyond the format."""
    with np.errstate(over="ignore"):
        half = x.astype(np.float16)
    if not np.isfinite(half).all():
        raise ModelError(f"an activation of the experts in layer {layer} is not finite in FP16, "
                         f"the format of operands on Logic-PIM: the model cannot run on it")
    return half.view(np.uint16)
