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
    ``PART_ACT`` activates a *part* of a bundle, its bank ``bank_group`` of each bank group (that
    field carries the part): group ``g`` is activated ``g * nRRDS`` after the command.
    """

    NOP = 0
    ACT = 1
    PRE = 2
    REFAB = 3
    ALL_ACT = 4
    ALL_PRE = 5
    PART_ACT = 6
    REFPB = 7
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
        return self in (DramCommand.ALL_ACT, DramCommand.ALL_PRE, DramCommand.PART_ACT,
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
        Data rate of a pin in Mb/s.
    rows : dict
        Parameter name (``nRCD`` and so on) to :class:`TimingRow`.
    bits_per_ck : int
        Bits that cross a pin in one command clock (nCK): four in HBM3, two in HBM2.
    """

    name: str
    mbps: int
    rows: dict[str, TimingRow] = field(hash=False)
    bits_per_ck: int = 4

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
        return self.bits_per_ck * 1e6 / self.mbps

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
    "nRFCSB": TimingRow(260, "refresh of one bank to next command, same bank (200 ns)", _SIM),
    "nRREFD": TimingRow(11, "refresh of one bank to that of another, or to activate", _SIM),
    "nREFI": TimingRow(5070, "mean distance of the refreshes of a bank (3.9 us)", _SIM),
    "nREFMAX": TimingRow(9 * 5070, "longest distance of the refreshes of a bank",
                         _ASSUMED + "eight may be postponed, as in JEDEC DDR4 and HBM2"),
})

_SCALED = _ASSUMED + "the time in ns of the hbm3-5.2 grade"


def _faster(name: str, mbps: int, source: str, **nck: int) -> Timing:
    """An HBM3 grade: ``nck`` as its source has them, counts of clocks as they are, the rest by
    the time in ns that the grade of 5.2 Gb/s has."""
    kept = ("nBL", "nCCDS", "nCCDL", "nRRDS", "nRRDL")
    rows = {}
    for row, known in HBM3_5200.rows.items():
        if row in nck:
            rows[row] = TimingRow(nck[row], known.meaning, source)
        elif row in kept:
            rows[row] = TimingRow(known.nck, known.meaning, source)
        elif row == "nREFMAX":
            rows[row] = replace(known, nck=9 * nck["nREFI"])
        else:
            rows[row] = TimingRow(-(-known.nck * mbps // 5200), known.meaning, _SCALED)
    return Timing(name, mbps, rows)


_ATTACC = "HBM3 6.4 Gb/s preset of scale-snu/attacc_simulator (HBM3-PIM.cpp)"
_LLMSIM = "HBM3 8.0 and 9.6 Gb/s presets of scale-snu/LLMSimulator (HBM3.cpp)"
HBM3_6400 = _faster("hbm3-6.4", 6400, _ATTACC, nCL=23, nRCDRD=23, nRCDWR=23, nRP=23, nRAS=55,
                    nRC=77, nWR=26, nFAW=48, nRFCSB=320, nREFI=6240)
HBM3E_8000 = _faster("hbm3e-8.0", 8000, _LLMSIM, nCL=28, nRCDRD=28, nRCDWR=28, nRP=28, nRAS=68,
                     nRC=96, nWR=32, nFAW=60, nRFCSB=400, nREFI=7800)
HBM3E_9600 = _faster("hbm3e-9.6", 9600, _LLMSIM, nCL=34, nRCDRD=34, nRCDWR=34, nRP=34, nRAS=82,
                     nRC=116, nWR=39, nFAW=72, nRFCSB=480, nREFI=9360)

_PIMSIM = "HBM2 2 Gb/s of SAITPublic/PIMSimulator, as facts; tCK 1 ns"
HBM2_2000 = Timing("hbm2-2.0", 2000, {
    name: TimingRow(nck, HBM3_5200.rows[name].meaning, source) for name, nck, source in (
        ("nBL", 2, _PIMSIM), ("nCL", 20, _PIMSIM), ("nCWL", 8, _PIMSIM),
        ("nRCDRD", 14, _PIMSIM), ("nRCDWR", 10, _PIMSIM), ("nRP", 14, _PIMSIM),
        ("nRAS", 33, _PIMSIM), ("nRC", 47, _PIMSIM), ("nWR", 16, _PIMSIM),
        ("nRTPS", 4, _PIMSIM), ("nRTPL", 5, _PIMSIM), ("nCCDS", 2, _PIMSIM),
        ("nCCDL", 4, _PIMSIM), ("nRRDS", 4, _PIMSIM), ("nRRDL", 6, _PIMSIM),
        ("nFAW", 16, _PIMSIM), ("nWTRS", 4, _PIMSIM), ("nWTRL", 9, _PIMSIM),
        ("nRTW", 3, _ASSUMED + "as in hbm3-5.2"), ("nRFC", 350, _PIMSIM),
        ("nRFCSB", 160, _PIMSIM), ("nRREFD", 8, "HBM 2 Gb/s of Ramulator 1 (HBM.h)"),
        ("nREFI", 3900, _PIMSIM),
        ("nREFMAX", 9 * 3900, _ASSUMED + "eight may be postponed, as in JEDEC DDR4 and HBM2"))
}, bits_per_ck=2)

_LOGIC = "block RAM and the registers around it (rtl/dram/block_ram.py), two nCK a clock"
BRAM = Timing("bram", 400, {
    name: TimingRow(nck, HBM3_5200.rows[name].meaning, source) for name, nck, source in (
        ("nBL", 2, _LOGIC), ("nCL", 4, _LOGIC), ("nCWL", 4, _LOGIC),
        ("nRCDRD", 2, _LOGIC), ("nRCDWR", 2, _LOGIC), ("nRP", 2, _LOGIC),
        ("nRAS", 4, _LOGIC), ("nRC", 6, _LOGIC), ("nWR", 2, _LOGIC),
        ("nRTPS", 2, _LOGIC), ("nRTPL", 2, _LOGIC),
        ("nCCDS", 2, "a granule a clock, as in HBM3"),
        ("nCCDL", 4, "a bundle word each two clocks, as in HBM3"),
        ("nRRDS", 2, _LOGIC), ("nRRDL", 2, _LOGIC), ("nFAW", 8, _LOGIC),
        ("nWTRS", 2, _LOGIC), ("nWTRL", 2, _LOGIC), ("nRTW", 2, _LOGIC),
        ("nRFC", 16, _ASSUMED + "short: nothing needs it, the controller does it all the same"),
        ("nRFCSB", 8, _ASSUMED + "as nRFC"), ("nRREFD", 4, _ASSUMED + "as nRFC"),
        ("nREFI", 3120, _ASSUMED + "3.9 us at 400 MHz of nCK, as in the others by count"),
        ("nREFMAX", 9 * 3120, _ASSUMED + "as in hbm3-5.2"))
})
"""Block RAM of an FPGA that answers the commands of a DRAM; at 50 MHz, but counts are what binds.
"""

TIMINGS = {t.name: t for t in (HBM3_5200, HBM3_6400, HBM3E_8000, HBM3E_9600, HBM2_2000, BRAM)}


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
    def parts(self) -> int:
        """Parts of a bundle: one bank of each group, activated or refreshed together."""
        return self.bundle_banks // self.bank_groups

    def stagger_of(self, timing: Timing) -> int:
        """nCK from the first to the last activate of a bundle, its parts nFAW apart."""
        return (self.parts - 1) * timing.nFAW + (self.bank_groups - 1) * timing.nRRDS

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
