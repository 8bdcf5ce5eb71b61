# SPDX-License-Identifier: BSD-2-Clause
"""The DRAM controller with its TSV interface on the DRAM model: data, protocol, fairness."""

import random

import numpy as np
import pytest

from logicpim.rtl.signatures import Activity
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand, Organisation
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"].replace(timing_overrides={"nREFI": 1200})
RANKS = SMALL.replace(dram=Organisation(ranks=2, bank_groups=2, banks_per_group=4, rows=16,
                                        columns=4, bundle_banks=4))
CONFIGS = {"small": SMALL, "ranks": RANKS}


def random_words(rng, config, count):
    return [rng.getrandbits(config.word_bits) for _ in range(count)]


def random_jobs(bench, rng, config, count, *, most=24):
    """Reads and writes in the lower half of the rows of each bundle, where no two overlap."""
    org, jobs = config.dram, []
    free = {b: 0 for b in range(org.bundles)}
    for _ in range(count):
        bundle, words = rng.randrange(org.bundles), rng.randint(1, most)
        first = free[bundle] + rng.randrange(3)
        if first + words > org.words_per_bundle // 2:
            continue
        free[bundle] = first + words
        data = random_words(rng, config, words) if rng.random() < 0.5 else None
        jobs.append(bench.Job(bundle * org.words_per_bundle + first, words, data))
    return jobs


def random_hosts(bench, rng, config, count, *, after=lambda i: 0):
    """Accesses in the upper half of the rows, often to the row of the one before."""
    org, hosts, row = config.dram, [], None
    for i in range(count):
        if row is None or rng.random() < 0.4:
            row = (rng.randrange(org.bundles), rng.randrange(org.rows // 2, org.rows),
                   rng.randrange(org.bundle_banks))
        bundle, r, lane = row
        word = (bundle * org.rows + r) * org.columns + rng.randrange(org.columns)
        write = rng.random() < 0.5
        hosts.append(bench.Host(
            word * org.bundle_banks + lane, rng.getrandbits(config.granule_bits) if write else None,
            rng.getrandbits(config.granule_bytes), after(i)))
    return hosts


def row_burst(config):
    """Command clocks from the ACT of a full row of writes to the REFAB after it, and slack."""
    t = config.dram_timing
    return (t.nRCDRD + t.nCCDL * config.dram.columns + t.nCWL + t.nBL + t.nWR + t.nRP
            + 2 * config.dram.ranks + 8)


def assert_refreshed_in_time(config, trace, end):
    """The i-th refresh of a rank comes between i * nREFI and one row later."""
    t = config.dram_timing
    for rank in range(config.dram.ranks):
        at = trace["clock"][(trace["command"] == DramCommand.REFAB) & (trace["rank"] == rank)]
        late = at.astype(int) - t.nREFI * np.arange(1, len(at) + 1)
        assert (late >= -2).all() and (late <= row_burst(config)).all(), late
        assert len(at) >= (end - row_burst(config)) // t.nREFI


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("busy", ["fast", "slow"])
def test_random_traffic(bench, seed, name, busy):
    """Every word once, in order, with the right data, beside host traffic and refresh."""
    config, rng = CONFIGS[name], random.Random(seed)
    stall = (lambda rng, clock: rng.random() < 0.8) if busy == "slow" else lambda rng, clock: False
    b = bench(config, gap=0.6 if busy == "slow" else 0.0, stall=stall)
    jobs, hosts = random_jobs(bench, rng, config, 20), random_hosts(bench, rng, config, 90)
    result = b.run(jobs, hosts)
    assert result.refreshes >= 2
    assert_refreshed_in_time(config, result.trace, 2 * len(result.path))


def test_bursty_credit(bench, seed):
    """Long stalls close no row in vain and lose nothing."""
    b = bench(SMALL, stall=lambda rng, clock: clock // 97 % 3 != 0)
    b.run([bench.Job(5, 150)], random_hosts(bench, random.Random(seed), SMALL, 20,
                                            after=lambda i: 60 * i))


def test_no_credit_at_all(bench, seed):
    """A consumer that never takes a beat stops neither the host nor refresh."""
    b = bench(SMALL, stall=lambda rng, clock: True)
    hosts = random_hosts(bench, random.Random(seed), SMALL, 20, after=lambda i: 200 * i)
    result = b.run([bench.Job(3, 100)], hosts, clocks=4300, starve=True)
    assert len(result.host_done) == 20 and result.refreshes == 8600 // 1200
    assert_refreshed_in_time(SMALL, result.trace, 8600)
    reads = (result.trace["command"] == DramCommand.ALL_RD).sum()
    assert reads == SMALL.word_fifo
    assert max(result.host_latency) < 400
    assert Activity.STREAM in result.activity


def test_job_continues_in_open_row(bench):
    """Two jobs that meet within a row need one activate, and the path rests afterwards."""
    result = bench(SMALL).run([bench.Job(8, 3), bench.Job(11, 5)], clocks=150)
    command, clock = result.trace["command"], result.trace["clock"].astype(int)
    assert (command == DramCommand.ALL_ACT).sum() == 1
    assert set(np.diff(clock[command == DramCommand.ALL_RD])) == {4}
    assert result.path[-1] == 0


def test_credit_is_kept(bench):
    """After any pattern of stalls the credit is still one for each word of room."""
    b = bench(SMALL, stall=lambda rng, clock: clock > 900 or rng.random() < 0.45)
    result = b.run([bench.Job(0, 400)], starve=True, clocks=1100)
    reads = (result.trace["command"] == DramCommand.ALL_RD).sum()
    assert 100 < len(result.words) == reads - SMALL.word_fifo


def test_slow_writes_let_refresh_in(bench, seed):
    """A word now and then keeps no due refresh waiting."""
    words = random_words(random.Random(seed), SMALL, 200)
    result = bench(SMALL, pause=12).run([bench.Job(0, 200, words)])
    assert result.refreshes >= 3
    assert_refreshed_in_time(SMALL, result.trace, 2 * len(result.path))


def test_host_burst_lets_refresh_in(bench):
    """Hits without end keep no due refresh waiting."""
    config = SMALL.replace(host_burst=1024)
    result = bench(config).run(hosts=[bench.Host(i % 8 * 4, None) for i in range(700)])
    assert result.refreshes >= 2
    assert_refreshed_in_time(config, result.trace, 2 * len(result.path))
    assert (result.trace["command"] == DramCommand.ACT).sum() == result.refreshes + 1


def test_no_row_for_nothing(bench):
    """While there is no credit a waiting host gets row after row."""
    config = SMALL.replace(refresh=False)
    hosts = [bench.Host((32 + i) * 32, None, after=300) for i in range(16)]
    result = bench(config, stall=lambda rng, clock: True).run(
        [bench.Job(0, 100)], hosts, starve=True, clocks=1000)
    command = result.trace["command"].tolist()
    first = command.index(DramCommand.ACT)
    last = len(command) - command[::-1].index(DramCommand.ACT)
    assert command[first:last].count(DramCommand.ACT) == 16
    assert DramCommand.ALL_ACT not in command[first:last]


def test_idle_ranks_are_all_refreshed(bench):
    """Ranks that fall due together are refreshed one after the other."""
    result = bench(RANKS).run(clocks=1300)
    assert result.trace["rank"].tolist() == [0, 1, 0, 1]
    assert_refreshed_in_time(RANKS, result.trace, 2600)


def test_write_announced(bench, seed):
    """No ALL_WR before its word has come; the job is done with the last word's transfer."""
    data = random_words(random.Random(seed), SMALL, 20)
    result = bench(SMALL, gap=0.9).run([bench.Job(30, 20, data)])
    last = result.trace["clock"][result.trace["command"] == DramCommand.ALL_WR].max() // 2
    assert result.job_done == [last + SMALL.dram_timing.write_latency]


def test_host_alone_is_fast(bench):
    """Accesses to an open row follow each other every nCCDL, ``host_burst`` of them in a row."""
    row = [bench.Host(4 * c, None) for c in range(8)]
    result = bench(SMALL.replace(host_burst=8)).run(hosts=row)
    assert np.diff(result.host_done).tolist() == [2] * 7
    result = bench(SMALL).run(hosts=row)
    gap = max(np.diff(result.host_done).tolist())
    assert np.diff(result.host_done).tolist().count(2) == 6 and gap >= 20


def test_turns(bench, seed):
    """Where both wait, rows of the bundle and bursts of the host alternate."""
    hosts = [bench.Host(SMALL.dram.granules // 2 + i % 8 * 4, None) for i in range(64)]
    result = bench(SMALL).run([bench.Job(0, 128)], hosts)
    opens = [c for c in result.trace["command"] if c in (DramCommand.ACT, DramCommand.ALL_ACT)]
    both = opens[2:-2]
    assert all(a != b for a, b in zip(both, both[1:], strict=False)), opens


@pytest.mark.parametrize("ranks", [1, 2])
def test_host_waits_bounded(bench, seed, ranks):
    """One host access at a time beside an endless job: one row, one refresh, its own row."""
    config = CONFIGS["small" if ranks == 1 else "ranks"]
    t, rng = config.dram_timing, random.Random(seed)
    hosts = random_hosts(bench, rng, config, 25, after=lambda i: 120 * i)
    jobs = [bench.Job(0, config.dram.words_per_bundle // 2) for _ in range(40)]
    result = bench(config).run(jobs, hosts, starve=True, clocks=3500)
    assert len(result.host_done) == 25
    own = t.nRCDRD + t.nCL + t.nBL + t.nRP
    assert max(result.host_latency) * 2 <= 2 * row_burst(config) + t.nRFC + own


def test_bundle_not_starved(bench, seed):
    """A host that never pauses leaves the bundle a row for each of its bursts."""
    org = RANKS.dram
    hosts = [bench.Host(org.granules // 2 * (i % 2) + 4 * (i % 16), None) for i in range(2000)]
    result = bench(RANKS).run([bench.Job(32, 32)], hosts, starve=True, clocks=1500)
    assert len(result.job_done) == 1
    assert result.job_done[0] < 8 * 160 + RANKS.dram_timing.nRFC


def test_idle_is_idle(bench):
    """Without work there is refresh and nothing else."""
    result = bench(SMALL).run(clocks=1300)
    assert set(result.trace["command"]) == {DramCommand.REFAB}
    assert set(result.activity) == {Activity.IDLE, Activity.REFRESH}
    quiet = bench(SMALL.replace(refresh=False)).run(clocks=1300)
    assert len(quiet.trace) == 0


def test_activity(bench):
    """Streaming as long as the words take, refresh as long as nRP and nRFC."""
    result = bench(SMALL).run([bench.Job(0, 256)])
    count = {a: result.activity.count(a) for a in Activity}
    assert count[Activity.STREAM] == 32 * (2 * 8 - 1)  # the last word of a row ends it
    assert count[Activity.HOST] == 0 and count[Activity.ACTIVATE] <= 33 * 24
    t = SMALL.dram_timing
    refresh = count[Activity.REFRESH] / result.refreshes
    assert t.clocks(t.nRFC) <= refresh <= t.clocks(t.nRP) + t.clocks(t.nRFC) + 1


def odd_timing(rng):
    """Some speed grade that no memory has."""
    return {name: rng.randint(least, most) for name, least, most in (
        ("nCL", 1, 30), ("nCWL", 1, 30), ("nRCDRD", 1, 40), ("nRCDWR", 1, 40), ("nRP", 1, 40),
        ("nRAS", 1, 80), ("nRC", 1, 120), ("nWR", 1, 40), ("nRTPL", 1, 20), ("nCCDL", 1, 9),
        ("nWTRL", 1, 30), ("nRTW", 1, 9), ("nRRDL", 1, 60), ("nRFC", 20, 500))}


@pytest.mark.parametrize("timing", [{"nRC": 130}, {"nFAW": 400}, {"nWR": 90, "nRP": 1}, None])
def test_timing_overrides_hold(bench, seed, timing):
    """Odd speed grades: the distances follow the rows."""
    rng = random.Random(seed)
    config = RANKS.replace(timing_overrides={"nREFI": 1500, **(timing or odd_timing(rng))})
    jobs, hosts = random_jobs(bench, rng, config, 8), random_hosts(bench, rng, config, 25)
    bench(config, gap=0.2).run(jobs, hosts)


@pytest.mark.full
@pytest.mark.parametrize("number", range(40))
def test_any_timing_holds(bench, seed, number):
    """The same at length."""
    rng = random.Random(seed)
    config = RANKS.replace(timing_overrides={"nREFI": 1500, **odd_timing(rng)},
                           refresh=rng.random() < 0.8, host_burst=rng.choice((1, 4, 64)))
    jobs, hosts = random_jobs(bench, rng, config, 30), random_hosts(bench, rng, config, 120)
    pattern = rng.choice((0.0, 0.5, 0.9))
    bench(config, gap=rng.choice((0.0, 0.8)),
          stall=lambda rng, clock: rng.random() < pattern).run(jobs, hosts, limit=60000)


def test_presets_fit():
    """What the tests above assume of their configurations."""
    assert isinstance(SMALL, Config) and RANKS.dram.bundles == 4 and SMALL.host_burst == 4
