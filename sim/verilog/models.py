# SPDX-License-Identifier: BSD-2-Clause
"""The Verilated models of a device: run, watched and judged; traces of their DRAM."""

import copy
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from logicpim.sim.dram.checker import TraceChecker
from logicpim.sim.dram.trace import TRACE_DTYPE
from logicpim.spec.config import Config
from logicpim.spec.errors import LogicPimError

from .binding import Job, Model, Outcome
from .stopwatch import Stopwatch

CLOCKS = 1 << 16  # of one call into the library: between calls Python sees Ctrl-C and traces


class DeviceFault(RuntimeError):
    """The hardware broke a promise: a fault of LogicPIM's, not of its user."""


class Models:
    """One model of a stack, or one a channel, each made when it is first asked for.

    Every DRAM command is judged by the protocol checker, and a fault of any kind raises
    :class:`DeviceFault`.

    Parameters
    ----------
    config : Config
    library : Path
    seed : int
    keep : bool
        Whether to keep the DRAM commands for :meth:`trace`.
    check : bool
        Whether to judge them.
    idle_limit : int
        Clocks without any progress after which a model counts as stuck.

    Attributes
    ----------
    inside : Stopwatch
        How long jobs have run.
    """

    def __init__(self, config: Config, library: Path, *, seed: int, keep: bool, check: bool,
                 idle_limit: int):
        self.config, self.keep, self.check, self.idle_limit = config, keep, check, idle_limit
        self._library, self._seed = library, seed
        self._models: dict[int, Model] | None = {}
        self._checkers = {c: TraceChecker(config, c) for c in range(config.channels)}
        self._traces: dict[int, list[np.ndarray]] = {c: [] for c in range(config.channels)}
        self._stop, self.inside = threading.Event(), Stopwatch()

    def at(self, channel: int) -> tuple[Model, int]:
        """The model of a channel, and its number there."""
        if self._models is None:
            raise RuntimeError("the device is closed")
        if not 0 <= channel < self.config.channels:
            raise LogicPimError(f"channel {channel} does not exist: {self.config.name} has "
                                f"{self.config.channels}, counted from 0")
        first = self.together(channel)[0]
        if first not in self._models:
            self._models[first] = Model(self._library, self.config, self._seed * 64 + first)
        return self._models[first], channel - first

    def together(self, channel: int) -> range:
        """The channels of the same model."""
        return range(self.config.channels) if self.config.stack else range(channel, channel + 1)

    def run_all(self, jobs: Mapping[int, Job]) -> None:
        """Run a job on the model of each of these channels, in parallel threads."""
        self._stop.clear()
        if len(jobs) < 2:
            for channel, job in jobs.items():
                self.run(channel, job)
            return
        with ThreadPoolExecutor(min(len(jobs), len(os.sched_getaffinity(0)))) as pool:
            try:
                list(pool.map(self.run, jobs.keys(), jobs.values()))
            except BaseException:
                self._stop.set()
                raise

    def run(self, channel: int, job: Job) -> None:
        """Run a job on the model of a channel to its end."""
        (model, _), outcome = self.at(channel), Outcome.MORE
        model.begin()
        while outcome is Outcome.MORE and not self._stop.is_set():
            with self.inside:
                outcome = model.run(job, CLOCKS)
            self._judge(channel)
        if outcome is Outcome.STUCK:
            state = max((model.state(i) for i in range(len(model.memories))),
                        key=lambda state: state.last.clock)
            name = "the stack" if self.config.stack else f"channel {channel}"
            raise DeviceFault(f"{name} is stuck at clock {state.clock}, no progress for "
                              f"{self.idle_limit} clocks: {job.progress}; the last of "
                              f"{state.commands} DRAM commands was {state.last_command} at command "
                              f"clock {state.last.clock}")

    def idle(self, channel: int, clocks: int) -> None:
        """Let time pass on the model of a channel."""
        model, _ = self.at(channel)
        while clocks > 0:
            model.idle(min(clocks, CLOCKS))
            self._judge(channel)
            clocks -= CLOCKS

    def trace(self, channel: int) -> np.ndarray:
        """The DRAM commands of a channel that were kept."""
        self.at(channel)
        kept = self._traces[channel]
        kept[:] = [np.concatenate([np.zeros(0, TRACE_DTYPE), *kept])]
        return kept[0]

    def clear_traces(self) -> None:
        """Forget those of all channels; checking goes on."""
        for kept in self._traces.values():
            kept.clear()

    def close(self) -> None:
        """Free the models; further calls are errors."""
        for model in (self._models or {}).values():
            model.close()
        self._models = None

    def _judge(self, channel: int) -> None:
        """Raise on a fault of a functional DRAM or a breach of the protocol."""
        for each in self.together(channel):
            model, number = self.at(each)
            state = model.state(number)
            if state.faults:
                raise DeviceFault(f"channel {each}: {state.first_fault.decode()} "
                                  f"({state.faults} faults in all)")
            trace = model.take_trace(number, self.keep or self.check)
            if self.keep:
                self._traces[each].append(trace)
            if self.check:
                checker = self._checkers[each]
                found = checker.feed(trace)
                probe = copy.copy(checker)
                probe.violations = []
                if found := found or probe.finish(2 * state.clock):
                    raise DeviceFault(f"DRAM protocol violated: {found[0]} "
                                      f"({len(found)} violations)")
