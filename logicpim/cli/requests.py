# SPDX-License-Identifier: BSD-2-Clause
"""A file of requests, a JSON object a line: what each says, or what is wrong with it."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..driver.serve import Request
from ..llm.config import ModelConfig
from ..llm.tokenizer import Tokenizer
from ..spec.errors import LogicPimError, ModelError

KEYS = ("id", "prompt", "prompt_ids", "tokens", "arrival_s", "stop", "stop_ids")


@dataclass(frozen=True)
class Line:
    """A line of the file: its request, or why it has none."""

    number: int
    id: str | None
    request: Request | None = None
    error: str | None = None


class Words:
    """Texts as ids and ids as text, by the model's tokenizer, which is read when it is needed."""

    def __init__(self, folder: Path, vocab_size: int):
        self._folder, self._vocab_size = folder, vocab_size

    @cached_property
    def _tokenizer(self) -> Tokenizer | LogicPimError:
        try:
            return Tokenizer(self._folder, self._vocab_size)
        except LogicPimError as error:
            return error

    def encode(self, text: str) -> list[int]:
        """Ids of a text. Raises ModelError without a tokenizer."""
        if isinstance(self._tokenizer, LogicPimError):
            raise ModelError(str(self._tokenizer))
        return self._tokenizer.encode(text)

    def text(self, prompt: tuple[int, ...], ids: list[int]) -> str:
        """What ids say after a prompt; without a tokenizer the ids, with spaces before them."""
        if isinstance(self._tokenizer, LogicPimError):
            return "".join(f" {i}" for i in ids)
        return self._tokenizer.continuation(list(prompt), ids)


def read_requests(path: Path, words: Words, model: ModelConfig, tokens: int,
                  ignore_eos: bool = False) -> list[Line]:
    """The lines of a file but for empty ones; one that is wrong spoils no other.

    Parameters
    ----------
    tokens : int
        Of requests that do not say how many.

    Raises LogicPimError where the file cannot be read or has no requests.
    """
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise LogicPimError(f"cannot read {path}: {error.strerror}") from None
    rows = [(number, row) for number, row in enumerate(data.split(b"\n"), 1) if row.strip()]
    if not rows:
        raise LogicPimError(f'{path} is empty: write a JSON object a line, such as '
                            f'{{"id": "a", "prompt": "In the beginning", "tokens": 16}}')
    lines, seen = [], {}
    for number, row in rows:
        line = _line(number, row, words, model, tokens, ignore_eos)
        if line.request and line.id in seen:
            line = Line(number, line.id, error=f"line {number}: id {line.id!r} is that of line "
                                               f"{seen[line.id]} already: choose another")
        seen.setdefault(line.id, number)
        lines.append(line)
    return lines


def _line(number, row, words, model, tokens, ignore_eos) -> Line:
    name = None
    try:
        values = _values(row)
        name = _id(values.get("id", number))
        return Line(number, name, _request(name, values, words, model, tokens, ignore_eos))
    except LogicPimError as error:
        return Line(number, name, error=f"line {number}: {' '.join(str(error).split())}")


def _values(row: bytes) -> dict:
    try:
        values = json.loads(row.decode())
    except UnicodeDecodeError as error:
        raise LogicPimError(f"not UTF-8 (byte {error.start + 1}): save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise LogicPimError(f"not valid JSON ({error}): write one object a line") from None
    if not isinstance(values, dict):
        raise LogicPimError('not an object: write one such as {"prompt": "In the beginning"}')
    if unknown := [key for key in values if key not in KEYS]:
        raise LogicPimError(f"unknown key {unknown[0]!r}: known are {', '.join(KEYS)}")
    return values


def _id(value) -> str:
    return str(_expect("id", value, isinstance(value, str | int) and not isinstance(value, bool)
                       and value != "", "text or a whole number"))


def _expect(key, value, good: bool, what: str):
    if not good:
        raise LogicPimError(f"{key} must be {what}, not {json.dumps(value)}")
    return value


def _whole(value, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _ids(key, value, model) -> list[int]:
    _expect(key, value, isinstance(value, list) and all(_whole(i, 0) for i in value),
            "a list of token ids")
    for token in value:
        if token >= model.vocab_size:
            raise LogicPimError(f"token {token} of {key} is unknown to the model: it has "
                                f"{model.vocab_size}")
    return value


def _request(name, values, words: Words, model, tokens, ignore_eos) -> Request:
    if ("prompt" in values) == ("prompt_ids" in values):
        raise LogicPimError("give either prompt or prompt_ids")
    if "prompt" in values:
        text = values["prompt"]
        prompt = words.encode(_expect("prompt", text, isinstance(text, str), "text"))
    else:
        prompt = _ids("prompt_ids", values["prompt_ids"], model)
        _expect("prompt_ids", prompt, bool(prompt), "token ids, one at least")
    tokens = values.get("tokens", tokens)
    _expect("tokens", tokens, _whole(tokens, 1), "a whole number >= 1")
    arrival = values.get("arrival_s", 0.0)
    _expect("arrival_s", arrival, isinstance(arrival, int | float) and not isinstance(arrival, bool)
            and math.isfinite(arrival) and arrival >= 0, "seconds >= 0")
    stop = values.get("stop", [])
    stop = [stop] if isinstance(stop, str) else stop
    _expect("stop", stop, isinstance(stop, list) and all(isinstance(s, str) and s for s in stop),
            "text or a list of texts, none empty")
    stop_ids = _ids("stop_ids", values.get("stop_ids", []), model)
    ending = Ending(words, tuple(prompt), tuple(stop),
                    frozenset(stop_ids) | frozenset(() if ignore_eos else model.eos_ids))
    return Request(id=name, prompt=tuple(prompt), tokens=tokens, arrival=float(arrival),
                   ended=ending)


@dataclass(frozen=True)
class Ending:
    """Callable with the tokens made so far: whether one of the ends of the text is among them.

    Parameters
    ----------
    words : Words
    prompt : tuple of int
    texts : tuple of str
    ids : frozenset of int
    """

    words: Words
    prompt: tuple[int, ...]
    texts: tuple[str, ...]
    ids: frozenset[int]

    def __call__(self, made: list[int]) -> bool:
        return made[-1] in self.ids or bool(
            self.texts and any(text in self.words.text(self.prompt, made) for text in self.texts))

    def text(self, made: list[int]) -> str:
        """What they say, but for what ends it."""
        if made and made[-1] in self.ids:
            made = made[:-1]
        text = self.words.text(self.prompt, made)
        return text[:min((at for stop in self.texts if (at := text.find(stop)) >= 0),
                         default=len(text))]


class Pieces:
    """The text of a request in pieces, as its tokens come."""

    def __init__(self, ending: Ending):
        self._ending, self._said = ending, ""

    def __call__(self, made: list[int], last: bool) -> str:
        """What is new; a character whose bytes are not all there waits for them."""
        text = self._ending.text(made)
        if not last and text.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        piece, self._said = text[len(self._said):], text
        return piece
