# SPDX-License-Identifier: BSD-2-Clause
"""``offload(model)``: the experts of a transformers model become calls into a device."""

from collections.abc import Callable

import numpy as np

from ..driver.backends import open_device
from ..driver.experts import ExpertRunner, place_experts
from ..driver.report import cost
from ..driver.stats import Stats
from ..spec.config import Config
from ..spec.device import Device
from ..spec.errors import LogicPimError
from ..spec.presets import load_config
from .families import ModuleWeights, expert_modules, model_config, to_numpy

_MARK = "_logicpim_offload"


def offload(model, *, device: Device | None = None, backend: str = "verilator",
            config: Config | str = "channel", bundles: int | None = None) -> "Offload":
    """Run the experts of a model on Logic-PIM from now on; ``model.generate`` works as before.

    Weights are rounded to FP16 and laid into the device's DRAM once; operands are rounded to FP16
    on each call, results are FP32. All else of the model stays in PyTorch.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Of a family of :data:`~.families.PACKINGS`, for inference.
    device : Device, optional
        An open device to use; it stays open. Else one is opened, and closed by ``restore``.
    backend : str
        ``verilator`` or ``reference``, of a device that is opened here.
    config : Config or str
        Of a device that is opened here: an object, a preset's name or a .toml file.
    bundles : int, optional
        Memory spaces that each matrix is dealt over: 1, 2 or 4; by default 4 or all there are.

    Raises
    ------
    LogicPimError
        In one line, before anything was changed: PyTorch or transformers missing, a model of
        another kind, experts that do not fit the DRAM.
    """
    _require()
    described = model_config(model.config.to_dict(), type(model).__name__)
    modules = expert_modules(model.named_modules(), described)
    if any(_MARK in vars(module) for module in modules.values()):
        raise LogicPimError("the model's experts are offloaded already: restore() them first")
    if device is None and isinstance(config, str):
        config = load_config(config)
    hardware = config if device is None else device.config
    bundles = bundles or min(4, hardware.dram.bundles)
    place_experts(hardware, described, bundles)  # whether they fit, before a device is made
    mine = open_device(backend, hardware) if device is None else None
    try:
        runner = ExpertRunner(device or mine, described, ModuleWeights(modules, described),
                              bundles=bundles)
        return Offload(model, modules, runner, mine)
    except BaseException:
        if mine is not None:
            mine.close()
        raise


class Offload:
    """A model whose experts run on a device, until :meth:`restore`; also a context manager.

    Attributes
    ----------
    device : Device
    stats : dict
        What Logic-PIM has done so far.
    """

    def __init__(self, model, modules: dict[int, object], runner: ExpertRunner,
                 mine: Device | None):
        self.device = runner.device
        self._runner, self._mine = runner, mine
        self._calls = 0
        self._before: list[tuple[object, Callable | None]] = []
        self._hook = model.register_forward_pre_hook(self._begin, with_kwargs=True)
        for layer, module in modules.items():
            self._before.append((module, vars(module).get("forward")))
            module.forward = self._forward(layer)
            setattr(module, _MARK, True)

    def restore(self) -> None:
        """Give the model its own experts back and close the device if it was opened for it."""
        for module, forward in self._before:
            del module.forward
            if forward is not None:
                module.forward = forward
            delattr(module, _MARK)
        self._before = []
        self._hook.remove()
        if self._mine is not None:
            self._mine.close()
            self._mine = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.restore()

    @property
    def stats(self) -> dict:
        """``calls`` of layers, ``tokens`` that experts had, clocks and figures of all products.

        ``phases`` has the figures for each phase, ``prefill`` (passes of several tokens a
        sequence) and ``decode``. Clocks are None where the device is untimed.
        """
        config, total, phases = self.device.config, Stats(), {}
        for (phase, _), stats in self._runner.stats.items():
            total.add(stats)
            phases.setdefault(phase, Stats()).add(stats)
        return {"calls": self._calls, "tokens": sum(self._runner.routed), **cost(config, total),
                "stalls": total.stalls if self.device.timed else {},
                "phases": {phase: cost(config, stats) for phase, stats in phases.items()}}

    def _begin(self, model, args, kwargs):
        """Before each pass: whether it reads or decodes."""
        ids = kwargs.get("input_ids")
        ids = ids if ids is not None else kwargs.get("inputs_embeds")
        ids = ids if ids is not None else args[0] if args else None
        self._runner.phase = "prefill" if ids is None or ids.shape[1] > 1 else "decode"

    def _forward(self, layer: int) -> Callable:
        """In place of the module's own."""
        def forward(hidden_states, indices, weights):
            if getattr(hidden_states, "requires_grad", False):
                raise LogicPimError("experts on Logic-PIM have no gradients: call the model under "
                                    "torch.no_grad() or restore() it for training")
            y = self._runner(layer, *arrays(hidden_states, indices, weights,
                                            len(self._before[0][0].down_proj)))
            self._calls += 1
            return like(hidden_states, y)
        return forward


def arrays(hidden_states, indices, weights, experts: int) -> tuple[np.ndarray, ...]:
    """float32 [T, H], int64 [T, k] with -1 for no expert, float32 [T, k]."""
    chosen = to_numpy(indices).astype(np.int64)
    return (to_numpy(hidden_states).reshape(-1, hidden_states.shape[-1]),
            np.where((chosen >= 0) & (chosen < experts), chosen, -1), to_numpy(weights))


def like(tensor, values: np.ndarray):
    """``values`` in the form, type and place of a tensor."""
    if isinstance(tensor, np.ndarray):
        return values.reshape(tensor.shape)
    import torch
    return torch.from_numpy(np.ascontiguousarray(values)).reshape(tensor.shape).to(
        device=tensor.device, dtype=tensor.dtype)


def _require() -> None:
    """Raise LogicPimError where PyTorch or transformers cannot be imported."""
    for name in ("torch", "transformers"):
        try:
            __import__(name)
        except ImportError as error:
            raise LogicPimError(f"{name} cannot be imported ({error}): "
                                f"pip install 'logicpim[torch]'") from None


