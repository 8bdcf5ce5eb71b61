# SPDX-License-Identifier: BSD-2-Clause
"""What commands with a placement policy share: ``--policy``, ``--costs``, and why it decided so."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from ..driver.decisions import Decision, Estimates
from ..llm.kinds import ModelConfig
from ..placement import SHARED
from ..placement.cost_table import CostTable
from ..placement.policy import Unit, time_of
from ..spec.config import Config

KEYS = """\
  costs                 where the policy's estimates of Logic-PIM are from: roofline, or table with
                        its file, digest, grid and sha256; those of the xPU are rooflines
  decisions             with --explain: phase, step, layer; each expert's tokens, where it ran, its
                        estimates xpu_s and pim_s; seconds of the layer, xpu_s, pim_s; why
"""


def add_policy_options(parser, default: str | None) -> None:
    """``--policy`` and ``--costs``."""
    parser.add_argument("--policy", choices=SHARED, default=default,
                        help="which experts run on Logic-PIM, asked for each layer; the others run "
                             "on the xPU, in numpy (docs/placement.md"
                             + (f"; default: {default}, all)" if default else ")"))
    parser.add_argument("--costs", type=Path, metavar="FILE",
                        help="a table of logicpim calibrate, of the same configuration: the policy "
                             "reckons with measured clocks of Logic-PIM instead of a roofline")


def read_costs(args) -> CostTable | None:
    """The table that ``--costs`` names."""
    return None if args.costs is None else CostTable.load(args.costs)


def estimates(config: Config, model: ModelConfig, table: CostTable | None,
              attention: bool = False, **more) -> Estimates:
    """What a policy is asked with; a table that lacks what is asked of it is refused here."""
    made = Estimates(config, model, table, **more)
    if model.experts:
        made.experts()
    if attention:
        made.attention(model.blocks[-1].attention, ()).pim(1, 1)
    return made


def costs_key(args, table: CostTable | None) -> dict:
    """The key ``costs`` of a result."""
    if table is None:
        return {"source": "roofline"}
    return {"source": "table", "file": str(args.costs), "digest": table.digest,
            "grid": table.values["made"]["grid"],
            "sha256": hashlib.sha256(args.costs.read_bytes()).hexdigest()}


def costs_line(key: dict) -> str:
    """The same for people."""
    if key["source"] == "roofline":
        return "estimates: rooflines of both processors (--costs FILE takes measured clocks)"
    return (f"estimates: Logic-PIM as measured in {key['file']} (grid {key['grid']}), "
            f"the xPU a roofline")


def decisions_key(decisions: Iterable[Decision]) -> list[dict]:
    """The key ``decisions`` of a result."""
    return [asdict(decision) for decision in decisions]


def show_decisions(decisions: Iterable[dict]) -> None:
    """For each step and layer: what went where, both estimates, the rule."""
    for d in decisions:
        print(f"\n{d['phase']} step {d['step']}, layer {d['layer']}, {d['what']}: about "
              f"{time_of(d['seconds'])}")
        for unit, busy in ((Unit.PIM, d["pim_s"]), (Unit.XPU, d["xpu_s"])):
            items = [i for i in d["items"] if i["where"] == unit]
            print(f"  {unit:9}  {time_of(busy):>8}  {_items(d['what'], items)}")
        print(f"  {d['why']}")


def _items(what: str, items: list[dict]) -> str:
    """Which, with how many tokens, and what each would take on either side; equal ones together."""
    alike: dict[tuple, list[dict]] = {}
    for item in items:
        alike.setdefault((item["tokens"], item.get("context")), []).append(item)
    texts = []
    for (tokens, context), same in alike.items():
        which = ", ".join(str(i["index"]) for i in same)
        if len(same) > 8:
            which = f"{len(same)} {'experts' if what == 'experts' else 'sequences'}"
        each = " each" * (len(same) > 1)
        texts.append(f"{which}: {tokens} token{'s' * (tokens > 1)}"
                     + (f" of {context}" if context is not None else "") + each
                     + f" (Logic-PIM {time_of(same[0]['pim_s'])}, xPU "
                       f"{time_of(same[0]['xpu_s'])})")
    return "; ".join(texts) or "-"
