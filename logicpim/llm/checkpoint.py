# SPDX-License-Identifier: BSD-2-Clause
"""Tensors of a Hugging Face model folder: one safetensors file or an index of several."""

import json
from pathlib import Path

import numpy as np
import safetensors

from ..spec.errors import ModelError
from .config import ModelConfig, read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = ("F16", "BF16", "F32")
EXPERT_MATRICES = ("w1", "w3", "w2")


def expert_name(layer: int, expert: int, matrix: str) -> str:
    """Name of an expert's matrix: w1 (gate), w3 (up) or w2 (down)."""
    return f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{matrix}.weight"


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that a Mixtral checkpoint must hold, with its shape."""
    c, h = config, config.hidden_size
    shapes = {"model.embed_tokens.weight": (c.vocab_size, h), "model.norm.weight": (h,)}
    if not c.tied:
        shapes["lm_head.weight"] = (c.vocab_size, h)
    for layer in range(c.layers):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.input_layernorm.weight": (h,),
            f"{at}.post_attention_layernorm.weight": (h,),
            f"{at}.self_attn.q_proj.weight": (c.heads * c.head_dim, h),
            f"{at}.self_attn.k_proj.weight": (c.kv_heads * c.head_dim, h),
            f"{at}.self_attn.v_proj.weight": (c.kv_heads * c.head_dim, h),
            f"{at}.self_attn.o_proj.weight": (h, c.heads * c.head_dim),
            f"{at}.block_sparse_moe.gate.weight": (c.experts, h),
        }
        for expert in range(c.experts):
            for matrix in EXPERT_MATRICES:
                shapes[expert_name(layer, expert, matrix)] = (
                    (h, c.intermediate_size) if matrix == "w2" else (c.intermediate_size, h))
    return shapes


class Checkpoint:
    """The tensors of a model folder, checked when opened and read when asked for.

    Every tensor of :func:`tensor_shapes` is there, in a known format and of its shape, or
    construction raises ModelError in one line. Tensors beyond those are ignored.

    Parameters
    ----------
    folder : Path
    config : ModelConfig

    Attributes
    ----------
    formats : set of str
        Formats that the experts' matrices are stored in, among F16, BF16 and F32.
    """

    def __init__(self, folder: Path, config: ModelConfig):
        self._files = {}
        self._paths = _locate(folder)
        self._formats = {}
        for name, shape in tensor_shapes(config).items():
            if name not in self._paths:
                raise ModelError(f"{folder}: tensor {name} is missing, {list(shape)} was expected")
            piece = self._slice(name)
            dtype, found = piece.get_dtype(), tuple(piece.get_shape())
            where = f"{self._paths[name]}: tensor {name}"
            if dtype not in DTYPES:
                raise ModelError(f"{where} is {dtype}, one of {', '.join(DTYPES)} was expected")
            if found != shape:
                raise ModelError(f"{where} has shape {list(found)}, {list(shape)} was expected")
            self._formats[name] = dtype
        self.formats = {f for name, f in self._formats.items() if ".experts." in name}

    def _slice(self, name: str):
        path = self._paths[name]
        if path not in self._files:
            self._files[path] = open_tensors(path)
        try:
            return self._files[path].get_slice(name)
        except safetensors.SafetensorError:
            raise ModelError(f"{path}: tensor {name} is missing, though {INDEX} says it is "
                             f"here") from None

    def read(self, name: str) -> np.ndarray:
        """The tensor as float32, or as float16 where it is stored so."""
        if self._formats[name] == "BF16":
            return _read_bf16(self._paths[name], name)
        return self._files[self._paths[name]].get_tensor(name)

    def float32(self, name: str) -> np.ndarray:
        """The tensor as float32."""
        return self.read(name).astype(np.float32)

    def float16(self, name: str) -> np.ndarray:
        """The tensor as float16, rounded to nearest even; refused where a value overflows."""
        values = self.read(name)
        if values.dtype == np.float16:
            return values
        with np.errstate(over="ignore"):
            rounded = values.astype(np.float16)
        if not np.array_equal(np.isfinite(rounded), np.isfinite(values)):
            raise ModelError(f"{self._paths[name]}: tensor {name} has values beyond FP16 (65504), "
                             f"the format of the weights on Logic-PIM")
        return rounded


def open_tensors(path: Path):
    """An open safetensors file. Raises ModelError in one line if it is missing or broken."""
    try:
        return safetensors.safe_open(path, framework="np")
    except safetensors.SafetensorError as error:
        raise ModelError(f"{path} is truncated or no safetensors file ({error}): "
                         f"fetch it again") from None
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise ModelError(f"cannot read {path}: {reason}") from None


def _locate(folder: Path) -> dict[str, Path]:
    """File of each tensor."""
    single, index = folder / SINGLE, folder / INDEX
    if single.exists():
        return dict.fromkeys(open_tensors(single).keys(), single)
    if not index.exists():
        raise ModelError(f"{folder} has neither {SINGLE} nor {INDEX}")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise ModelError(f"{index}: weight_map is missing or not a table of file names")
    return {name: folder / file for name, file in weight_map.items()}


def _read_bf16(path: Path, name: str) -> np.ndarray:
    # numpy has no bfloat16, so the library cannot hand it over: take the bytes the header names.
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + size + begin)
        bits = np.frombuffer(file.read(end - begin), dtype="<u2")
    return (bits.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
