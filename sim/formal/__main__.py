# SPDX-License-Identifier: BSD-2-Clause
"""Runs the proofs and prints what each shows: ``python -m logicpim.sim.formal [--only NAME]``."""

import argparse
import json
import sys
import warnings
from fnmatch import fnmatch

from amaranth.hdl import UnusedElaboratable

from logicpim.spec.errors import LogicPimError

from .catalogue import PROOFS
from .prove import LIMIT

COLUMNS = "{:<22} {:<10} {:<11} {:>7} {:<7} {} ({})"


def main(arguments=None) -> int:
    """Exit status: 0 if all pass, 1 if one does not, 2 for bad input or a missing tool."""
    parser = argparse.ArgumentParser(prog="python -m logicpim.sim.formal",
                                     description="Formal proofs about the gateware.")
    parser.add_argument("--only", metavar="NAME", action="append",
                        help="a proof, or a pattern such as 'handshake-*'; may be repeated")
    parser.add_argument("--limit", type=int, default=LIMIT, metavar="SECONDS",
                        help="after which a proof is given up (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="name the proofs and run none")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    given = parser.parse_args(arguments)
    chosen = [proof for name, proof in PROOFS.items()
              if not given.only or any(fnmatch(name, pattern) for pattern in given.only)]
    unmatched = [pattern for pattern in given.only or ()
                 if not any(fnmatch(name, pattern) for name in PROOFS)]
    if unmatched:
        return _refuse(f"no proof is called {unmatched[0]!r}; --list names them")
    if given.limit < 1:
        return _refuse(f"--limit must be at least 1 second, not {given.limit}")
    # What an abstraction takes the place of is made and rightly not used.
    warnings.filterwarnings("ignore", category=UnusedElaboratable)
    table = sys.stderr if given.json else sys.stdout
    rows = []
    print(COLUMNS.format("name", "engine", "reach", "seconds", "result", "property", "of"),
          file=table)
    for proof in chosen:
        row = {"name": proof.name, "property": proof.shows, "module": proof.module,
               "engine": proof.engine, "reach": proof.reach}
        if not given.list:
            try:
                outcome = proof.run(given.limit)
            except LogicPimError as error:
                return _refuse(str(error))
            row |= {"seconds": round(outcome.seconds, 1), "result": outcome.status}
        print(COLUMNS.format(row["name"], row["engine"], row["reach"], row.get("seconds", "-"),
                             row.get("result", "-"), row["property"], row["module"]),
              file=table, flush=True)
        rows.append(row)
    passed = all(row.get("result", "PASS") == "PASS" for row in rows)
    if given.json:
        print(json.dumps({"proofs": rows, "passed": passed}))
    return 0 if passed else 1


def _refuse(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
