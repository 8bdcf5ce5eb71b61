# SPDX-License-Identifier: BSD-2-Clause
"""FPGA boards: one file each, called as its preset is, with `_` for `-`."""

import importlib

from logicpim.spec.errors import ConfigError

NAMES = ("ulx3s-85f", "ecpix5-85f", "tang-mega-138k")


def board(name: str):
    """The :class:`~.base.Board` of a name; :class:`ConfigError` if there is none."""
    if name not in NAMES:
        raise ConfigError(f"unknown board {name!r}; boards are {', '.join(NAMES)}")
    return importlib.import_module(f".{name.replace('-', '_')}", __package__).BOARD
