# SPDX-License-Identifier: BSD-2-Clause
"""Named configurations, TOML files and overrides: every way to a :class:`Config`."""

import tomllib
from dataclasses import fields
from pathlib import Path

from .config import Config, Tile
from .dram import Organisation
from .errors import ConfigError

# 64 multipliers for an LFE5U-85F, without the function modules (docs/fpga.md). Two rows, as each
# has three adders of 32 bits behind it; one bundle of DRAM, as each of its words lasts two beats.
_BOARD = Config(
    tile=Tile(tokens=4, rows=2, depth=8), functions=False,
    dram=Organisation(ranks=1, bank_groups=2, banks_per_group=1, rows=64, columns=32,
                      bundle_banks=2),
    timing="bram", input_buffer_bytes=65536, temp_buffer_bytes=65536, word_fifo=8, queue_depth=4)

PRESETS = {
    config.name: config for config in (
        Config(name="channel"),
        Config(name="paper", channels=32, stack=True,
               input_buffer_bytes=1 << 15, temp_buffer_bytes=1 << 15),
        Config(name="small",
               tile=Tile(tokens=2, rows=4, depth=4, groups=2),
               dram=Organisation(ranks=1, bank_groups=2, banks_per_group=4, rows=64, columns=8,
                                 bundle_banks=4),
               input_buffer_bytes=4096, temp_buffer_bytes=4096, word_fifo=8, queue_depth=4,
               host_burst=4),
        _BOARD.replace(name="ulx3s-85f"),
        _BOARD.replace(name="ecpix5-85f"),
        # The smallest channel: nextpnr takes too long to place one of 32 multipliers in this FPGA.
        _BOARD.replace(name="tang-mega-138k",
                       tile=Tile(tokens=1, rows=2, depth=4, groups=1),
                       dram=Organisation(ranks=1, bank_groups=2, banks_per_group=2, rows=16,
                                         columns=8, bundle_banks=2),
                       input_buffer_bytes=2048, temp_buffer_bytes=2048, word_fifo=4,
                       queue_depth=2),
    )
}
"""``channel``: one channel of the paper's point, with the buffers of a stack; ``paper``: 32 of
them under one operation controller, the buffers in slices;
``small``: a tile and DRAM small enough for Icarus and formal proofs;
the others are FPGA boards (``docs/fpga.md``)."""

_SECTIONS = {"tile": Tile, "dram": Organisation, "timing_overrides": None}


def _build(values: dict, base: Config) -> Config:
    known = {f.name for f in fields(Config)}
    changes = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"unknown configuration key {key!r}; keys are "
                              f"{', '.join(sorted(known))}")
        if key not in _SECTIONS:
            changes[key] = value
            continue
        if not isinstance(value, dict):
            raise ConfigError(f"{key} is a section: write {key}.NAME = VALUE")
        if _SECTIONS[key] is None:
            changes[key] = {**getattr(base, key), **value}
            continue
        inner = {f.name: getattr(getattr(base, key), f.name) for f in fields(_SECTIONS[key])}
        for name in value:
            if name not in inner:
                raise ConfigError(f"unknown configuration key '{key}.{name}'; keys are "
                                  + ", ".join(f"{key}.{k}" for k in inner))
        changes[key] = _SECTIONS[key](**{**inner, **value})
    try:
        return base.replace(**changes)
    except TypeError as error:
        raise ConfigError(f"a configuration value has the wrong type: {error}") from None


def _parse_override(text: str) -> dict:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"override {text!r} is not of the form KEY=VALUE")
    try:
        return tomllib.loads(f"{key.strip()} = {value.strip()}")
    except tomllib.TOMLDecodeError:
        raise ConfigError(f"override {text!r}: the value is not a TOML value "
                          f"(a number, true, false or a quoted string)") from None


def load_config(name_or_path: str, overrides: list[str] = ()) -> Config:
    """The configuration called ``name_or_path``, with ``KEY=VALUE`` overrides applied.

    Parameters
    ----------
    name_or_path : str
        A preset name, or a TOML file. A file may name the preset it starts from with
        ``base = "channel"`` (the default).
    overrides : list of str
        ``KEY=VALUE`` in TOML syntax, dotted keys for sections: ``tile.groups=2``.
    """
    if name_or_path in PRESETS:
        config = PRESETS[name_or_path]
    else:
        path = Path(name_or_path)
        if path.suffix != ".toml":
            raise ConfigError(f"unknown preset {name_or_path!r}; presets are "
                              f"{', '.join(sorted(PRESETS))}, or give a .toml file")
        try:
            values = tomllib.loads(path.read_text())
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from None
        base = values.pop("base", "channel")
        if base not in PRESETS:
            raise ConfigError(f"{path}: unknown base preset {base!r}; presets are "
                              f"{', '.join(sorted(PRESETS))}")
        config = _build({"name": path.stem, **values}, PRESETS[base])
    # All at once: values that depend on each other change together.
    changes = {}
    for text in overrides:
        for key, value in _parse_override(text).items():
            if isinstance(value, dict) and isinstance(changes.get(key), dict):
                value = changes[key] | value
            changes[key] = value
    return _build(changes, config) if changes else config
