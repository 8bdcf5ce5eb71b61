# SPDX-License-Identifier: BSD-2-Clause
"""How the model families of transformers hold their experts, and their weights as numpy arrays.

All keep the experts of a layer in one module, called with (hidden states [T, H], indices [T, k],
weights [T, k]); its parameters hold all experts' matrices one above the other.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..llm.config import parse_config
from ..llm.fields import Fields
from ..llm.kinds import ModelConfig
from ..spec.errors import ModelError


@dataclass(frozen=True)
class Packing:
    """Where w1, w3 and w2 lie in ``gate_up_proj`` and ``down_proj``.

    Parameters
    ----------
    alternate : bool
        Rows of gate and up take turns; else all of gate, then all of up.
    transposed : bool
        Matrices are [in, out].
    """

    alternate: bool = False
    transposed: bool = False

    def matrix(self, module, expert: int, name: str, part: str = "") -> np.ndarray:
        """float32 matrix [out, in] of an expert, or with ``part`` ``_bias`` its bias."""
        tensor = getattr(module, ("down_proj" if name == "w2" else "gate_up_proj") + part)
        values = to_numpy(tensor[expert])
        if self.transposed and not part:
            values = values.T
        if name == "w2":
            return values
        if self.alternate:
            return values[0 if name == "w1" else 1::2]
        half = len(values) // 2
        return values[:half] if name == "w1" else values[half:]


STACKED = Packing()
PACKINGS: Mapping[str, Packing] = {
    "mixtral": STACKED, "qwen3_moe": STACKED, "phimoe": STACKED, "deepseek_v2": STACKED,
    "deepseek_v3": STACKED, "gpt_oss": Packing(alternate=True, transposed=True),
}
"""By ``model_type``."""


def to_numpy(tensor) -> np.ndarray:
    """A tensor of PyTorch, or an array, as numpy; floating point as float32."""
    if not isinstance(tensor, np.ndarray):
        tensor = tensor.detach()
        tensor = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return np.asarray(tensor, np.float32 if tensor.dtype.kind == "f" else None)


def model_config(values: Mapping, name: str) -> ModelConfig:
    """The configuration of a model by what its ``config.to_dict()`` says.

    Raises ModelError for a family that cannot be offloaded.
    """
    # What loads a checkpoint's own format has unpacked it by now.
    values = {key: value for key, value in values.items() if key != "quantization_config"}
    config = parse_config(Fields(Path(name), values))
    if config.encoder or config.experts and config.family not in PACKINGS:
        raise ModelError(f"{config.family!r} models cannot be offloaded; those of "
                         f"{', '.join(PACKINGS)} and decoders without experts can")
    return config


def expert_modules(modules, config: ModelConfig) -> dict[int, object]:
    """The module with the experts of each layer, from (dotted name, module) pairs.

    Raises ModelError where one is missing or its parameters are not what the family has.
    """
    found = {}
    for name, module in modules:
        at = re.search(r"\blayers\.(\d+)\.(?:\w+\.)?experts$", name)
        if at and hasattr(module, "forward"):
            found[int(at[1])] = module
    if sorted(found) != list(config.expert_layers):
        raise ModelError(f"the model has experts in layers {sorted(found)}, its configuration in "
                         f"{list(config.expert_layers)}")
    for layer, module in found.items():
        for name in ("gate_up_proj", "down_proj"):
            tensor = getattr(module, name, None)
            if tensor is None or len(tensor.shape) != 3:
                raise ModelError(
                    f"the experts of layer {layer} have no {name} [experts, out, in] "
                    f"({type(module).__name__}): load the model unquantised")
    return found


class ModuleWeights:
    """The experts of a model's modules, as an ExpertRunner asks a checkpoint for them.

    Parameters
    ----------
    modules : mapping of int to module
        By layer.
    config : ModelConfig
    """

    def __init__(self, modules: Mapping[int, object], config: ModelConfig):
        self._modules, self._config = modules, config
        self._packing = PACKINGS.get(config.family)

    def expert(self, layer: int, expert: int, matrix: str) -> np.ndarray:
        """float32 [out, in]."""
        values = self._packing.matrix(self._modules[layer], expert, matrix)
        if not np.isfinite(values).all():
            raise ModelError(f"matrix {matrix} of expert {expert} in layer {layer} holds values "
                             f"that are no finite numbers")
        return values

    def expert16(self, layer: int, expert: int, matrix: str) -> np.ndarray:
        """float16 [out, in], to nearest even; refused where a value overflows."""
        with np.errstate(over="ignore"):
            rounded = self.expert(layer, expert, matrix).astype(np.float16)
        if not np.isfinite(rounded).all():
            raise ModelError(f"matrix {matrix} of expert {expert} in layer {layer} has values "
                             f"beyond FP16 (65504), the format of the weights on Logic-PIM")
        return np.ascontiguousarray(rounded)

    def expert_biases(self, layer: int, expert: int) -> dict[str, np.ndarray]:
        """float32 biases by matrix; empty where the family has none."""
        if not self._config.expert.bias:
            return {}
        return {name: self._packing.matrix(self._modules[layer], expert, name, "_bias")
                for name in self._config.expert.matrices}
