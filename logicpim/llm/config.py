# SPDX-License-Identifier: BSD-2-Clause
"""The shape of a Mixtral, read from the ``config.json`` of a Hugging Face model folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from ..spec.errors import ModelError

MODEL_TYPES = ("mixtral",)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and constants of a Mixtral decoder; construction refuses what does not fit together.

    Parameters
    ----------
    vocab_size, hidden_size, intermediate_size, layers : int
    heads, kv_heads, head_dim : int
        Query heads, key/value heads they share in equal groups, and the width of one head.
    experts, top_k : int
        Experts of a layer, and how many of them serve one token.
    norm_eps, rope_theta : float
    tied : bool
        Whether the language-model head is the embedding.
    max_positions : int
        Longest sequence the model was made for.
    eos_ids : tuple of int
        Tokens that end a text.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    experts: int
    top_k: int
    norm_eps: float = 1e-5
    rope_theta: float = 1e6
    tied: bool = False
    max_positions: int = 1 << 17
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self):
        if self.heads % self.kv_heads:
            raise ModelError(f"num_attention_heads {self.heads} is not a multiple of "
                             f"num_key_value_heads {self.kv_heads}")
        if self.head_dim % 2:
            raise ModelError(f"head_dim {self.head_dim} is odd: rotary embedding needs pairs")
        if self.top_k > self.experts:
            raise ModelError(f"num_experts_per_tok {self.top_k} exceeds num_local_experts "
                             f"{self.experts}")

    @property
    def group(self) -> int:
        """Query heads that share one key/value head."""
        return self.heads // self.kv_heads


def read_json(path: Path) -> dict:
    """The object in a JSON file. Raises ModelError in one line where there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds no JSON object")
    return values


class _Fields:
    """Typed look-ups in config.json; an error names the file, the field and what was found."""

    def __init__(self, path: Path, values: dict):
        self.path = path
        self.values = values

    def fail(self, text: str):
        raise ModelError(f"{self.path}: {text}")

    def size(self, name: str, default: int | None = None) -> int:
        value = self.values.get(name)
        if value is None:
            if default is None:
                self.fail(f"{name} is missing")
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.fail(f"{name} must be a whole number >= 1, not {value!r}")
        return value

    def positive(self, name: str, default: float, values: dict | None = None) -> float:
        value = (self.values if values is None else values).get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            self.fail(f"{name} must be a number > 0, not {value!r}")
        return float(value)

    def only(self, name: str, values: tuple, why: str) -> None:
        if (value := self.values.get(name)) not in values:
            self.fail(f"{name} {value!r} is not supported: {why}")


def _rope_theta(fields: _Fields) -> float:
    # transformers 5 writes rope_parameters; before, rope_theta stood beside rope_scaling.
    rope = fields.values.get("rope_parameters") or fields.values.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        fields.fail(f"rope_parameters must be an object, not {rope!r}")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        fields.fail(f"rope_type {kind!r} is not supported: only 'default' is")
    name = "rope_theta"
    return fields.positive(name, 1e6, rope if name in rope else None)


def _eos_ids(folder: Path, fields: _Fields) -> tuple[int, ...]:
    path = folder / "generation_config.json"
    source = read_json(path) if path.exists() else {}
    ids = source.get("eos_token_id", fields.values.get("eos_token_id"))
    ids = [] if ids is None else ids if isinstance(ids, list) else [ids]
    if not all(isinstance(i, int) for i in ids):
        fields.fail(f"eos_token_id must be a token id or a list of them, not {ids!r}")
    return tuple(ids)


def load_config(folder: Path) -> ModelConfig:
    """The configuration in a model folder. Raises ModelError in one line."""
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder: give a Hugging Face model folder with "
                         f"config.json, model.safetensors and tokenizer.json")
    path = folder / "config.json"
    fields = _Fields(path, read_json(path))
    kind = fields.values.get("model_type")
    if kind not in MODEL_TYPES:
        raise ModelError(f"{path}: model_type {kind!r} is not known; known are "
                         f"{', '.join(MODEL_TYPES)}")
    fields.only("hidden_act", ("silu", None), "the experts' activation is SiLU")
    fields.only("sliding_window", (None,), "attention is over the whole context")
    fields.only("quantization_config", (None,), "give a checkpoint in FP16, BF16 or FP32")
    heads, hidden = fields.size("num_attention_heads"), fields.size("hidden_size")
    try:
        return ModelConfig(
            vocab_size=fields.size("vocab_size"),
            hidden_size=hidden,
            intermediate_size=fields.size("intermediate_size"),
            layers=fields.size("num_hidden_layers"),
            heads=heads,
            kv_heads=fields.size("num_key_value_heads", heads),
            head_dim=fields.size("head_dim", hidden // heads or 1),
            experts=fields.size("num_local_experts"),
            top_k=fields.size("num_experts_per_tok"),
            norm_eps=fields.positive("rms_norm_eps", 1e-5),
            rope_theta=_rope_theta(fields),
            tied=bool(fields.values.get("tie_word_embeddings", False)),
            max_positions=fields.size("max_position_embeddings", 1 << 17),
            eos_ids=_eos_ids(folder, fields),
        )
    except ModelError as error:
        text = str(error)
        raise ModelError(text if text.startswith(str(path)) else f"{path}: {text}") from None
