# SPDX-License-Identifier: BSD-2-Clause
"""The model that a Hugging Face folder, or its ``config.json`` alone, describes."""

from pathlib import Path

from ..spec.errors import ModelError
from .build import Builder
from .families import FAMILIES
from .fields import Fields, read_json
from .kinds import ModelConfig


def _eos_ids(folder: Path, fields: Fields) -> tuple[int, ...]:
    path = folder / "generation_config.json"
    source = read_json(path) if path.exists() else {}
    ids = source.get("eos_token_id", fields.values.get("eos_token_id"))
    ids = [] if ids is None else ids if isinstance(ids, list) else [ids]
    if not all(isinstance(i, int) for i in ids):
        fields.fail(f"eos_token_id must be a token id or a list of them, not {ids!r}")
    return tuple(ids)


def parse_config(fields: Fields, eos_ids: tuple[int, ...] = ()) -> ModelConfig:
    """The configuration that the values of a config.json say. Raises ModelError in one line."""
    kind = fields.values.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        fields.fail(f"model_type {kind!r} is not known; known are {', '.join(FAMILIES)}")
    try:
        return Builder(fields, FAMILIES[kind]).model(kind, eos_ids)
    except ModelError as error:
        text = str(error)
        at = str(fields.path)
        raise ModelError(text if text.startswith(at) else f"{at}: {text}") from None


def load_config(folder: Path) -> ModelConfig:
    """The configuration in a model folder, or in a file. Raises ModelError in one line."""
    path = folder if folder.is_file() else folder / "config.json"
    if not path.is_file() and not folder.is_dir():
        raise ModelError(f"{folder} is not a folder: give a Hugging Face model folder with "
                         f"config.json, model.safetensors and tokenizer.json")
    fields = Fields(path, read_json(path))
    return parse_config(fields, _eos_ids(path.parent, fields))
