# SPDX-License-Identifier: BSD-2-Clause
"""The shared library of a channel from Python: jobs in arrays, DRAM as one numpy array."""

import ctypes
import mmap
from ctypes import POINTER, Structure, c_char_p, c_int, c_uint8, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np

from logicpim.sim.dram.trace import TRACE_DTYPE, Record
from logicpim.spec.config import Config
from logicpim.spec.isa import INSTRUCTION_BITS

_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
_BYTES = INSTRUCTION_BITS // 8


class Outcome(IntEnum):
    """How a run of some clocks ended."""

    DONE = 0
    MORE = 1
    STUCK = 2


class _Job(Structure):
    _fields_ = (
        [(name, c_uint64) for name in ("instructions", "issued", "completed")]
        + [(name, c_void_p) for name in ("descriptors", "tags", "statuses", "issue_clocks",
                                         "done_clocks")]
        + [(name, c_uint64) for name in ("requests", "asked", "answered")]
        + [(name, c_void_p) for name in ("writes", "regions", "addresses", "data", "masks",
                                         "answers", "errors")]
        + [("pauses", c_uint32 * 4), ("idle_limit", c_uint64)])


class _Record(Structure):
    _fields_ = [("clock", c_uint64), *((name, c_uint8) for name in (
        "command", "rank", "bank_group", "bank")), ("row", c_uint32), ("column", ctypes.c_uint16)]


class State(Structure):
    """What a channel says about itself; ``clock`` counts logic clocks since reset."""

    _fields_ = [("clock", c_uint64), ("commands", c_uint64), ("faults", c_uint64),
                ("first_fault", c_char_p), ("trace", c_void_p), ("trace_length", c_uint64),
                ("last", _Record)]

    @property
    def last_command(self) -> Record:
        """The DRAM command seen last."""
        return Record(*(getattr(self.last, name) for name in TRACE_DTYPE.names))


@dataclass(frozen=True)
class Pauses:
    """How often each side of the host ports pauses for a clock, in 256ths."""

    instruction: int = 0
    completion: int = 0
    request: int = 0
    response: int = 0


NO_PAUSES = Pauses()


@dataclass
class Requests:
    """Host requests of one run, and their responses once it has ended.

    Parameters
    ----------
    write, region, address : arrays of n
    data : uint8 array of n granules
        Ignored for reads.
    mask : uint8 array of n bit masks, optional
        Bytes to write; all by default.
    """

    write: np.ndarray
    region: np.ndarray
    address: np.ndarray
    data: np.ndarray
    mask: np.ndarray | None = None
    answers: np.ndarray = field(init=False)
    errors: np.ndarray = field(init=False)


class Job:
    """Instructions and host requests of one run of a channel.

    Attributes
    ----------
    tags, statuses, issue_clocks, done_clocks : arrays
        One entry for each completed instruction.
    """

    def __init__(self, config: Config, words=(), requests: Requests | None = None,
                 pauses: Pauses = NO_PAUSES, idle_limit: int = 100_000):
        n = len(words)
        self.tags, self.statuses = np.zeros(n, np.uint16), np.zeros(n, np.uint8)
        self.issue_clocks, self.done_clocks = np.zeros(n, np.uint64), np.zeros(n, np.uint64)
        self._held = [np.frombuffer(b"".join(w.to_bytes(_BYTES, "little") for w in words)
                                    or b"\0", np.uint8),
                      self.tags, self.statuses, self.issue_clocks, self.done_clocks]
        self._c = _Job(instructions=n, idle_limit=idle_limit)
        self._c.pauses[:] = [pauses.instruction, pauses.completion, pauses.request,
                             pauses.response]
        self._point(("descriptors", "tags", "statuses", "issue_clocks", "done_clocks"))
        if requests is not None:
            self._add(requests, config.granule_bytes)

    def _add(self, requests: Requests, granule: int) -> None:
        n = len(requests.address)
        shapes = {"write": (n,), "region": (n,), "data": (n, granule)}
        if requests.mask is not None:
            shapes["mask"] = (n, -(-granule // 8))
        held = {name: np.ascontiguousarray(getattr(requests, name), np.uint8)
                for name in shapes}
        for name, shape in shapes.items():
            if held[name].shape != shape:
                raise ValueError(f"{name} has shape {held[name].shape}, not {shape}")
        requests.answers = np.zeros((n, granule), np.uint8)
        requests.errors = np.zeros(n, np.uint8)
        self._c.requests = n
        self._held = [held["write"], held["region"],
                      np.ascontiguousarray(requests.address, np.uint32), held["data"],
                      held.get("mask"), requests.answers, requests.errors, self._held]
        self._point(("writes", "regions", "addresses", "data", "masks", "answers", "errors"))

    def _point(self, names) -> None:
        for name, array in zip(names, self._held, strict=False):
            if array is not None:
                setattr(self._c, name, array.ctypes.data)

    @property
    def progress(self) -> str:
        """How far it has come, for people."""
        c = self._c
        return (f"{c.issued} of {c.instructions} instructions accepted and {c.completed} "
                f"completed, {c.asked} of {c.requests} host requests accepted and {c.answered} "
                f"answered")


class ChannelModel:
    """One Verilated channel, out of reset, with its DRAM.

    Parameters
    ----------
    library : Path
    config : Config
    seed : int
        Of the garbage on idle buses and of the pauses.

    Attributes
    ----------
    memory : numpy.ndarray of uint8
        The DRAM, by granule address. It stays valid after :meth:`close`.
    """

    def __init__(self, library: Path, config: Config, seed: int = 0):
        self._library = _load(library)
        pages = mmap.mmap(-1, config.capacity_bytes,
                          flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
        self.memory = np.frombuffer(pages, np.uint8)
        self._channel = self._library.logicpim_open(self.memory.ctypes.data, seed)

    def begin(self) -> None:
        """Start the watchdog anew; before the first :meth:`run` of a job."""
        self._library.logicpim_begin(self._channel)

    def run(self, job: Job, clocks: int) -> Outcome:
        """Run until the job is done, but at most so many clocks; other threads go on."""
        return Outcome(self._library.logicpim_run(self._channel, ctypes.byref(job._c), clocks))

    def idle(self, clocks: int) -> None:
        """Let time pass."""
        self._library.logicpim_idle(self._channel, clocks)

    @property
    def state(self) -> State:
        """What it says about itself now."""
        state = State()
        self._library.logicpim_state(self._channel, ctypes.byref(state))
        return state

    def take_trace(self, keep_on: bool = True) -> np.ndarray:
        """The DRAM commands since the last call, which are forgotten here."""
        state = self.state
        size = state.trace_length * TRACE_DTYPE.itemsize
        text = ctypes.string_at(state.trace, size) if size else b""
        self._library.logicpim_clear_trace(self._channel, keep_on)
        return np.frombuffer(text, TRACE_DTYPE)

    def inject(self, granule: int, bit: int) -> None:
        """Invert a stored bit of a granule; above the data are its check bits."""
        self._library.logicpim_inject(self._channel, granule, bit)

    @property
    def wrong_granules(self) -> int:
        """Granules whose check bits are not those of their data."""
        return self._library.logicpim_wrong_granules(self._channel)

    def disturb(self, bits: int) -> int:
        """From now on invert so many of the 72 bits of each part as it is read; returns the parts
        disturbed so far."""
        return self._library.logicpim_disturb(self._channel, bits)

    def stick(self, link: int, lane: int, level: int | None) -> None:
        """Make a lane stuck at a level, or sound again."""
        self._library.logicpim_stick(self._channel, link, lane, -1 if level is None else level)

    def close(self) -> None:
        """Free the model."""
        if self._channel:
            self._library.logicpim_close(self._channel)
            self._channel = None


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name, result, arguments in (
            ("open", c_void_p, (c_void_p, c_uint64)), ("close", None, (c_void_p,)),
            ("run", c_int, (c_void_p, POINTER(_Job), c_uint64)), ("begin", None, (c_void_p,)),
            ("idle", None, (c_void_p, c_uint64)), ("state", None, (c_void_p, POINTER(State))),
            ("clear_trace", None, (c_void_p, c_int)),
            ("inject", None, (c_void_p, c_uint64, c_uint32)),
            ("wrong_granules", c_uint64, (c_void_p,)), ("disturb", c_uint64, (c_void_p, c_uint32)),
            ("stick", None, (c_void_p, c_uint32, c_uint32, c_int))):
        function = getattr(library, f"logicpim_{name}")
        function.restype, function.argtypes = result, arguments
    return library
