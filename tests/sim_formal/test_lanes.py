# SPDX-License-Identifier: BSD-2-Clause
"""Proofs of lane repair: for all data, every dead lane, whatever it carries."""

import pytest

from logicpim.sim.formal.lanes import RepairedLanes
from logicpim.sim.formal.prove import Refuted, prove


@pytest.mark.parametrize("sizes", [(64,), (16, 5)])
def test_one_dead_lane_of_each_group(sizes):
    prove(RepairedLanes(sizes))


def test_two_dead_lanes_are_too_many():
    with pytest.raises(Refuted, match="FAIL"):
        prove(RepairedLanes((16, 5), fault=7))
