# SPDX-License-Identifier: BSD-2-Clause
"""The shared library of a channel or a stack from Python: jobs in arrays, DRAM as numpy arrays."""

import ctypes
import mmap
from collections.abc import Mapping
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


class _Traffic(Structure):
    _fields_ = (
        [(name, c_uint64) for name in ("requests", "asked", "answered")]
        + [(name, c_void_p) for name in ("writes", "regions", "addresses", "data", "masks",
                                         "answers", "errors")])


class _Job(Structure):
    _fields_ = (
        [(name, c_uint64) for name in ("instructions", "issued", "completed")]
        + [(name, c_void_p) for name in ("descriptors", "sets", "tags", "statuses",
                                         "issue_clocks", "done_clocks")]
        + [("traffic", POINTER(_Traffic)), ("pauses", c_uint32 * 4), ("idle_limit", c_uint64)])


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
    """Instructions and host requests of one run of a model.

    Parameters
    ----------
    config : Config
    words : sequence of int
    requests : dict of int to Requests, optional
        By number of the channel in the model.
    sets : sequence of int, optional
        Of a stack: a bit for each channel that an instruction goes to.

    Attributes
    ----------
    tags, statuses, issue_clocks, done_clocks : arrays
        One entry for each completed instruction.
    """

    def __init__(self, config: Config, words=(), requests: Mapping[int, Requests] | None = None,
                 pauses: Pauses = NO_PAUSES, idle_limit: int = 100_000, sets=()):
        n = len(words)
        self.tags, self.statuses = np.zeros(n, np.uint16), np.zeros(n, np.uint8)
        self.issue_clocks, self.done_clocks = np.zeros(n, np.uint64), np.zeros(n, np.uint64)
        self._held = {"descriptors": np.frombuffer(b"".join(
            w.to_bytes(_BYTES, "little") for w in words) or b"\0", np.uint8),
            "sets": np.array([*sets, 0], np.uint64), "tags": self.tags,
            "statuses": self.statuses, "issue_clocks": self.issue_clocks,
            "done_clocks": self.done_clocks}
        self._traffic = (_Traffic * config.channels)()
        self._c = _Job(instructions=n, idle_limit=idle_limit, traffic=self._traffic)
        self._c.pauses[:] = [pauses.instruction, pauses.completion, pauses.request,
                             pauses.response]
        _point(self._c, self._held)
        for channel, each in (requests or {}).items():
            self._held[channel] = _add(self._traffic[channel], each, config.granule_bytes)

    @property
    def progress(self) -> str:
        """How far it has come, for people."""
        c, every = self._c, self._traffic
        asked, answered, requests = (sum(getattr(t, name) for t in every)
                                     for name in ("asked", "answered", "requests"))
        return (f"{c.issued} of {c.instructions} instructions accepted and {c.completed} "
                f"completed, {asked} of {requests} host requests accepted and {answered} answered")


def _add(traffic: _Traffic, requests: Requests, granule: int) -> dict:
    """Hand requests over; returns what must live on."""
    n = len(requests.address)
    shapes = {"write": (n,), "region": (n,), "data": (n, granule)}
    if requests.mask is not None:
        shapes["mask"] = (n, -(-granule // 8))
    held = {name: np.ascontiguousarray(getattr(requests, name), np.uint8) for name in shapes}
    for name, shape in shapes.items():
        if held[name].shape != shape:
            raise ValueError(f"{name} has shape {held[name].shape}, not {shape}")
    requests.answers = np.zeros((n, granule), np.uint8)
    requests.errors = np.zeros(n, np.uint8)
    traffic.requests = n
    arrays = {"writes": held["write"], "regions": held["region"], "data": held["data"],
              "addresses": np.ascontiguousarray(requests.address, np.uint32),
              "masks": held.get("mask"), "answers": requests.answers, "errors": requests.errors}
    _point(traffic, arrays)
    return arrays


def _point(structure: Structure, arrays: dict) -> None:
    for name, array in arrays.items():
        if array is not None:
            setattr(structure, name, array.ctypes.data)


class Model:
    """A Verilated channel or stack, out of reset, with the DRAM of each of its channels.

    Methods take the number of a channel in the model where they speak of one.

    Parameters
    ----------
    library : Path
    config : Config
    seed : int
        Of the garbage on idle buses and of the pauses.

    Attributes
    ----------
    memories : list of numpy.ndarray of uint8
        The DRAM of each channel, by granule address. They stay valid after :meth:`close`.
    """

    def __init__(self, library: Path, config: Config, seed: int = 0):
        self._library = _load(library)
        pages = [mmap.mmap(-1, config.capacity_bytes,
                           flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
                 for _ in range(self._library.logicpim_channels())]
        self.memories = [np.frombuffer(each, np.uint8) for each in pages]
        storage = (c_void_p * len(pages))(*(each.ctypes.data for each in self.memories))
        self._model = self._library.logicpim_open(storage, seed)

    def begin(self) -> None:
        """Start the watchdog anew; before the first :meth:`run` of a job."""
        self._library.logicpim_begin(self._model)

    def run(self, job: Job, clocks: int) -> Outcome:
        """Run until the job is done, but at most so many clocks; other threads go on."""
        return Outcome(self._library.logicpim_run(self._model, ctypes.byref(job._c), clocks))

    def idle(self, clocks: int) -> None:
        """Let time pass."""
        self._library.logicpim_idle(self._model, clocks)

    def state(self, channel: int) -> State:
        """What a channel says about itself now."""
        state = State()
        self._library.logicpim_state(self._model, channel, state)
        return state

    def take_trace(self, channel: int, keep_on: bool = True) -> np.ndarray:
        """The DRAM commands since the last call, which are forgotten here."""
        state = self.state(channel)
        size = state.trace_length * TRACE_DTYPE.itemsize
        text = ctypes.string_at(state.trace, size) if size else b""
        self._library.logicpim_clear_trace(self._model, channel, keep_on)
        return np.frombuffer(text, TRACE_DTYPE)

    def inject(self, channel: int, granule: int, bit: int) -> None:
        """Invert a stored bit of a granule; above the data are its check bits."""
        self._library.logicpim_inject(self._model, channel, granule, bit)

    def wrong_granules(self, channel: int) -> int:
        """Granules whose check bits are not those of their data."""
        return self._library.logicpim_wrong_granules(self._model, channel)

    def disturb(self, channel: int, bits: int) -> int:
        """From now on invert so many of the 72 bits of each part as it is read; returns the parts
        disturbed so far."""
        return self._library.logicpim_disturb(self._model, channel, bits)

    def stick(self, channel: int, link: int, lane: int, level: int | None) -> None:
        """Make a lane stuck at a level, or sound again."""
        self._library.logicpim_stick(self._model, channel, link, lane,
                                     -1 if level is None else level)

    def record(self, path: Path | None) -> None:
        """Count how often nets change, while instructions are under way, until a call without a
        path; only of a library that was built for it."""
        record = self._library.logicpim_record
        record.restype, record.argtypes = None, (c_void_p, c_char_p)
        record(self._model, None if path is None else str(path).encode())

    def close(self) -> None:
        """Free the model."""
        if self._model:
            self._library.logicpim_close(self._model)
            self._model = None


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name, result, arguments in (
            ("channels", c_uint32, ()), ("open", c_void_p, (c_void_p, c_uint64)),
            ("close", None, (c_void_p,)), ("run", c_int, (c_void_p, POINTER(_Job), c_uint64)),
            ("begin", None, (c_void_p,)), ("idle", None, (c_void_p, c_uint64)),
            ("state", None, (c_void_p, c_uint32, POINTER(State))),
            ("clear_trace", None, (c_void_p, c_uint32, c_int)),
            ("inject", None, (c_void_p, c_uint32, c_uint64, c_uint32)),
            ("wrong_granules", c_uint64, (c_void_p, c_uint32)),
            ("disturb", c_uint64, (c_void_p, c_uint32, c_uint32)),
            ("stick", None, (c_void_p, c_uint32, c_uint32, c_uint32, c_int))):
        function = getattr(library, f"logicpim_{name}")
        function.restype, function.argtypes = result, arguments
    return library
