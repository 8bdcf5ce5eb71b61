# SPDX-License-Identifier: BSD-2-Clause
"""Where experts and attention of a layer run: one interface, the policies of several systems."""

from .attention import ATTENTION as ATTENTION
from .policy import Policy
from .shared import (
    best_of,
    co_processing,
    co_processing_by_space,
    co_processing_of_simulator,
    duplex,
    op_b_threshold,
    pim_only,
    xpu_only,
)
from .tiered import fiddler, monde, on_demand, pre_gated, prefetch_all, sweep

SHARED: dict[str, Policy] = {
    "xpu_only": xpu_only, "pim_only": pim_only, "opb_threshold": op_b_threshold(),
    "duplex": duplex, "duplex_best_of": best_of, "duplex_pe_paper": co_processing,
    "duplex_pe_spaces": co_processing_by_space, "duplex_pe_sim": co_processing_of_simulator,
}
"""Policies where both processors share the memory."""

TIERED: dict[str, Policy] = {
    "ondemand": on_demand, "prefetch_all": prefetch_all, "pregated": pre_gated,
    "monde_H": monde(), "dynande_sweep": sweep, "fiddler": fiddler,
}
"""Policies where the experts lie beyond a link; they need costs with one."""
