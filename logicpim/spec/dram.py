# SPDX-License-Identifier: BSD-2-Clause
"""DRAM as data: commands, organisation, timing rows with their sources, address arithmetic.

A *standard* is a table of :class:`TimingRow`; nothing here has behaviour beyond looking a
value up and turning clocks of the command bus (nCK) into clocks of the logic die.
"""

import enum
from dataclasses import dataclass, field, replace

from .errors import ConfigError


class DramCommand(enum.IntEnum):
    """Commands of the DRAM bus. Row commands and column commands have a bus of their own.

    The ``ALL_`` commands address one *bank bundle* (8 of 16 banks of a rank at the paper's
    point) with one command; their bus field ``bank`` carries the bundle's index in the channel.
    """

    NOP = 0
    ACT = 1
    PRE = 2
    REFAB = 3
    ALL_ACT = 4
    ALL_PRE = 5
    RD = 8
    WR = 9
    ALL_RD = 10
    ALL_WR = 11

    @property
    def is_column(self) -> bool:
        """Whether the command travels on the column bus."""
        return self >= DramCommand.RD

    @property
    def is_bundle(self) -> bool:
        """Whether the command addresses a whole bank bundle."""
        return self in (DramCommand.ALL_ACT, DramCommand.ALL_PRE,
                        DramCommand.ALL_RD, DramCommand.ALL_WR)


@dataclass(frozen=True)
class TimingRow:
    """One timing parameter: its value in nCK, its meaning, and where the value comes from."""

    nck: int
    meaning: str
    source: str


@dataclass(frozen=True)
class Timing:
    """A speed grade of a DRAM standard.

    Parameters
    ----------
    name : str
        Name used in configurations.
    mbps : int
        Data rate of a pin in Mb/s. Four bits cross a pin in one command clock (nCK), so the
        command clock runs at a quarter of it.
    rows : dict
        Parameter name (``nRCD`` and so on) to :class:`TimingRow`.
    """

    name: str
    mbps: int
    rows: dict[str, TimingRow] = field(hash=False)

    #: Command-bus clocks in one clock of the logic die: 650 MHz is tCCD_S = 2 nCK.
    CK_PER_CLOCK = 2

    def __getattr__(self, name: str) -> int:
        try:
            return self.__dict__["rows"][name].nck
        except KeyError:
            raise AttributeError(f"timing {self.__dict__.get('name')} has no row {name}") from None

    @property
    def tck_ps(self) -> float:
        """Period of the command clock in ps."""
        return 4e6 / self.mbps

    def clocks(self, nck: int) -> int:
        """Logic clocks that are not shorter than ``nck`` command clocks."""
        return -(-nck // self.CK_PER_CLOCK)

    @property
    def read_latency(self) -> int:
        """Logic clocks from a column read command to the clock in which its data is valid."""
        return self.clocks(self.nCL + self.nBL)

    @property
    def write_latency(self) -> int:
        """Logic clocks from a column write command to the clock in which its data is taken."""
        return self.nCWL // self.CK_PER_CLOCK

    def with_overrides(self, overrides: dict[str, int]) -> "Timing":
        """The same grade with some rows replaced; the source then says so."""
        rows = dict(self.rows)
        for name, nck in overrides.items():
            if name not in rows:
                raise ConfigError(f"timing {self.name} has no row {name!r}; "
                                  f"rows are {', '.join(sorted(rows))}")
            if not isinstance(nck, int) or nck < 1:
                raise ConfigError(f"timing row {name} must be a whole number of nCK >= 1, "
                                  f"not {nck!r}")
            rows[name] = replace(rows[name], nck=nck, source="configuration override")
        return replace(self, rows=rows)


_SIM = ("HBM3_5.2Gbps preset of the authors' simulators "
        "(scale-snu/attacc_simulator HBM3-PIM.cpp, scale-snu/LLMSimulator HBM3.cpp)")
_ASSUMED = "assumed: "

HBM3_5200 = Timing("hbm3-5.2", 5200, {
    "nBL": TimingRow(2, "burst on the data bus", _SIM),
    "nCL": TimingRow(19, "read command to first data", _SIM),
    "nCWL": TimingRow(6, "write command to first data", _SIM),
    "nRCDRD": TimingRow(19, "activate to read, same bank", _SIM),
    "nRCDWR": TimingRow(19, "activate to write, same bank", _SIM),
    "nRP": TimingRow(19, "precharge to activate, same bank", _SIM),
    "nRAS": TimingRow(45, "activate to precharge, same bank", _SIM),
    "nRC": TimingRow(63, "activate to activate, same bank", _SIM),
    "nWR": TimingRow(21, "end of write data to precharge, same bank", _SIM),
    "nRTPS": TimingRow(6, "read to precharge, another bank group's read", _SIM),
    "nRTPL": TimingRow(8, "read to precharge, same bank", _SIM),
    "nCCDS": TimingRow(2, "column to column, another bank group", _SIM),
    "nCCDL": TimingRow(4, "column to column, same bank group", _SIM),
    "nRRDS": TimingRow(2, "activate to activate, another bank group", _SIM),
    "nRRDL": TimingRow(4, "activate to activate, same bank group", _SIM),
    "nFAW": TimingRow(39, "window of at most four activates, one rank", _SIM),
    "nWTRS": TimingRow(8, "end of write data to read, another bank group", _SIM),
    "nWTRL": TimingRow(11, "end of write data to read, same bank group", _SIM),
    "nRTW": TimingRow(3, "extra bus turnaround, read to write", _SIM),
    "nRFC": TimingRow(455, "all-bank refresh to next command, 8 Gb per channel (350 ns)", _SIM),
    "nREFI": TimingRow(5070, "mean distance of all-bank refreshes (3.9 us)", _SIM),
    "nREFMAX": TimingRow(9 * 5070, "longest distance of all-bank refreshes",
                         _ASSUMED + "eight may be postponed, as in JEDEC DDR4 and HBM2"),
})

TIMINGS = {HBM3_5200.name: HBM3_5200}


@dataclass(frozen=True, kw_only=True)
class Organisation:
    """Shape of one pseudo channel: ranks, bank groups, banks, rows, columns.

    Parameters
    ----------
    ranks, bank_groups, banks_per_group, rows, columns : int
        Counts; all powers of two. ``columns`` counts accesses of one granule (the bits that a
        bank delivers at once) in a row.
    bundle_banks : int
        Banks driven by one ``ALL_`` command; spread evenly over the bank groups of a rank.
    """

    ranks: int = 2
    bank_groups: int = 4
    banks_per_group: int = 4
    rows: int = 16384
    columns: int = 32
    bundle_banks: int = 8

    @property
    def banks_per_rank(self) -> int:
        return self.bank_groups * self.banks_per_group

    @property
    def bundles_per_rank(self) -> int:
        return self.banks_per_rank // self.bundle_banks

    @property
    def bundles(self) -> int:
        """Bank bundles in the channel: the number of memory spaces."""
        return self.ranks * self.bundles_per_rank

    @property
    def words_per_bundle(self) -> int:
        """Bundle words (one granule from each bank of the bundle) in one bundle."""
        return self.rows * self.columns

    @property
    def words(self) -> int:
        return self.bundles * self.words_per_bundle

    @property
    def granules(self) -> int:
        return self.words * self.bundle_banks

    def check(self) -> None:
        """Refuse an organisation that the address arithmetic cannot serve."""
        for name in ("ranks", "bank_groups", "banks_per_group", "rows", "columns",
                     "bundle_banks"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1 or value & (value - 1):
                raise ConfigError(f"dram.{name} must be a power of two, not {value!r}")
        if self.bundle_banks % self.bank_groups:
            raise ConfigError(f"dram.bundle_banks {self.bundle_banks} must be a multiple of "
                              f"dram.bank_groups {self.bank_groups}: a bundle takes the same "
                              f"number of banks from every group")
        if self.bundle_banks > self.banks_per_rank:
            raise ConfigError(f"dram.bundle_banks {self.bundle_banks} exceeds the "
                              f"{self.banks_per_rank} banks of a rank")

    def bank_of(self, bundle: int, lane: int) -> tuple[int, int, int]:
        """(rank, bank group, bank) of lane ``lane`` of a bundle.

        Consecutive granules go to consecutive bank groups first, then to the next bank of the
        group, as in the authors' simulator (mmap_controller.cpp).
        """
        rank, high = divmod(bundle, self.bundles_per_rank)
        low, group = divmod(lane, self.bank_groups)
        per_group = self.bundle_banks // self.bank_groups
        return rank, group, high * per_group + low

    def lane_of(self, rank: int, group: int, bank: int) -> tuple[int, int]:
        """(bundle, lane) of a bank: the inverse of :meth:`bank_of`."""
        per_group = self.bundle_banks // self.bank_groups
        high, low = divmod(bank, per_group)
        return rank * self.bundles_per_rank + high, low * self.bank_groups + group

    def locate(self, granule: int) -> tuple[int, int, int, int]:
        """(bundle, row, column, lane) of a granule address.

        A granule address reads, from its top: bundle, row, column, lane. So a memory space is
        one contiguous range and a bundle word is ``bundle_banks`` consecutive granules.
        """
        word, lane = divmod(granule, self.bundle_banks)
        rest, column = divmod(word, self.columns)
        bundle, row = divmod(rest, self.rows)
        return bundle, row, column, lane
