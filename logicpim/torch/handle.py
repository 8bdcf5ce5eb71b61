# SPDX-License-Identifier: BSD-2-Clause
"""``offload(model)``: experts and attention of a transformers model become calls into a device."""

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
from .attention import install, restore
from .families import ModuleWeights, expert_modules, model_config, to_numpy
from .mirror import Mirror

_MARK = "_logicpim_offload"


def offload(model, *, device: Device | None = None, backend: str = "verilator",
            config: Config | str = "channel", bundles: int | None = None,
            attention: bool = True) -> "Offload":
    """Run experts and decode attention of a model on Logic-PIM; ``model.generate`` works as before.

    Weights are rounded to FP16 and laid into the device's DRAM once, keys and values as they come;
    operands are rounded to FP16 on each call, results are FP32. All else of the model stays in
    PyTorch, the attention of prompts too.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Of a family of :data:`~.families.PACKINGS`, or a decoder without experts, for inference.
    device : Device, optional
        An open device to use; it stays open. Else one is opened, and closed by ``restore``.
    backend : str
        ``verilator`` or ``reference``, of a device that is opened here.
    config : Config or str
        Of a device that is opened here: an object, a preset's name or a .toml file.
    bundles : int, optional
        Memory spaces that each matrix is dealt over: 1, 2 or 4; by default 4 or all there are.
    attention : bool
        Whether decode steps attend on the device.

    Raises
    ------
    LogicPimError
        In one line, before anything was changed: PyTorch or transformers missing, a model of
        another kind, experts that do not fit the DRAM.
    """
    _require()
    described = model_config(model.config.to_dict(), type(model).__name__)
    modules = expert_modules(model.named_modules(), described)
    if _MARK in vars(model):
        raise LogicPimError("the model is offloaded already: restore() it first")
    if not modules and not attention:
        raise LogicPimError("the model has no experts: nothing is left without its attention")
    if device is None and isinstance(config, str):
        config = load_config(config)
    hardware = config if device is None else device.config
    bundles = bundles or min(4, hardware.dram.bundles)
    place_experts(hardware, described, bundles)  # whether they fit, before a device is made
    mine = open_device(backend, hardware) if device is None else None
    try:
        runner = ExpertRunner(device or mine, described, ModuleWeights(modules, described),
                              bundles=bundles)
        mirror = Mirror(runner.kernels, described, runner.memory, bundles) if attention else None
        return Offload(model, modules, runner, mirror, mine)
    except BaseException:
        if mine is not None:
            mine.close()
        raise


class Offload:
    """A model that runs in part on a device, until :meth:`restore`; also a context manager.

    Attributes
    ----------
    device : Device
    stats : dict
        What Logic-PIM has done so far.
    """

    def __init__(self, model, modules: dict[int, object], runner: ExpertRunner,
                 mirror: Mirror | None, mine: Device | None):
        self.device = runner.device
        self._model, self._runner, self._mirror, self._mine = model, runner, mirror, mine
        self._calls = 0
        if mirror is not None:
            install(model, mirror)
        self._before: list[tuple[object, Callable | None]] = []
        self._hook = model.register_forward_pre_hook(self._begin, with_kwargs=True)
        for layer, module in modules.items():
            self._before.append((module, vars(module).get("forward")))
            module.forward = self._forward(layer)
        object.__setattr__(model, _MARK, True)

    def restore(self) -> None:
        """Make the model what it was and close the device if it was opened for it."""
        if _MARK not in vars(self._model):
            return
        for module, forward in self._before:
            del module.forward
            if forward is not None:
                module.forward = forward
        self._hook.remove()
        if self._mirror is not None:
            restore(self._model)
        object.__delattr__(self._model, _MARK)
        if self._mine is not None:
            self._mine.close()
            self._mine = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.restore()

    @property
    def stats(self) -> dict:
        """``calls`` of experts, ``tokens`` that they had, clocks and figures of all that ran.

        ``phases`` has the experts' figures for each phase, ``prefill`` (passes of several tokens a
        sequence) and ``decode``; ``attention`` those of decode steps, with the tokens of heads that
        were ``appended`` to the cache in DRAM and ``loaded`` into it. Clocks are None where the
        device is untimed.
        """
        config, total, phases = self.device.config, Stats(), {}
        for (phase, _), stats in self._runner.stats.items():
            total.add(stats)
            phases.setdefault(phase, Stats()).add(stats)
        attention = None
        if self._mirror is not None:
            total.add(self._mirror.stats)
            attention = {**cost(config, self._mirror.stats), "appended": self._mirror.appended,
                         "loaded": self._mirror.loaded}
        return {"calls": self._calls, "tokens": sum(self._runner.routed), **cost(config, total),
                "stalls": total.stalls if self.device.timed else {},
                "phases": {phase: cost(config, stats) for phase, stats in phases.items()},
                "attention": attention}

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


