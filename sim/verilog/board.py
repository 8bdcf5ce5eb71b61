# SPDX-License-Identifier: BSD-2-Clause
"""A board in simulation: its gateware, Verilated, behind a serial line in this process."""

import ctypes
from ctypes import POINTER, c_char_p, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from functools import partial

from logicpim.rtl.prototype import Prototype
from logicpim.spec.config import Config
from logicpim.spec.link import Line

from .build import model_library

DIVISOR = 4
"""Clocks of a bit: as few as the receiver can do with, for speed."""
CLOCK_HZ = 50_000_000

_ROOM = 1 << 16
_HARNESS = ("board.cpp",)


def simulated_prototype(config: Config) -> Prototype:
    """The gateware as it is simulated."""
    return Prototype(config, clock_hz=CLOCK_HZ, baud=CLOCK_HZ // DIVISOR)


class SimulatedBoard(Line):
    """Everything that a board's FPGA holds but its PLL, and a host's UART, clock by clock.

    Seconds are those of the simulated clock: time passes in :meth:`read` alone.

    Parameters
    ----------
    config : Config
    """

    name = "the simulated board"
    baud = CLOCK_HZ // DIVISOR
    patience = 2e-4

    def __init__(self, config: Config):
        self._library = _load(model_library(
            config, partial(simulated_prototype, config), harness=_HARNESS, kept="board"))
        self._board = self._library.logicpim_board_open(DIVISOR)
        self._out = (c_uint8 * _ROOM)()
        self._waiting = b""

    def write(self, data: bytes) -> None:
        self._waiting += data

    def read(self, seconds: float) -> bytes:
        data, self._waiting = self._waiting, b""
        got = self._library.logicpim_board_run(self._board, data, len(data), self._out, _ROOM,
                                               max(1, round(seconds * CLOCK_HZ)))
        return bytes(self._out[:got])

    def now(self) -> float:
        return self._library.logicpim_board_clock(self._board) / CLOCK_HZ

    def close(self) -> None:
        if self._board:
            self._library.logicpim_board_close(self._board)
            self._board = None


def _load(path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name, result, arguments in (
            ("open", c_void_p, (c_uint32,)), ("close", None, (c_void_p,)),
            ("run", c_size_t, (c_void_p, c_char_p, c_size_t, POINTER(c_uint8), c_size_t,
                               c_uint64)),
            ("clock", c_uint64, (c_void_p,))):
        function = getattr(library, f"logicpim_board_{name}")
        function.restype, function.argtypes = result, arguments
    return library
