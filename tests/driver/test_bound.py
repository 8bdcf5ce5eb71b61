# SPDX-License-Identifier: BSD-2-Clause
"""The closed formula of the bandwidth: known values of a bare model, and what cannot help."""

import pytest

from logicpim.driver.bound import bandwidth_bound, bound
from logicpim.spec.dram import TIMINGS
from logicpim.spec.presets import PRESETS

CHANNEL = PRESETS["channel"].replace(stagger=False, refresh=False)
WORDS = 1 << 17


def limit(bundles, words=WORDS, **changes):
    return bandwidth_bound(CHANNEL.replace(**changes), bundles, words, 1, 1)


@pytest.mark.parametrize("bundles, value, changes", [
    (1, 128 / 170, {}),
    (1, 128 / (170 + 39 + 6), dict(stagger=True)),
    (2, 1, {}), (4, 1, {}),
    (2, 1, dict(stagger=True)), (4, 1, dict(stagger=True)),
    (1, 128 / 170 * (1 - 337 / 5070), dict(refresh=True, postpone=0)),
    (2, 1 - (383 - 132) / 5070, dict(refresh=True, postpone=0)),
    (4, 1, dict(refresh=True)),
    (1, 128 / 170 * (1 - 455 / 5070), dict(refresh=True, refresh_kind="all")),
])
def test_known(bundles, value, changes):
    """As counted by hand for HBM3 at 5.2 Gb/s."""
    assert limit(bundles, **changes) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("timing", TIMINGS)
def test_order(timing):
    """Several bundles are better than one, stagger and refresh never help; small kernels reach
    less, but the last row of one bundle needs no closing."""
    for stagger in (False, True):
        for refresh in (False, True):
            options = dict(timing=timing, stagger=stagger, refresh=refresh)
            values = [limit(bundles, **options) for bundles in (1, 2, 4)]
            # With four, both pairs wait for refresh where it takes longer than three rows.
            assert values[0] < min(values[1:]) and max(values) <= 1
            for bundles, value in zip((1, 2, 4), values, strict=True):
                assert value <= limit(bundles, **options | dict(refresh=False))
                assert value <= limit(bundles, **options | dict(stagger=False))
                assert bundles == 1 or limit(bundles, 128, **options) < value


def test_late_refreshes_are_saved():
    """A kernel of few intervals need not refresh at all."""
    short = bound(CHANNEL.replace(refresh=True), 2)
    assert short.clocks(32 * 32, 32) == bound(CHANNEL, 2).clocks(32 * 32, 32)


def test_tokens():
    """Beyond a group of tokens the tile is the limit, beyond the accumulators each pass."""
    assert bandwidth_bound(CHANNEL, 4, WORDS, 1, 3) == pytest.approx(1 / 3)
    assert bandwidth_bound(CHANNEL, 1, WORDS, 2, 5) == pytest.approx(1 / 5)
