# SPDX-License-Identifier: BSD-2-Clause
"""A serial port of this machine, raw, by termios."""

import errno
import fcntl
import os
import select
import termios

from ...spec.errors import ToolError
from ...spec.link import Line


class SerialLine(Line):
    """A device such as ``/dev/ttyUSB0``: 8 bits, no parity, no flow control.

    Parameters
    ----------
    path : str
    baud : int
        One that termios knows.

    Raises
    ------
    ToolError
        If there is no such port, or it is in use.
    """

    patience = 0.3  # USB adapters gather bytes for up to 16 ms; schedulers are worse

    def __init__(self, path: str, baud: int):
        self.name, self.baud = path, baud
        speed = getattr(termios, f"B{baud}", None)
        if speed is None:
            raise ToolError(f"{baud} baud is not a speed of this system's serial ports")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            cure = (": add yourself to the group `dialout`" if error.errno == errno.EACCES
                    else ": name the port of the board")
            raise ToolError(f"cannot open {path}: {error.strerror}{cure}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mode = termios.tcgetattr(self._file)
            mode[0] = mode[1] = mode[3] = 0
            mode[2] = termios.CS8 | termios.CREAD | termios.CLOCAL
            mode[4] = mode[5] = speed
            termios.tcsetattr(self._file, termios.TCSANOW, mode)
            termios.tcflush(self._file, termios.TCIOFLUSH)
        except (OSError, termios.error) as error:
            os.close(self._file)
            text = ("it is in use by another program" if isinstance(error, BlockingIOError)
                    else f"it is no serial port ({error.args[-1]})")
            raise ToolError(f"cannot use {path}: {text}") from None

    def write(self, data: bytes) -> None:
        try:
            while data:
                select.select((), (self._file,), ())
                data = data[os.write(self._file, data):]
        except OSError as error:
            raise ToolError(f"{self.name} was lost: {error.strerror}") from None

    def read(self, seconds: float) -> bytes:
        try:
            ready, _, _ = select.select((self._file,), (), (), max(0.0, seconds))
            data = os.read(self._file, 1 << 16) if ready else b""
        except OSError as error:
            raise ToolError(f"{self.name} was lost: {error.strerror}") from None
        if ready and not data:
            raise ToolError(f"{self.name} was lost: unplugged?")
        return data

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
