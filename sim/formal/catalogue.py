# SPDX-License-Identifier: BSD-2-Clause
"""Every proof by name: what it shows about what, how far, and at which reduced parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from amaranth.lib.wiring import Component

from logicpim.rtl.control.dispatcher import Collector, Dispatcher
from logicpim.rtl.control.executor import OperationExecutor
from logicpim.rtl.control.function_slot import FunctionSlot
from logicpim.rtl.control.host import HostPort
from logicpim.rtl.control.stack_controller import StackController
from logicpim.rtl.host.bridge import AxiBridge
from logicpim.rtl.stack import StackChannel
from logicpim.spec.config import Config, Tile
from logicpim.spec.dram import DramCommand, Organisation
from logicpim.spec.presets import PRESETS

from .controller import ControllerProof, ControllerReach, short_queues
from .handshake import UNITS, handshake
from .ownership import HostContract, SchedulerProof
from .prove import ENGINES, LIMIT, Outcome, run
from .refresh import RefreshProof
from .timers import BankProof, PathProof, RankProof
from .tsv import CreditProof, ReadProof, WriteProof, narrow

SHORT = {"nRCDRD": 3, "nRCDWR": 2, "nRP": 5, "nRAS": 5, "nRC": 13, "nWR": 2, "nRTPS": 2, "nRTPL": 5,
         "nCL": 3, "nCWL": 2, "nBL": 2, "nCCDS": 2, "nCCDL": 4, "nWTRS": 1, "nWTRL": 2, "nRTW": 1,
         "nRRDS": 2, "nRRDL": 3, "nFAW": 9, "nRREFD": 4, "nRFCSB": 9, "nRFC": 12,
         "nREFI": 112, "nREFMAX": 9 * 112}
"""Timing rows at which the proofs are made, in nCK: as small as they are different."""

WIDE = {"nFAW": 20}
"""Where a fifth activate has to wait for the window: with nFAW 9 nRRDL alone keeps it away."""

LATE = {"nCL": 13}
"""Where a bundle closed after a read has to wait for the data: with nCL 3 that came before."""

FEW = {"tile": Tile(tokens=2, rows=2, depth=4, groups=2),
       "dram": Organisation(ranks=1, bank_groups=2, banks_per_group=2, rows=2, columns=2,
                            bundle_banks=2)}
PARTS = {"tile": Tile(tokens=2, rows=4, depth=4, groups=2),
         "dram": Organisation(ranks=1, bank_groups=2, banks_per_group=4, rows=2, columns=2,
                              bundle_banks=4)}


def reduced(shape=FEW, rows=None, **changes) -> Config:
    """Four banks in two bundles (``FEW``), or eight in two of two parts each (``PARTS``)."""
    return PRESETS["small"].replace(timing_overrides={**SHORT, **(rows or {})}, word_fifo=4,
                                    host_burst=1, **shape, **changes)


@dataclass(frozen=True)
class Proof:
    """One run of the prover.

    Parameters
    ----------
    name : str
    shows : str
        The property, in words.
    module : str
        Of what.
    top : callable
        Makes the component to be proved.
    mode : str
        As of :func:`~.prove.run`.
    depth : int or None
        Clocks; None where the proof is for all time.
    """

    name: str
    shows: str
    module: str
    top: Callable[[], Component]
    mode: str = "prove"
    depth: int | None = None

    @property
    def engine(self) -> str:
        return ENGINES[self.mode]

    @property
    def reach(self) -> str:
        """How far it goes, for a table."""
        return f"{self.depth} clocks" if self.depth else "unbounded"

    def run(self, limit: int = LIMIT) -> Outcome:
        with short_queues():
            return run(self.top(), self.mode, depth=self.depth, limit=limit)


REFRESH = {"nRFCSB": 1, "nRREFD": 1, "nRAS": 1, "nRP": 1, "nREFI": 48, "nREFMAX": 9 * 48}
"""Refresh as often as the configuration allows, so that nine nREFI fit into a bounded proof."""

COMMANDS = {"host": (DramCommand.ACT, DramCommand.RD, DramCommand.WR, DramCommand.PRE),
            "stream": (DramCommand.PART_ACT, DramCommand.ALL_RD, DramCommand.ALL_WR,
                       DramCommand.ALL_PRE),
            "refresh": (DramCommand.REFPB,)}


def _controller() -> list[Proof]:
    whole = {
        "rank": "distances of activates and refreshes of a rank",
        "column": "distances of column commands, both data buses",
        "window": "at most four activates in any nFAW",
        "form": "legal codes and addresses, a command on its bus"}
    owned = {
        "bank": "distances at one bank",
        "state": "rows open and closed in turn, by their owner; one row in a bundle",
        "path": "the path switches only while a bundle is idle; data over its own path"}
    proofs = [Proof(f"controller-{rule}", shows, "DramController",
                    partial(lambda rule: ControllerProof(reduced(PARTS, WIDE), [rule]), rule))
              for rule, shows in whole.items()]
    for rule, shows in owned.items():
        for name, shape, of in ((f"scheduler-{rule}", FEW, shows),
                                (f"scheduler-{rule}-parts", PARTS,
                                 "the same, bundles of two parts")):
            config = reduced(shape, LATE if rule == "path" else None)
            proofs.append(Proof(
                name, of, "Scheduler, any host agent",
                partial(lambda config, rule: SchedulerProof(config, [rule]), config, rule)))
    return [
        *proofs,
        Proof("scheduler-at-once", "all these, bundles activated at once",
              "Scheduler, any host agent",
              lambda: SchedulerProof(reduced(stagger=False), ["bank", "state", "path"])),
        Proof("scheduler-all-bank", "all these and distances of a rank, refreshed as a whole",
              "Scheduler, any host agent",
              lambda: SchedulerProof(reduced(refresh_kind="all"),
                                     ["bank", "state", "path", "rank"])),
        Proof("host-contract", "commands only to bundles it was granted, as timers allow",
              "HostAgent", lambda: HostContract(reduced())),
        Proof("controller-bounded", "all rules of the bus", "DramController",
              lambda: ControllerProof(reduced(), ["bank", "rank", "column", "state", "path"]),
              "bmc", 18),
        *(Proof(f"controller-reach-{of}", "can happen: " + ", ".join(c.name for c in commands),
                "DramController", partial(lambda c: ControllerReach(reduced(), c), commands),
                "reach", 18) for of, commands in COMMANDS.items()),
    ]


def _timers() -> list[Proof]:
    return [
        Proof("timers-bank", "distances at one bank", "BankTimers",
              lambda: BankProof(reduced(PARTS))),
        Proof("timers-rank", "activates and refreshes of a rank, with nFAW", "RankTimers",
              lambda: RankProof(reduced(PARTS))),
        *(Proof(f"timers-path-{name}", "column commands of a path", "PathTimers",
                partial(lambda host: PathProof(reduced(PARTS), host=host), host))
          for name, host in (("host", True), ("bundle", False)))]


def _data() -> list[Proof]:
    return [
        Proof("tsv-read", "each word read leaves as its two beats, once, in order, soon",
              "TsvInterface", lambda: ReadProof(narrow(reduced()))),
        Proof("tsv-write", "each word written is on the bus with its strobe, once, in order",
              "TsvInterface", lambda: WriteProof(narrow(reduced()))),
        Proof("credit", "no read without room, no write unannounced, two clocks apart",
              "BundleAgent, PathTimers", lambda: CreditProof(reduced())),
        Proof("refresh", "at most eight refreshes of a bank owed, nREFMAX kept", "BankRefresh",
              lambda: RefreshProof(reduced(rows=REFRESH), grant=3, serve=3), "bmc", 250)]


BOUNDED = {FunctionSlot: ("bmc", 24), AxiBridge: ("bmc", 16)}
"""Components with too much state for a proof for all time."""


STACKED = (Dispatcher, Collector, StackController, StackChannel)
"""Components of a stack alone."""


def shape(unit) -> Config:
    """With which the proof of a component's streams is made.

    That of the executor ends without the slot for functions, which has its own; a stack has two
    channels.
    """
    if unit in STACKED:
        return reduced(stack=True, channels=2)
    return reduced(functions=False) if unit is OperationExecutor else reduced()


PROOFS = {proof.name: proof for proof in (
    *_timers(), *_controller(), *_data(),
    *(Proof(f"handshake-{unit.__name__}", "valid holds and the payload stays until taken",
            unit.__name__, partial(lambda unit: handshake(unit, shape(unit)), unit),
            *BOUNDED.get(unit, ()))
      for unit in UNITS),
    Proof("handshake-OperationExecutor-functions", "the same with the slot for functions",
          "OperationExecutor", lambda: handshake(OperationExecutor, reduced()), "bmc", 24),
    Proof("handshake-HostPort-refuse", "the same where accesses to owned bundles are refused",
          "HostPort", lambda: handshake(HostPort, reduced(ownership="refuse"))))}
"""All proofs by name, in the order in which they are run."""
