# SPDX-License-Identifier: BSD-2-Clause
"""What ran where: the operations of a run summed up, with what Logic-PIM measured beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..llm.graph import Operation, Place
from ..spec.config import Config
from .attend import ATTENTION
from .stats import Stats


def placements(config: Config, operations: Mapping[str, Sequence[Operation]],
               stats: Mapping[tuple[str, str], Stats]) -> list[dict]:
    """One row for each phase and operation, in the order of the data.

    Keys: ``phase``, ``operation``, ``where``; ``m``, ``n``, ``k`` as [least, greatest];
    ``calls``, ``flops``, ``bytes``, ``op_b``; for products on Logic-PIM also ``cycles``,
    ``weight_bytes``, ``bandwidth_efficiency`` and ``mac_utilisation`` (None if untimed).
    """
    rows = []
    for phase, done in operations.items():
        done = [_whole(operation, (phase, "ffn") in stats) for operation in done]
        for name, place in dict.fromkeys((o.name, o.place) for o in done):
            same = [o for o in done if (o.name, o.place) == (name, place)]
            row = {"phase": phase, "operation": name, "where": str(place)}
            for size in "mnk":
                values = [getattr(operation, size) for operation in same]
                row[size] = [min(values), max(values)]
            for total in ("calls", "flops", "bytes"):
                row[total] = sum(getattr(operation, total) for operation in same)
            row["op_b"] = row["flops"] / row["bytes"]
            measured = stats.get((phase, name.removeprefix("expert ")))
            if measured is not None and place == Place.LOGIC_PIM:
                row |= cost(config, measured)
            rows.append(row)
    return rows


def _whole(operation: Operation, ffn: bool) -> Operation:
    """Products that run as one program are one row: of an expert, if it runs as a whole, and of
    attention. What their activation and softmax take is in it."""
    if operation.place == Place.LOGIC_PIM:
        if operation.name in ("attention scores", "attention values"):
            return replace(operation, name=ATTENTION)
        if ffn and operation.name in ("expert w1, w3", "expert w2"):
            return replace(operation, name="expert ffn")
    return operation


def cost(config: Config, stats: Stats) -> dict:
    """The measured keys of a row; clocks are None where the device is untimed."""
    return {
        "cycles": stats.cycles or None,
        "weight_bytes": stats.weight_bytes,
        "bandwidth_efficiency": stats.bandwidth_efficiency(config),
        "mac_utilisation": stats.mac_utilisation(config),
    }
