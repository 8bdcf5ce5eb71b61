# SPDX-License-Identifier: BSD-2-Clause
"""The timing constraints of the DRAM bus as data; :mod:`.checker` judges traces by them.

A bundle command stands for the same command on each bank of its bundle. Inside one bundle
command the accesses are simultaneous by design (Duplex, section IV-C: one command and address
for the bundle), so nothing is judged there. Between a bundle command and another command a
constraint holds if it holds for some pair of their banks. A ``PART_ACT`` is no such exception:
it is judged as the ordinary activates it stands for, nRRDS apart.

``ALL_RD`` and ``ALL_WR`` move their data over the added TSVs, ``RD`` and ``WR`` over the
ordinary ones, and switches between the bank I/Os separate the two paths, so that the xPU may read
one bundle while Logic-PIM reads another (Duplex, section IV-C). So what the banks of a group
share, their I/O, is shared within a path only: column spacing (nCCDS, nCCDL) and write-to-read
turnaround (nWTRS, nWTRL) bind commands of one path, and of both paths on one bank alone. This
reading of the paper is an assumption, and these rows are where it stands.
"""

import enum
import re
from dataclasses import dataclass

from logicpim.spec.dram import DramCommand, Timing

ACT = (DramCommand.ACT, DramCommand.ALL_ACT)
PRE = (DramCommand.PRE, DramCommand.ALL_PRE)
RD, WR = (DramCommand.RD, DramCommand.ALL_RD), (DramCommand.WR, DramCommand.ALL_WR)
HOST, BUNDLE = (RD[0], WR[0]), (RD[1], WR[1])
REFAB, REFPB = (DramCommand.REFAB,), (DramCommand.REFPB,)
COLUMN = RD + WR
BANKED = ACT + PRE + REFPB + COLUMN


class Scope(enum.Enum):
    """Where two commands must meet for a constraint to bind them."""

    BANK = "same bank"
    GROUP = "same bank group"
    OTHER_GROUP = "another bank group of the same rank"
    RANK = "same rank"
    CHANNEL = "same channel"


@dataclass(frozen=True)
class Constraint:
    """No ``next`` command sooner than ``nck`` after a ``first`` command in the same ``scope``.

    Parameters
    ----------
    name : str
        What a violation is called.
    first, next : tuple of DramCommand
    scope : Scope
    nck : str
        Sum of timing rows and numbers, as ``"nCWL + nBL + nWR"``.
    meaning : str
    window : int
        Of how many ``first`` commands before ``next`` the oldest counts; 1 is the last one.
    """

    name: str
    first: tuple[DramCommand, ...]
    next: tuple[DramCommand, ...]
    scope: Scope
    nck: str
    meaning: str
    window: int = 1

    def required(self, timing: Timing) -> int:
        """The distance in nCK; nothing is required where it is not positive."""
        total = 0
        for sign, term in re.findall(r"([+-]?)\s*(\w+)", self.nck):
            value = int(term) if term.isdecimal() else getattr(timing, term)
            total += -value if sign == "-" else value
        return total

    @property
    def rows(self) -> set[str]:
        """The timing rows that the formula reads."""
        return set(re.findall(r"n[A-Z]\w*", self.nck))


_WR_END = "nCWL + nBL + "
_TURN = "nCL + nBL + nRTW - nCWL"

CONSTRAINTS = (
    # One bank: a row is opened, used and closed.
    Constraint("nRC", ACT, ACT, Scope.BANK, "nRC", "activate to activate"),
    Constraint("nRCDRD", ACT, RD, Scope.BANK, "nRCDRD", "activate to read"),
    Constraint("nRCDWR", ACT, WR, Scope.BANK, "nRCDWR", "activate to write"),
    Constraint("nRAS", ACT, PRE, Scope.BANK, "nRAS", "activate to precharge"),
    Constraint("nRP", PRE, ACT, Scope.BANK, "nRP", "precharge to activate"),
    Constraint("nRTPL", RD, PRE, Scope.BANK, "nRTPL", "read to precharge"),
    Constraint("nWR", WR, PRE, Scope.BANK, _WR_END + "nWR", "write recovery to precharge"),
    # Between banks: current, and the circuits that the banks of a group share.
    Constraint("nRRDL", ACT, ACT, Scope.GROUP, "nRRDL", "activate to activate"),
    Constraint("nRRDS", ACT, ACT, Scope.OTHER_GROUP, "nRRDS", "activate to activate"),
    Constraint("nCCDL", COLUMN, COLUMN, Scope.BANK, "nCCDL", "column to column, either path"),
    Constraint("nWTRL", WR, RD, Scope.BANK, _WR_END + "nWTRL", "write to read, either path"),
    *(row for path, name in ((HOST, "xPU path"), (BUNDLE, "Logic-PIM path")) for row in (
        Constraint("nCCDL", path, path, Scope.GROUP, "nCCDL", f"column to column, {name}"),
        Constraint("nCCDS", path, path, Scope.OTHER_GROUP, "nCCDS", f"column to column, {name}"),
        Constraint("nWTRL", path[1:], path[:1], Scope.GROUP, _WR_END + "nWTRL",
                   f"write to read, {name}"),
        Constraint("nWTRS", path[1:], path[:1], Scope.OTHER_GROUP, _WR_END + "nWTRS",
                   f"write to read, {name}"))),
    # The data buses, one a path. The added TSVs carry half a bundle word each nCCDS.
    Constraint("host bus RD-RD", RD[:1], RD[:1], Scope.CHANNEL, "nBL", "data of two reads"),
    Constraint("host bus WR-WR", WR[:1], WR[:1], Scope.CHANNEL, "nBL", "data of two writes"),
    Constraint("host bus RD-WR", RD[:1], WR[:1], Scope.CHANNEL, _TURN, "turnaround to write"),
    Constraint("host bus WR-RD", WR[:1], RD[:1], Scope.CHANNEL, "nCWL + nBL - nCL",
               "turnaround to read"),
    Constraint("bundle bus RD-RD", RD[1:], RD[1:], Scope.CHANNEL, "nCCDL", "data of two reads"),
    Constraint("bundle bus WR-WR", WR[1:], WR[1:], Scope.CHANNEL, "nCCDL", "data of two writes"),
    Constraint("bundle bus RD-WR", RD[1:], WR[1:], Scope.CHANNEL, _TURN, "turnaround to write"),
    Constraint("bundle bus WR-RD", WR[1:], RD[1:], Scope.CHANNEL, "nCWL + nBL - nCL",
               "turnaround to read"),
    # Refresh of all banks of a rank.
    Constraint("ACT-REFAB", ACT, REFAB, Scope.RANK, "nRC", "activate to refresh"),
    Constraint("PRE-REFAB", PRE, REFAB, Scope.RANK, "nRP", "precharge to refresh"),
    Constraint("nRFC", REFAB, BANKED + REFAB, Scope.RANK, "nRFC", "refresh to any command"),
    # Refresh of one bank: like an activate of it, which others must keep away from.
    Constraint("ACT-REFPB", ACT, REFPB, Scope.BANK, "nRC", "activate to refresh"),
    Constraint("PRE-REFPB", PRE, REFPB, Scope.BANK, "nRP", "precharge to refresh"),
    Constraint("nRFCSB", REFPB, BANKED, Scope.BANK, "nRFCSB", "refresh to any command"),
    Constraint("REFPB-REFAB", REFPB, REFAB, Scope.RANK, "nRFCSB", "refresh to refresh of all"),
    Constraint("nRREFD", REFPB, REFPB + ACT, Scope.RANK, "nRREFD", "refresh to refresh, activate"),
    Constraint("nRRDL", ACT, REFPB, Scope.GROUP, "nRRDL", "activate to refresh"),
    Constraint("nRRDS", ACT, REFPB, Scope.OTHER_GROUP, "nRRDS", "activate to refresh"),
)
"""All pairwise constraints, in the manner of a device table. ``nRTPS`` is not among them: it
limits a precharge of all banks, a command this bus does not have."""

FAW = Constraint("nFAW", ACT, ACT, Scope.RANK, "nFAW", "fifth activate in a window", window=4)
"""At most four activates of a rank in any nFAW. An ALL_ACT counts as activates of all its banks
if the configuration staggers; else, as in the paper, as none."""

RULES = {
    "unknown command": "the code is not a command",
    "address": "a field is out of range, or a bundle is named with another's rank",
    "row bus": "one row command in a command clock",
    "column bus": "one column command in a command clock",
    "ACT on open bank": "an open row is closed before the next is opened",
    "column on closed bank": "a read or write needs an open row in each of its banks",
    "REFAB on open bank": "every bank of the rank is closed before a refresh",
    "REFPB on open bank": "a bank is closed before its refresh",
    "nREFMAX": "longest distance of refreshes of a bank, from the start and to the end too",
    "nREFI": "refreshes of a bank since the start: one each nREFI, at most eight postponed",
}
"""What is judged besides distances. Precharging a closed bank is allowed: it does nothing."""

POSTPONED = 8
"""Refreshes of a bank that may be owed at any time, or be ahead of time and still count. A REFAB
refreshes each bank of its rank as a REFPB refreshes one; a bank needs one each nREFI, so that
REFPBs follow each other at nREFI / banks (3.9 us / 16 = 244 ns, the nREFISB of the authors' HBM3
presets). JEDEC DDR4 and HBM2 allow eight to be postponed or pulled in."""
