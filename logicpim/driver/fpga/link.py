# SPDX-License-Identifier: BSD-2-Clause
"""Requests over a line that loses and damages bytes: sessions, retries, exactly one effect each."""

import secrets

from ...sim.model.link import Deframer, escape
from ...spec.errors import ToolError
from ...spec.link import (
    ANSWER_OVERHEAD,
    CRC_BYTES,
    HEADER,
    IDENTITY,
    REQUEST_OVERHEAD,
    VERSION,
    Line,
    Outcome,
    Request,
    pack,
    size,
    unpack,
)

_FRAME_BYTES = 1024  # of a board that has not said so yet
_BITS = 10  # on the line, of a byte


class Link:
    """A session with a board.

    A request is sent until its answer comes, at most ``tries`` times; the board does it once.

    Parameters
    ----------
    line : Line
    tries : int

    Attributes
    ----------
    frame_bytes : int
        Most bytes of a frame.
    requests, repeats : int
        Requests answered, and frames sent again for want of an answer.
    """

    def __init__(self, line: Line, tries: int = 20):
        self.line, self.tries = line, tries
        self.frame_bytes = _FRAME_BYTES
        self.requests = self.repeats = 0
        self._deframer = Deframer()
        self._session = self._sequence = 0

    def hello(self) -> dict[str, int]:
        """Begin a session, which resets the channel; what the board says it is."""
        self._session = secrets.randbits(16)
        self._sequence = secrets.randbits(8)
        identity = unpack(IDENTITY, self.ask(Request.HELLO, least=size(IDENTITY)))
        if identity["version"] != VERSION:
            raise ToolError(f"the board on {self.line.name} speaks version "
                            f"{identity['version']} of the link, not {VERSION}: build it anew with "
                            f"`logicpim build`")
        self.frame_bytes = identity["frame_bytes"]
        return identity

    def ask(self, kind: Request, body: bytes = b"", least: int = 0) -> bytes:
        """Put a request; the body of the answer, at least so many bytes of it.

        Raises :class:`ToolError` if there is no answer, or it is that of a fault.
        """
        if REQUEST_OVERHEAD + len(body) > self.frame_bytes:
            raise ValueError(f"a body of {len(body)} bytes does not fit a frame")
        self._sequence = (self._sequence + 1) % 256
        head = pack(HEADER, session=self._session, sequence=self._sequence)
        frame = head + bytes([kind]) + body
        answer = self._exchange(escape(frame), head)
        self.requests += 1
        body, outcome = answer[size(HEADER):-1], answer[-1]
        if outcome != Outcome.OK or len(body) < least:
            raise ToolError(f"the board on {self.line.name} answered {kind.name} with "
                            f"{_meaning(outcome)}")
        return body

    def _exchange(self, raw: bytes, head: bytes) -> bytes:
        longest = 2 * (self.frame_bytes + 1)  # every byte escaped
        seconds = (len(raw) + longest) * _BITS / self.line.baud + self.line.patience
        for _ in range(self.tries):
            self.line.write(raw)
            if (answer := self._answer(head, seconds)) is not None:
                return answer
            self.repeats += 1
        raise ToolError(f"no answer from {self.line.name} to {self.tries} requests at "
                        f"{self.line.baud} baud: is it the board's port, and the board configured "
                        f"with `logicpim build`?")

    def _answer(self, head: bytes, seconds: float) -> bytes | None:
        """The answer that begins so; None if it does not come in time."""
        end = self.line.now() + seconds
        while True:
            data = self.line.read(seconds)
            for frame in self._deframer.feed(data):
                if frame[:len(head)] == head and len(frame) >= ANSWER_OVERHEAD - CRC_BYTES:
                    return frame
            seconds = min(seconds, end - self.line.now())
            if not data or seconds <= 0:
                return None


def _meaning(outcome: int) -> str:
    known = set(Outcome)
    return f"{outcome}: {Outcome(outcome).meaning}" if outcome in known else f"outcome {outcome}"
