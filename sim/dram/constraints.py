# SPDX-License-Identifier: BSD-2-Clause
"""The timing constraints of the DRAM bus as data; :mod:`.checker` judges traces by them.

A bundle command stands for the same command on each bank of its bundle. Inside one bundle
command the accesses are simultaneous by design (Duplex, section IV-C: one command and address
for the bundle), so nothing is judged there. Between a bundle command and another command a
constraint holds if it holds for some pair of their banks.

``ALL_RD`` and ``ALL_WR`` move their data over the added TSVs, ``RD`` and ``WR`` over the
ordinary ones: conflicts on the data bus arise within one path only, column spacing and
write-to-read turnaround inside the DRAM across both.
"""

import enum
import re
from dataclasses import dataclass

from logicpim.spec.dram import DramCommand, Timing

ACT, PRE = (DramCommand.ACT, DramCommand.ALL_ACT), (DramCommand.PRE, DramCommand.ALL_PRE)
RD, WR = (DramCommand.RD, DramCommand.ALL_RD), (DramCommand.WR, DramCommand.ALL_WR)
REFAB = (DramCommand.REFAB,)
COLUMN = RD + WR
ANY = ACT + PRE + REFAB + COLUMN


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
    Constraint("nCCDL", COLUMN, COLUMN, Scope.GROUP, "nCCDL", "column to column"),
    Constraint("nCCDS", COLUMN, COLUMN, Scope.OTHER_GROUP, "nCCDS", "column to column"),
    Constraint("nWTRL", WR, RD, Scope.GROUP, _WR_END + "nWTRL", "write to read"),
    Constraint("nWTRS", WR, RD, Scope.OTHER_GROUP, _WR_END + "nWTRS", "write to read"),
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
    Constraint("nRFC", REFAB, ANY, Scope.RANK, "nRFC", "refresh to any command"),
)
"""All pairwise constraints, in the manner of a device table. ``nRTPS`` is not among them: it
limits a precharge of all banks, a command this bus does not have."""

FAW = Constraint("nFAW", ACT, ACT, Scope.RANK, "nFAW", "fifth activate in a window", window=4)
"""At most four activates of a rank in any nFAW. Activates of a bundle count only on request:
the paper gives them no stagger."""

RULES = {
    "unknown command": "the code is not a command",
    "address": "a field is out of range, or a bundle is named with another's rank",
    "row bus": "one row command in a command clock",
    "column bus": "one column command in a command clock",
    "ACT on open bank": "an open row is closed before the next is opened",
    "column on closed bank": "a read or write needs an open row in each of its banks",
    "REFAB on open bank": "every bank of the rank is closed before a refresh",
    "nREFMAX": "longest distance of refreshes, counted from the start and to the end too",
    "nREFI": "refreshes since the start, of which at most eight may be postponed",
}
"""What is judged besides distances. Precharging a closed bank is allowed: it does nothing."""

POSTPONED = 8
"""Refreshes that may be owed at any time."""
