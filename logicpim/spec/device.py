# SPDX-License-Identifier: BSD-2-Clause
"""What the driver may ask of a device, whichever backend stands behind it."""

import abc
import enum
from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest

import numpy as np

from .config import Config
from .errors import LogicPimError
from .isa import INSTRUCTION_BITS, Buffer, Completion, Instruction


class Region(enum.IntEnum):
    """Address regions of the host port; an address counts granules within its region.

    In the buffers a line holds ``tile.tokens`` consecutive granules. In ``REGISTERS`` granule
    ``i`` reads :class:`Counter` ``i``; any write there clears all counters, but for those of
    :class:`LaneRegister`.
    """

    DRAM = 0
    INPUT = 1
    TEMP = 2
    REGISTERS = 3


class Counter(enum.IntEnum):
    """Counters of a channel, 64 bits each, in logic clocks or events.

    ``CYCLES`` runs while an instruction is in flight, from its acceptance to its completion.
    Of these clocks every one is either ``ACTIVE`` (the tile took a beat) or counted by exactly
    one ``STALL_`` cause, so that ``CYCLES == ACTIVE + sum of STALL_``.
    """

    CYCLES = 0
    ACTIVE = 1
    STALL_ACTIVATE = 2
    STALL_REFRESH = 3
    STALL_ARBITRATION = 4
    STALL_OPERAND = 5
    STALL_OUTPUT = 6
    STALL_CONTROL = 7
    WORDS_READ = 8
    WORDS_WRITTEN = 9
    HOST_GRANULES = 10
    REFRESHES = 11
    WORDS_CORRECTED = 12
    WORDS_UNCORRECTED = 13
    HOST_CORRECTED = 14
    HOST_UNCORRECTED = 15
    STALL_FUNCTION = 16
    STALL_BROADCAST = 17

    @property
    def meaning(self) -> str:
        """One line for people."""
        return _MEANINGS[self]


_MEANINGS = {
    Counter.CYCLES: "clocks with an instruction in flight",
    Counter.ACTIVE: "clocks in which the tile took a beat",
    Counter.STALL_ACTIVATE: "tile idle: rows being closed and opened",
    Counter.STALL_REFRESH: "tile idle: DRAM refreshing",
    Counter.STALL_ARBITRATION: "tile idle: DRAM serving the host path",
    Counter.STALL_OPERAND: "tile idle: DRAM streaming slower than the tile takes",
    Counter.STALL_OUTPUT: "tile idle: results not yet drained",
    Counter.STALL_CONTROL: "tile idle: decoding, filling and flushing pipelines, moving",
    Counter.WORDS_READ: "bundle words read over the Logic-PIM path",
    Counter.WORDS_WRITTEN: "bundle words written over the Logic-PIM path",
    Counter.HOST_GRANULES: "granules read or written over the xPU path",
    Counter.REFRESHES: "refresh commands",
    Counter.WORDS_CORRECTED: "parts of 64 bits read over the Logic-PIM path with one wrong bit",
    Counter.WORDS_UNCORRECTED: "parts read over the Logic-PIM path with more than one wrong bit",
    Counter.HOST_CORRECTED: "parts of 64 bits read over the xPU path with one wrong bit",
    Counter.HOST_UNCORRECTED: "parts read over the xPU path with more than one wrong bit",
    Counter.STALL_FUNCTION: "tile idle: the activation or the softmax module at work",
    Counter.STALL_BROADCAST: "tile idle: an operand line of the stack not yet here",
}
ECC_COUNTERS = (Counter.WORDS_CORRECTED, Counter.WORDS_UNCORRECTED, Counter.HOST_CORRECTED,
                Counter.HOST_UNCORRECTED)
"""Always 0 where a configuration has no ``ecc``."""

STALLS = tuple(c for c in Counter if c.name.startswith("STALL_"))


class LaneRegister(enum.IntEnum):
    """Granules of ``REGISTERS`` that a configuration with ``lane_repair`` has besides.

    A write to ``TEST`` runs the lane test and is answered when that is over; a read has the
    groups with one dead lane in bits 15:0 and those with more in bits 31:16. ``GROUPS + g`` reads
    group ``g``: the lane that is left out in bits 15:0 (the spare, the last one, where no lane is
    dead), in bit 16 whether a lane is dead, in bit 17 whether more than one is.
    """

    TEST = 64
    GROUPS = 128


def descriptors(program: Sequence[Instruction | int]) -> list[int]:
    """The 256-bit descriptors of a program. Raises LogicPimError for a raw one that is none."""
    words = [insn.encode() if isinstance(insn, Instruction) else int(insn) for insn in program]
    if any(not 0 <= word < 1 << INSTRUCTION_BITS for word in words):
        raise LogicPimError(f"a raw instruction is not a number of {INSTRUCTION_BITS} bits")
    return words


def in_turn(programs: Mapping[int, Sequence[int]], execute) -> dict[int, list[Completion]]:
    """Run a stack's programs by channel, an instruction of each in turn.

    Parameters
    ----------
    programs : dict of int to sequence of int
    execute : callable
        As :meth:`Device.execute_stack`.
    """
    turns = zip_longest(*([(word, {c}) for word in words] for c, words in programs.items()))
    program = [each for turn in turns for each in turn if each is not None]
    done = execute(program)
    return {c: [completion for completion, (_, on) in zip(done, program, strict=True)
                if on == {c}] for c in programs}


class Device(abc.ABC):
    """Channels of Logic-PIM with their DRAM.

    Data is bytes as the hardware holds them: little-endian elements, granules in address order.

    Attributes
    ----------
    config : Config
    timed : bool
        Whether the counters mean anything (False for the functional reference).
    simulator_s : float
        Time that has been spent inside a simulator of the hardware.
    """

    config: Config
    timed: bool = False
    simulator_s: float = 0.0

    @abc.abstractmethod
    def dram(self, channel: int) -> np.ndarray:
        """The channel's whole DRAM as a writable uint8 array: the back door for bulk loading.

        Byte ``a`` of the array is byte ``a % granule_bytes`` of granule ``a // granule_bytes``.
        """

    @abc.abstractmethod
    def write_buffer(self, channel: int, buffer: Buffer, line: int, data: np.ndarray) -> None:
        """Write uint8 ``data`` (whole granules) from the start of ``line`` by the host port."""

    @abc.abstractmethod
    def read_buffer(self, channel: int, buffer: Buffer, line: int, size: int) -> np.ndarray:
        """Read ``size`` bytes (whole granules) from the start of ``line`` by the host port."""

    def write_buffers(self, buffer: Buffer, line: int, data: Mapping[int, np.ndarray]) -> None:
        """:meth:`write_buffer` for each of some channels, at the same time."""
        for channel, each in data.items():
            self.write_buffer(channel, buffer, line, each)

    def read_buffers(self, buffer: Buffer, line: int, sizes: Mapping[int, int]
                     ) -> dict[int, np.ndarray]:
        """:meth:`read_buffer` for each of some channels, at the same time."""
        return {c: self.read_buffer(c, buffer, line, size) for c, size in sizes.items()}

    @abc.abstractmethod
    def write_dram(self, data: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> None:
        """Write granules of the DRAM of some channels by their host ports: addresses [n] and uint8
        [n, granule_bytes]. What is executed afterwards sees them."""

    @abc.abstractmethod
    def execute(self, programs: Mapping[int, Sequence[Instruction | int]]
                ) -> dict[int, list[Completion]]:
        """Run one program per channel, all channels in parallel, until the last completion.

        An ``int`` is a raw 256-bit descriptor. Completions come in program order. On a stack the
        programs share one queue, an instruction of each in turn.
        """

    def execute_stack(self, program: Sequence[tuple[Instruction | int, Collection[int]]]
                      ) -> list[Completion]:
        """Run one program on a stack: each instruction on all channels of its set.

        A channel of the set works on its own DRAM and its own slices of the buffers, but for
        operands that are ``dealt`` over the slices of the set. Results are those of one instruction
        after the other; each has one completion, when all its channels have ended it, in program
        order. Raises LogicPimError unless ``config.stack``, and for a channel that does not exist.
        """
        raise LogicPimError(f"{self.config.name} is no stack, whose channels share a program: "
                            f"stack=true")

    @abc.abstractmethod
    def counters(self, channel: int) -> dict[str, int]:
        """Values by lower-case :class:`Counter` name since the last clear; empty if untimed."""

    def all_counters(self, channels: Collection[int]) -> dict[int, dict[str, int]]:
        """:meth:`counters` of each of some channels, at the same time."""
        return {channel: self.counters(channel) for channel in channels}

    @abc.abstractmethod
    def clear_counters(self) -> None:
        """Set every counter of every channel to zero."""

    def close(self) -> None:
        """Release what the backend holds; further calls are errors."""

    def _require_channel(self, channel: int) -> None:
        """Raise LogicPimError for a channel that does not exist."""
        if not 0 <= channel < self.config.channels:
            raise LogicPimError(f"channel {channel} does not exist: {self.config.name} has "
                                f"{self.config.channels}, counted from 0")

    def _stack_program(self, program) -> tuple[list[int], list[set[int]]]:
        """The descriptors of a stack's program and their sets of channels, all of which exist."""
        sets = [{int(channel) for channel in channels} for _, channels in program]
        for channel in set().union(*sets):
            self._require_channel(channel)
        return descriptors([insn for insn, _ in program]), sets

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
