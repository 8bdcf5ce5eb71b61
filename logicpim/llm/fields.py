# SPDX-License-Identifier: BSD-2-Clause
"""Typed look-ups in config.json: an error names the file, the field and what was found."""

import json
import math
from pathlib import Path

from ..spec.errors import ModelError


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


class Fields:
    """The values of a config.json; ``path`` is named in errors."""

    def __init__(self, path: Path | str, values: dict):
        self.path = path
        self.values = values

    def fail(self, text: str):
        """Raises ModelError with the file before ``text``."""
        raise ModelError(f"{self.path}: {text}")

    def size(self, name: str, default: int | None = None, least: int = 1,
             most: int = 1 << 31) -> int:
        """A whole number; missing or null it is ``default``, an error if that is None.

        ``name`` may be several, with | between them: the first that is there counts.
        """
        names = name.split("|")
        name = next((n for n in names if self.values.get(n) is not None), names[0])
        value = self.values.get(name)
        if value is None:
            if default is None:
                self.fail(f"{name} is missing")
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.fail(f"{name} must be a whole number from {least} to {most}, not {value!r}")
        return value

    def positive(self, name: str, default: float | None, values: dict | None = None) -> float:
        """A number above 0, of ``values`` or of config.json."""
        value = (self.values if values is None else values).get(name)
        value = default if value is None else value
        if not _number(value) or not value > 0:
            self.fail(f"{name} must be a number > 0, not {value!r}")
        return float(value)

    def share(self, name: str, default: float) -> float:
        """A number from 0 to 1."""
        value = self.values.get(name, default)
        if not _number(value) or not 0 <= value <= 1:
            self.fail(f"{name} must be a number from 0 to 1, not {value!r}")
        return float(value)

    def flag(self, entry) -> bool:
        """``entry`` itself, or where it is (name, default) what config.json says."""
        if not isinstance(entry, tuple):
            return entry
        value = self.values.get(entry[0])
        value = entry[1] if value is None else value
        if not isinstance(value, bool):
            self.fail(f"{entry[0]} must be true or false, not {value!r}")
        return value

    def text(self, name: str, default: str) -> str:
        """A string."""
        value = self.values.get(name) or default
        if not isinstance(value, str):
            self.fail(f"{name} must be a string, not {value!r}")
        return value

    def numbers(self, name: str, values: dict, length: int) -> list[float]:
        """A list of ``length`` numbers above 0."""
        found = values.get(name)
        if not isinstance(found, list) or len(found) != length or not all(
                _number(v) and v > 0 for v in found):
            self.fail(f"{name} must be a list of {length} numbers > 0")
        return [float(v) for v in found]

    def only(self, name: str, values: tuple, why: str) -> None:
        """Fails unless the value, null where it is missing, is one of ``values``."""
        if (value := self.values.get(name)) not in values:
            self.fail(f"{name} {value!r} is not supported: {why}")


def _number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
