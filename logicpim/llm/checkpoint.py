# SPDX-License-Identifier: BSD-2-Clause
"""Tensors of a Hugging Face model folder: one safetensors file or an index of several."""

import json
from pathlib import Path

import numpy as np
import safetensors

from ..spec.errors import ModelError
from .fields import read_json
from .kinds import ModelConfig
from .tensors import (
    block_shapes,
    expert_name,
    expert_shapes,
    model_shapes,
    tensor_name,
    tensor_shapes,
)

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4"}
BYTES = {"U8": "u1"}
_CURE = "fetch the checkpoint again, and the config.json that belongs to it"
FP4 = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""Values of the four bits of E2M1."""


class Checkpoint:
    """The tensors of a model folder, checked when opened and read when asked for.

    Every tensor of :func:`~logicpim.llm.tensors.tensor_shapes` is there, in a known format and of
    its shape, or construction raises ModelError in one line. Tensors beyond those are ignored.
    Reading one that holds anything but finite numbers raises ModelError too.

    Parameters
    ----------
    folder : Path
    config : ModelConfig

    Attributes
    ----------
    formats : set of str
        Formats that the experts' matrices are stored in, among F16, BF16, F32 and MXFP4.
    """

    def __init__(self, folder: Path, config: ModelConfig):
        self.config = config
        self._files: dict[Path, _File] = {}
        self._paths = _locate(folder)
        for name, shape in tensor_shapes(config).items():
            if name not in self._paths:
                raise ModelError(f"{folder}: tensor {name} is missing, {list(shape)} was "
                                 f"expected: {_CURE}")
            dtype, found = self._file(name).entry(name)
            where = f"{self._paths[name]}: tensor {name}"
            known = BYTES if name.endswith(("_blocks", "_scales")) else DTYPES
            if dtype not in known:
                raise ModelError(f"{where} is {dtype}, one of {', '.join(known)} was expected")
            if found != shape:
                raise ModelError(f"{where} has shape {list(found)}, {list(shape)} was expected: "
                                 f"{_CURE}")
        self.formats = {self._file(name).entry(name)[0] for layer in config.expert_layers
                        for name in expert_shapes(config, layer)}
        if config.storage == "mxfp4":
            self.formats = {"MXFP4"}

    def _file(self, name: str) -> "_File":
        path = self._paths[name]
        if path not in self._files:
            self._files[path] = _File(path)
        return self._files[path]

    def read(self, name: str, index: int | None = None) -> np.ndarray:
        """The tensor, or one of its first dimension: float32, or float16 where stored so."""
        values = self._file(name).read(name, index)
        if values.dtype != np.uint8 and not np.isfinite(values).all():
            raise ModelError(f"{self._paths[name]}: tensor {name} holds values that are no finite "
                             f"numbers: the checkpoint is damaged, fetch it again")
        return values

    def float32(self, name: str) -> np.ndarray:
        """The tensor as float32."""
        return self.read(name).astype(np.float32)

    def model(self) -> dict[str, np.ndarray]:
        """float32 tensors that are in no block: role, with part where that is a bias, to values."""
        return {_key(role, part): self.float32(tensor_name(self.config, role, part=part))
                for role, part in model_shapes(self.config)}

    def block(self, layer: int) -> dict[str, np.ndarray]:
        """float32 tensors of a block but its experts; matrices transposed to [in, out].

        The table of relative positions stays [buckets, heads].
        """
        values = {}
        for role, part in block_shapes(self.config, layer):
            value = self.float32(tensor_name(self.config, role, layer, part=part))
            values[_key(role, part)] = (np.ascontiguousarray(value.T)
                                        if value.ndim == 2 and role != "relative" else value)
        return values

    def expert(self, layer: int, expert: int, matrix: str) -> np.ndarray:
        """An expert's matrix [out, in], w1, w3 or w2: float32, or float16 where stored so."""
        config = self.config
        if config.storage == "each":
            return self.read(expert_name(config, layer, expert, matrix))
        role, rows = _packed(matrix)
        if config.storage == "mxfp4":
            blocks, scales = (self.read(tensor_name(config, role, layer, part=part), expert)[rows]
                              for part in ("_blocks", "_scales"))
            return mxfp4(blocks, scales)
        return self.read(tensor_name(config, role, layer, part=""), expert).T[rows]

    def expert16(self, layer: int, expert: int, matrix: str) -> np.ndarray:
        """An expert's matrix as float16, to nearest even; refused where a value overflows."""
        values = self.expert(layer, expert, matrix)
        with np.errstate(over="ignore"):
            rounded = values.astype(np.float16)
        if not np.isfinite(rounded).all():
            raise ModelError(f"matrix {matrix} of expert {expert} in layer {layer} has values "
                             f"beyond FP16 (65504), the format of the weights on Logic-PIM")
        return np.ascontiguousarray(rounded)

    def expert_biases(self, layer: int, expert: int) -> dict[str, np.ndarray]:
        """float32 biases of an expert by matrix; empty where its kind has none."""
        config = self.config
        if not config.expert.bias:
            return {}
        if config.storage == "each":
            return {m: self.float32(expert_name(config, layer, expert, m, ".bias"))
                    for m in config.expert.matrices}
        biases = {}
        for matrix in config.expert.matrices:
            role, rows = _packed(matrix)
            name = tensor_name(config, role, layer, part="_bias")
            biases[matrix] = self.read(name, expert).astype(np.float32)[rows]
        return biases


def _key(role: str, part: str) -> str:
    return role + part if part == ".bias" else role


def _packed(matrix: str) -> tuple[str, slice]:
    """Where a matrix lies in the packed tensors: rows of gate and up alternate."""
    return {"w1": ("packed_up", slice(0, None, 2)), "w3": ("packed_up", slice(1, None, 2)),
            "w2": ("packed_down", slice(None))}[matrix]


def mxfp4(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """float32 [rows, K] of MXFP4: bytes [rows, K / 32, 16], the low four bits first, and scales.

    A scale is a power of two with a bias of 127, for 32 elements.
    """
    pairs = np.stack((FP4[blocks & 15], FP4[blocks >> 4]), axis=-1)
    values = pairs.reshape(*blocks.shape[:-1], 32)
    values = np.ldexp(values, scales.astype(np.int32)[..., None] - 127)
    return values.reshape(len(blocks), -1)


class _File:
    """A safetensors file: what it holds, and its bytes mapped."""

    def __init__(self, path: Path):
        self._path = path
        open_tensors(path)  # judges header and length
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            self._header = json.loads(file.read(size))
        self._begin = 8 + size

    def entry(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Format and shape of a tensor."""
        if name not in self._header:
            raise ModelError(f"{self._path}: tensor {name} is missing, though {INDEX} says it is "
                             f"here")
        entry = self._header[name]
        return entry["dtype"], tuple(entry["shape"])

    def read(self, name: str, index: int | None) -> np.ndarray:
        """Values of a tensor, or of one index of its first dimension; BF16 as float32."""
        dtype, shape = self.entry(name)
        begin = self._begin + self._header[name]["data_offsets"][0]
        kind = np.dtype((DTYPES | BYTES)[dtype])
        if index is not None:
            shape = shape[1:]
            begin += index * int(np.prod(shape)) * kind.itemsize
        values = np.fromfile(self._path, kind, int(np.prod(shape)), offset=begin).reshape(shape)
        # numpy has no bfloat16: its bits are the upper half of a float32.
        return (values.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else values


def has_tensors(folder: Path) -> bool:
    """Whether a folder has a checkpoint beside its config.json."""
    return (folder / SINGLE).exists() or (folder / INDEX).exists()


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
