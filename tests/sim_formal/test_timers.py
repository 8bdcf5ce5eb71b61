# SPDX-License-Identifier: BSD-2-Clause
"""The proofs about timers close at reduced grades, and fail where a timer is too short."""

import pytest

from logicpim.rtl.bank import timer
from logicpim.sim.formal.prove import Refuted, prove
from logicpim.sim.formal.timers import BankProof, PathProof, RankProof
from logicpim.spec.dram import Organisation
from logicpim.spec.presets import PRESETS

SHORT = {"nRCDRD": 4, "nRCDWR": 3, "nRP": 5, "nRAS": 7, "nRC": 11, "nWR": 3, "nRTPL": 3,
         "nCL": 5, "nCWL": 2, "nBL": 2, "nWTRS": 2, "nWTRL": 3, "nRTW": 1, "nRRDS": 2, "nRRDL": 3,
         "nFAW": 12, "nRREFD": 5, "nRFCSB": 14, "nRFC": 14}
ODD = {**SHORT, "nRP": 4, "nRAS": 8, "nRC": 13, "nFAW": 15, "nRTPL": 4, "nCCDL": 5, "nRRDL": 5}
DRAM = Organisation(ranks=1, bank_groups=4, banks_per_group=4, rows=64, columns=8, bundle_banks=4)

pytestmark = pytest.mark.full


def reduced(timing, **changes):
    return PRESETS["small"].replace(timing_overrides=timing, **changes)


@pytest.mark.parametrize("stagger", [False, True])
@pytest.mark.parametrize("timing", [SHORT, ODD], ids=["short", "odd"])
def test_bank(timing, stagger):
    prove(BankProof(reduced(timing, stagger=stagger)))


@pytest.mark.parametrize("timing", [SHORT, ODD], ids=["short", "odd"])
def test_rank(timing):
    prove(RankProof(reduced(timing)))
    prove(RankProof(reduced(timing, dram=DRAM)))


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("timing", [SHORT, ODD], ids=["short", "odd"])
def test_path(timing, host):
    prove(PathProof(reduced(timing), host=host))


@pytest.mark.parametrize("proof, gap, clocks", [
    (BankProof, "act_column", 1), (BankProof, "act_act", 1), (BankProof, "act_pre", 1),
    (BankProof, "pre_act", 1), (BankProof, "read_pre", 1), (BankProof, "write_pre", 1),
    (BankProof, "refresh_act", 1), (RankProof, "act_to_any", 1), (RankProof, "part_to_part", 1),
    (RankProof, "refresh_to_any", 1)])
def test_less_is_too_little(monkeypatch, proof, gap, clocks):
    """These gaps are needed: a clock less, and an assertion fails."""
    class Less(timer.Gaps):
        def __init__(self, config):
            super().__init__(config)
            value = getattr(self, gap)
            less = (tuple(v - clocks for v in value) if isinstance(value, tuple)
                    else value - clocks)
            setattr(self, gap, less)
    monkeypatch.setattr(timer, "Gaps", Less)
    with pytest.raises(Refuted):
        prove(proof(reduced({**SHORT, "nRC": 17, "nRTPL": 5}, dram=DRAM)))
