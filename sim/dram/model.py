# SPDX-License-Identifier: BSD-2-Clause
"""The functional DRAM of one channel, for any simulator that can call it once a logic clock."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from logicpim.sim.model.ecc import encode
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand

from .trace import Record, trace_of

_CLOSED = -1


class Slot(NamedTuple):
    """What a slot of a command bus carries; a NOP where ``command`` is 0."""

    command: int = 0
    rank: int = 0
    bank_group: int = 0
    bank: int = 0
    address: int = 0
    """The row on the row bus, the column on the column bus."""


NOP = Slot()


class DramModel:
    """Banks with their open rows, behind the command and data buses of one channel.

    :meth:`step` is called once for each logic clock ``c`` with what the buses carried *during*
    that clock (in a simulator: sampled at the edge that ends it), and returns what the read data
    buses carry during clock ``c + 1`` (to be driven right after that edge). So the data of a
    read command of clock ``c`` is on the bus during clock ``c + read_latency`` alone, and a
    write command of clock ``c`` takes what its data bus carries during ``c + write_latency``.
    At all other times the read data buses carry garbage, never the same twice.

    It serves what it is asked without judging distances; that is the checker's part. What it
    cannot serve (a column of a closed bank, a bundle whose path bit is wrong when it is
    commanded or when its data moves, two words at once on one bus) moves garbage or nothing and
    is told in ``faults``.

    With ``config.ecc`` a data bus carries its side band above the data, and granules are written
    whole. The side band is kept as its difference from what the code makes of the data: a back
    door that changes data leaves no error behind.

    Parameters
    ----------
    config : Config
    memory : numpy.ndarray of uint8, optional
        The contents, by granule address as :meth:`~logicpim.spec.dram.Organisation.locate`
        reads it: the back door. Zeros by default, of which only touched pages take memory.
    seed : int
        Of the garbage.

    Attributes
    ----------
    clock : int
        Logic clocks stepped so far.
    carrying : dict
        Which read data buses carry data in the coming clock (True: the bundle path's), of which
        bundle.
    records : list of Record
        All commands seen.
    faults : list of str
    side_band : dict
        Granules whose check bits are not those of their data, and in which of them.
    """

    def __init__(self, config: Config, memory: np.ndarray | None = None, seed: int = 0):
        self.config = config
        if memory is None:
            memory = np.zeros(config.capacity_bytes, np.uint8)
        if memory.dtype != np.uint8 or memory.shape != (config.capacity_bytes,):
            raise ValueError(f"memory must be {config.capacity_bytes} bytes in a flat array")
        self.memory = memory
        self.clock = 0
        self.records: list[Record] = []
        self.faults: list[str] = []
        timing, org = config.dram_timing, config.dram
        self._read_latency, self._write_latency = timing.read_latency, timing.write_latency
        self._rows = [[_CLOSED] * org.bundle_banks for _ in range(org.bundles)]
        # (clock of the data, whether a bundle's) -> (bundle, bits or granules)
        self._reads: dict[tuple[int, bool], tuple[int, int]] = {}
        self._writes: dict[tuple[int, bool], tuple[int, list[int]]] = {}
        self.carrying: dict[bool, int] = {}
        self.side_band: dict[int, int] = {}
        self._garbage = random.Random(seed)

    @property
    def trace(self) -> np.ndarray:
        """The commands seen, as an array of :data:`~.trace.TRACE_DTYPE`."""
        return trace_of(self.records)

    @property
    def takes_bundle_wdata(self) -> bool:
        """Whether the coming :meth:`step` may read ``bundle_wdata``."""
        return not self._write_latency or (self.clock, True) in self._writes

    @property
    def takes_host_wdata(self) -> bool:
        """Whether the coming :meth:`step` may read ``host_wdata`` and ``host_wmask``."""
        return not self._write_latency or (self.clock, False) in self._writes

    def idle_reads(self) -> tuple[int, int]:
        """Garbage for (``bundle_rdata``, ``host_rdata``): what clock 0 starts with."""
        return self._noise(True), self._noise(False)

    def inject(self, granule: int, bit: int) -> None:
        """Invert a stored bit of a granule; above the data are its check bits."""
        check = self._check(granule)
        if bit < self.config.granule_bits:
            self.memory[granule * self.config.granule_bytes + bit // 8] ^= 1 << bit % 8
        else:
            check ^= 1 << bit - self.config.granule_bits
        if self.config.ecc:
            self._store_check(granule, check)

    def step(self, rows: Sequence[Slot] = (), columns: Sequence[Slot] = (), path: int = 0,
             bundle_wdata: int = 0, host_wdata: int = 0, host_wmask: int = 0) -> tuple[int, int]:
        """One logic clock; returns (``bundle_rdata``, ``host_rdata``) of the next one.

        ``rows`` and ``columns`` are the slots of the command clocks, in order.
        """
        clocks = range(2 * self.clock, 2 * self.clock + 2)
        for clock, slot in zip(clocks, rows, strict=False):
            if slot.command:
                self._row_command(clock, slot)
        for clock, slot in zip(clocks, columns, strict=False):
            if slot.command:
                self._column_command(clock, slot, path)
        for whole, bundle in self.carrying.items():
            self._switched(bundle, whole, path)
        if (self.clock, True) in self._writes:
            bundle, granules = self._writes.pop((self.clock, True))
            if self._switched(bundle, True, path):
                size, bits = self.config.granule_bytes, self.config.check_bits
                check, data = divmod(bundle_wdata, 1 << self.config.word_bits)
                data = data.to_bytes(self.config.word_bytes, "little")
                for lane, granule in enumerate(granules):
                    self._store(granule, data[lane * size:(lane + 1) * size])
                    self._store_check(granule, check >> lane * bits & (1 << bits) - 1)
        if (self.clock, False) in self._writes:
            bundle, granules = self._writes.pop((self.clock, False))
            if self._switched(bundle, False, path):
                check, data = divmod(host_wdata, 1 << self.config.granule_bits)
                data = data.to_bytes(self.config.granule_bytes, "little")
                if self.config.ecc and host_wmask + 1 != 1 << self.config.granule_bytes:
                    self._fault(2 * self.clock, "a masked write of a granule with check bits")
                for granule in granules:
                    self._store(granule, data, host_wmask)
                    self._store_check(granule, check)
        self.clock += 1
        self.carrying = {}
        return self._read(True), self._read(False)

    # -- commands ----------------------------------------------------------------------------

    def _row_command(self, clock: int, slot: Slot) -> None:
        command = self._record(clock, slot, "row")
        if command in (DramCommand.ACT, DramCommand.ALL_ACT, DramCommand.PART_ACT):
            self._set_rows(command, slot, slot.address)
        elif command in (DramCommand.PRE, DramCommand.ALL_PRE):
            self._set_rows(command, slot, _CLOSED)
        elif command not in (DramCommand.REFAB, DramCommand.REFPB):
            self._fault(clock, f"{command.name} on the row bus")

    def _set_rows(self, command: DramCommand, slot: Slot, row: int) -> None:
        bundle, lane = self._place(command, slot)
        if bundle is None:
            return
        lanes = range(self.config.dram.bundle_banks) if command.is_bundle else (lane,)
        if command is DramCommand.PART_ACT:
            lanes = lanes[slot.bank_group * self.config.dram.bank_groups:][
                :self.config.dram.bank_groups]
        for lane in lanes:
            self._rows[bundle][lane] = row

    def _column_command(self, clock: int, slot: Slot, path: int) -> None:
        command = self._record(clock, slot, "column")
        if not command.is_column:
            self._fault(clock, f"{command.name} on the column bus")
            return
        bundle, lane = self._place(command, slot)
        if bundle is None:
            return
        whole, org = command.is_bundle, self.config.dram
        read = command in (DramCommand.RD, DramCommand.ALL_RD)
        pipe = self._reads if read else self._writes
        due = self.clock + (self._read_latency if read else self._write_latency)
        rows = self._rows[bundle] if whole else self._rows[bundle][lane:lane + 1]
        what = f"{command.name} of bundle {bundle}"
        if _CLOSED in rows:
            self._fault(clock, f"{what} with a closed bank")
        elif path >> bundle & 1 != whole:
            self._fault(clock, f"{what} with path bit {1 - whole}")
        elif (due, whole) in pipe:
            self._fault(clock, f"{what} moves data together with the command before")
        else:
            granules = [((bundle * org.rows + row) * org.columns + slot.address)
                        * org.bundle_banks + (i if whole else lane) for i, row in enumerate(rows)]
            pipe[due, whole] = bundle, self._stored(granules) if read else granules

    def _place(self, command: DramCommand, slot: Slot) -> tuple[int | None, int]:
        """(bundle, lane) that a command addresses; None and a fault if there is no such."""
        org = self.config.dram
        if command.is_bundle:
            bundle, lane = slot.bank, 0
            fits = bundle // org.bundles_per_rank == slot.rank < org.ranks
            fits &= command is not DramCommand.PART_ACT or slot.bank_group < org.parts
        else:
            bundle, lane = org.lane_of(slot.rank, slot.bank_group, slot.bank)
            fits = (slot.rank < org.ranks and slot.bank_group < org.bank_groups
                    and slot.bank < org.banks_per_group)
        if not fits or slot.address >= (org.columns if command.is_column else org.rows):
            self._fault(2 * self.clock, f"{command.name} of something that is not there")
            return None, 0
        return bundle, lane

    def _record(self, clock: int, slot: Slot, field: str) -> DramCommand:
        try:
            command = DramCommand(slot.command)
        except ValueError:
            self._fault(clock, f"command code {slot.command}")
            return DramCommand.NOP
        self.records.append(Record(clock, command, slot.rank, slot.bank_group, slot.bank,
                                   **{field: slot.address}))
        return command

    def _fault(self, clock: int, text: str) -> None:
        self.faults.append(f"command clock {clock}: {text}")

    # -- data --------------------------------------------------------------------------------

    def _load(self, granule: int) -> bytes:
        size = self.config.granule_bytes
        return self.memory[granule * size:(granule + 1) * size].tobytes()

    def _store(self, granule: int, data: bytes, mask: int | None = None) -> None:
        size = self.config.granule_bytes
        cells = self.memory[granule * size:(granule + 1) * size]
        new = np.frombuffer(data, np.uint8)
        if mask is None:
            cells[:] = new
        else:
            enable = np.array([mask >> i & 1 for i in range(size)], bool)
            cells[enable] = new[enable]

    def _switched(self, bundle: int, whole: bool, path: int) -> bool:
        """Whether the bundle's switch points where its data goes; a fault if not."""
        if path >> bundle & 1 == whole:
            return True
        self._fault(2 * self.clock, f"data of bundle {bundle} with path bit {1 - whole}")
        return False

    def _read(self, whole: bool) -> int:
        """What a read data bus carries in the clock that begins."""
        if (self.clock, whole) not in self._reads:
            return self._noise(whole)
        self.carrying[whole], data = self._reads.pop((self.clock, whole))
        return data

    def _noise(self, whole: bool) -> int:
        """Garbage for a read data bus."""
        return self._garbage.getrandbits(
            (self.config.dram.bundle_banks if whole else 1) * self.config.stored_bits)

    def _stored(self, granules: list[int]) -> int:
        """What the bus carries of some granules: their data, above it their check bits."""
        value = int.from_bytes(b"".join(map(self._load, granules)), "little")
        at, bits = len(granules) * self.config.granule_bits, self.config.check_bits
        for lane, granule in enumerate(granules if bits else ()):
            value |= self._check(granule) << at + lane * bits
        return value

    def _encoded(self, granule: int) -> int:
        """The check bits that the code makes of a granule's data."""
        return int.from_bytes(encode(np.frombuffer(self._load(granule), np.uint8)), "little")

    def _check(self, granule: int) -> int:
        """The check bits of a granule, as stored."""
        if not self.config.ecc:
            return 0
        return self._encoded(granule) ^ self.side_band.get(granule, 0)

    def _store_check(self, granule: int, check: int) -> None:
        if self.config.ecc:
            wrong = check ^ self._encoded(granule)
            self.side_band.pop(granule, None)
            if wrong:
                self.side_band[granule] = wrong
