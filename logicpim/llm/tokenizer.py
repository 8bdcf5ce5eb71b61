# SPDX-License-Identifier: BSD-2-Clause
"""Text to token ids and back, by the ``tokenizer.json`` of a model folder."""

from pathlib import Path

from tokenizers import Tokenizer as _Tokenizer

from ..spec.errors import ModelError


class Tokenizer:
    """The tokenizer of a model folder.

    Parameters
    ----------
    folder : Path
    vocab_size : int
        Rows of the embedding; ids beyond it are refused.
    """

    def __init__(self, folder: Path, vocab_size: int):
        self._path = folder / "tokenizer.json"
        self._vocab_size = vocab_size
        if not self._path.exists():
            raise ModelError(f"{self._path} is missing: fetch it, or give token ids")
        try:
            self._tokenizer = _Tokenizer.from_file(str(self._path))
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{self._path} cannot be read: {str(error).splitlines()[0]}") from None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, special tokens at its start included."""
        try:
            ids = self._tokenizer.encode(text).ids
        except Exception as error:
            raise ModelError(f"the prompt cannot be tokenized: {error}") from None
        if not ids:
            raise ModelError("the prompt has no tokens: give some text")
        if max(ids) >= self._vocab_size:
            raise ModelError(f"{self._path} gives token {max(ids)}, but the model knows only "
                             f"{self._vocab_size}")
        return ids

    def continuation(self, prompt: list[int], ids: list[int]) -> str:
        """What ``ids`` say after ``prompt``."""
        before = self._tokenizer.decode(prompt, skip_special_tokens=False)
        text = self._tokenizer.decode(prompt + ids, skip_special_tokens=False)
        if text.startswith(before):
            return text[len(before):]
        return self._tokenizer.decode(ids, skip_special_tokens=False)
