# SPDX-License-Identifier: BSD-2-Clause
"""The DRAM controller with its TSV interface on the DRAM model: data, protocol, fairness."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from logicpim.rtl.bank.controller import DramController
from logicpim.rtl.signatures import Activity
from logicpim.sim.model.layout import word_addresses
from logicpim.spec.config import Config
from logicpim.spec.dram import DramCommand, Organisation
from logicpim.spec.presets import PRESETS

# All refreshes are due at once, so that short runs see them wait.
SMALL = PRESETS["small"].replace(timing_overrides={"nREFI": 1200, "nREFMAX": 9 * 1200},
                                 postpone=0)
RANKS = SMALL.replace(dram=Organisation(ranks=2, bank_groups=2, banks_per_group=4, rows=16,
                                        columns=4, bundle_banks=4))
CONFIGS = {"small": SMALL, "ranks": RANKS, "all": RANKS.replace(refresh_kind="all"),
           "at once": SMALL.replace(stagger=False), "late": RANKS.replace(postpone=2)}
OPENS = (DramCommand.ACT, DramCommand.ALL_ACT, DramCommand.PART_ACT)


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


def interleaved_jobs(bench, rng, config, count, interleave, *, most=24):
    """Reads and writes over whole sets of bundles, in the lower half of their rows."""
    org, jobs, size = config.dram, [], 1 << interleave
    free = {s: 0 for s in range(0, org.bundles, size)}
    for _ in range(count):
        first, words = rng.choice(sorted(free)), rng.randint(1, most)
        start = free[first] + rng.randrange(5)
        if start + words > size * org.words_per_bundle // 2:
            continue
        free[first] = start + words
        order = word_addresses(config, first * org.words_per_bundle, start + 1, interleave)
        data = random_words(rng, config, words) if rng.random() < 0.5 else None
        jobs.append(bench.Job(int(order[-1]), words, data, interleave))
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


def opening(config):
    """Command clocks from closing a row to the first access to the next, and slack."""
    t = config.dram_timing
    return t.nRP + (t.nFAW + t.nRRDS + t.nRCDRD) + 12


def row_burst(config):
    """Command clocks from the ACT of a full row of writes to the refresh after it, and slack."""
    t = config.dram_timing
    return opening(config) + t.nCCDL * config.dram.columns + t.nCWL + t.nBL + t.nWR + t.nRP


def refreshing(config):
    """Command clocks that the refresh of all bundles of a rank takes, one after the other."""
    t, banks = config.dram_timing, config.dram.banks_per_rank
    return t.nRFC if config.refresh_kind == "all" else banks * (t.nRREFD + 1) + t.nRFCSB


def assert_refreshed_in_time(config, trace, end):
    """No bank waits longer for its refresh than the rows and refreshes before it take."""
    t, org = config.dram_timing, config.dram
    refresh = trace[np.isin(trace["command"], (DramCommand.REFAB, DramCommand.REFPB))]
    slack = 2 * row_burst(config) + 2 * refreshing(config)
    for rank in range(org.ranks):
        for group in range(org.bank_groups):
            for bank in range(org.banks_per_group):
                mine = (refresh["rank"] == rank) & (
                    (refresh["command"] == DramCommand.REFAB)
                    | (refresh["bank_group"] == group) & (refresh["bank"] == bank))
                at = refresh["clock"][mine].astype(int)
                late = at - t.nREFI * np.arange(1, len(at) + 1)
                assert (late <= slack).all(), late
                assert len(at) >= (end - slack) // t.nREFI


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
    if not config.postpone:
        assert_refreshed_in_time(config, result.trace, 2 * len(result.path))


@pytest.mark.parametrize("interleave", [1, 2])
def test_interleaved_traffic(bench, seed, interleave):
    """Words dealt over a set of bundles come in order, beside host traffic and refresh."""
    rng = random.Random(seed)
    jobs = interleaved_jobs(bench, rng, RANKS, 14, interleave)
    bench(RANKS, gap=0.3).run(jobs, random_hosts(bench, rng, RANKS, 50))


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
    assert len(result.host_done) == 20 and result.refreshes >= 8600 // 1200 * 8
    assert_refreshed_in_time(SMALL, result.trace, 8600)
    reads = (result.trace["command"] == DramCommand.ALL_RD).sum()
    assert reads == SMALL.word_fifo
    assert max(result.host_latency) < 400
    assert Activity.STREAM in result.activity


def test_job_continues_in_open_row(bench):
    """Two jobs that meet within a row need one activate, and the path rests afterwards."""
    result = bench(SMALL).run([bench.Job(8, 3), bench.Job(11, 5)], clocks=150)
    command, clock = result.trace["command"], result.trace["clock"].astype(int)
    assert (command == DramCommand.PART_ACT).sum() == SMALL.dram.parts
    assert set(np.diff(clock[command == DramCommand.ALL_RD])) == {4}
    assert result.path[-1] == 0


def test_credit_is_kept(bench):
    """After any pattern of stalls the credit is still one for each word of room."""
    b = bench(SMALL, stall=lambda rng, clock: clock > 900 or rng.random() < 0.45)
    result = b.run([bench.Job(0, 400)], starve=True, clocks=1100)
    reads = (result.trace["command"] == DramCommand.ALL_RD).sum()
    assert 80 < len(result.words) == reads - SMALL.word_fifo


def test_slow_writes_let_refresh_in(bench, seed):
    """A word now and then keeps no due refresh waiting."""
    words = random_words(random.Random(seed), SMALL, 200)
    result = bench(SMALL, pause=12).run([bench.Job(0, 200, words)])
    assert result.refreshes >= 3
    assert_refreshed_in_time(SMALL, result.trace, 2 * len(result.path))


def test_host_burst_lets_refresh_in(bench):
    """Hits without end keep no due refresh waiting."""
    config = SMALL.replace(host_burst=1024)
    result = bench(config).run(hosts=[bench.Host(i % 8 * 4, None) for i in range(1400)])
    assert_refreshed_in_time(config, result.trace, 2 * len(result.path))
    assert 3 <= (result.trace["command"] == DramCommand.ACT).sum() <= 5


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
    assert DramCommand.PART_ACT not in command[first:last]


def test_idle_ranks_are_all_refreshed(bench):
    """Ranks that fall due together are refreshed one after the other."""
    result = bench(CONFIGS["all"]).run(clocks=1300)
    assert result.trace["rank"].tolist() == [0, 1, 0, 1]
    assert_refreshed_in_time(CONFIGS["all"], result.trace, 2600)


def test_idle_banks_are_refreshed_ahead(bench):
    """Banks that nobody uses are one refresh ahead, one more after each nREFI."""
    result = bench(CONFIGS["late"]).run(clocks=1300)
    place = [tuple(int(r[n]) for n in ("rank", "bank_group", "bank")) for r in result.trace]
    counts = [place.count(bank) for bank in sorted(set(place))]
    assert len(counts) == 16 and set(counts) == {3}


def test_write_announced(bench, seed):
    """No ALL_WR before its word has come; the job is done with the last word's transfer."""
    data = random_words(random.Random(seed), SMALL, 20)
    result = bench(SMALL, gap=0.9).run([bench.Job(30, 20, data)])
    last = result.trace["clock"][result.trace["command"] == DramCommand.ALL_WR].max() // 2
    assert result.job_done == [last + SMALL.dram_timing.write_latency]


def test_host_alone_is_fast(bench):
    """Accesses to an open row follow each other every nCCDL, of two bank groups every nCCDS."""
    quiet = SMALL.replace(refresh=False)
    result = bench(quiet).run(hosts=[bench.Host(4 * c, None) for c in range(8)])
    assert np.diff(result.host_done).tolist() == [2] * 7
    result = bench(quiet).run(hosts=[bench.Host(4 * (i // 2) + i % 2, None) for i in range(16)])
    assert np.diff(result.host_done).tolist()[1:] == [1] * 14  # the second bank opens later


def test_rows_are_opened_ahead(bench):
    """Eight rows of eight banks one after the other: one a window, not one a row cycle."""
    quiet = SMALL.replace(refresh=False)
    t, org = quiet.dram_timing, quiet.dram
    banks = [b * org.words_per_bundle * 4 + lane for b in (0, 1) for lane in range(4)]
    result = bench(quiet).run(hosts=[bench.Host(bank, None) for bank in banks])
    assert (np.diff(result.host_done) <= t.clocks(t.nFAW - 3 * t.nRRDL) + 4).all()
    assert result.host_done[-1] - result.host_done[0] <= t.clocks(t.nFAW) + 16


def test_beside_each_other(bench):
    """The host reads one bundle each clock while the stream reads another every second one."""
    quiet = SMALL.replace(refresh=False)
    first = quiet.dram.words_per_bundle * 4
    hosts = [bench.Host(first + 4 * (i // 2 % 8) + i % 2, None, after=60) for i in range(300)]
    result = bench(quiet).run([bench.Job(0, 8)] * 40, hosts)
    clocks = np.diff(result.host_done)
    assert (clocks == 1).mean() > 0.95 and len(result.job_done) == 40
    alone = bench(quiet).run([bench.Job(0, 8)] * 40)
    assert result.job_done == alone.job_done


def test_turns(bench, seed):
    """Where both want one bundle, rows of the stream and bursts of the host alternate."""
    hosts = [bench.Host(SMALL.dram.granules // 4 + i % 8 * 4, None) for i in range(64)]
    result = bench(SMALL).run([bench.Job(0, 128)], hosts)
    opens = [c for c in result.trace["command"] if c in OPENS]
    both = [a for a, b in zip(opens, [None, *opens], strict=False) if a != b]
    assert both.count(DramCommand.ACT) == 16 and opens.count(DramCommand.ACT) == 16
    assert opens.count(DramCommand.PART_ACT) == 16 * SMALL.dram.parts


@pytest.mark.parametrize("ranks", [1, 2])
def test_host_waits_bounded(bench, seed, ranks):
    """One host access at a time beside an endless job: one row, one refresh, its own row."""
    config = CONFIGS["small" if ranks == 1 else "ranks"]
    t, rng = config.dram_timing, random.Random(seed)
    hosts = random_hosts(bench, rng, config, 25, after=lambda i: 120 * i)
    jobs = [bench.Job(0, config.dram.words_per_bundle // 2) for _ in range(40)]
    result = bench(config).run(jobs, hosts, starve=True, clocks=3500)
    assert len(result.host_done) == 25
    own = t.nRCDRD + t.nCL + t.nBL + t.nRP + t.nFAW + 12
    assert max(result.host_latency) * 2 <= 2 * row_burst(config) + refreshing(config) + own


def test_bundle_not_starved(bench, seed):
    """A host that never pauses leaves the bundle a row for each of its bursts."""
    hosts = [bench.Host(4 * (i % 16), None) for i in range(2000)]
    result = bench(RANKS).run([bench.Job(32, 32)], hosts, starve=True, clocks=1500)
    assert len(result.job_done) == 1
    assert result.job_done[0] < 8 * 160 + RANKS.dram_timing.nRFC


@pytest.mark.parametrize("interleave, sets", [(0, (1, 4)), (1, (3, 12)), (2, (15, 15))])
def test_owned(interleave, sets):
    """Logic-PIM owns the sets of the job at hand and of the one offered, and no other bundle."""
    dram, words = DramController(RANKS), RANKS.dram.words_per_bundle
    seen = []

    async def bench(ctx):
        ctx.set(dram.strobes.word_taken, 1)
        for bundle in (0, 2):
            ctx.set(dram.job.payload, {"address": bundle * words, "words": 6,
                                       "interleave": interleave})
            ctx.set(dram.job.valid, 1)
            await ctx.tick().until(dram.job.ready)
        ctx.set(dram.job.valid, 0)
        await ctx.tick().repeat(200)

    async def watch(ctx):
        async for _, _, owned, command in ctx.tick().sample(dram.owned, dram.bus.column0.command):
            if [owned] != seen[-1:]:
                seen.append(owned)
            assert owned or command != DramCommand.ALL_RD or seen[-2:] == [sets[1], 0]

    simulator = Simulator(dram)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    first, second = sets
    want = [first, first | second, second, 0]
    assert seen == [s for s, t in zip(want, [None, *want], strict=False) if s != t]


def test_jobs_in_one_row_let_refresh_in(bench):
    """Jobs without end in one row keep no due refresh of their bundles waiting."""
    for config, interleave in ((SMALL, 0), (CONFIGS["all"], 2)):
        jobs = [bench.Job(0, config.dram.columns, None, interleave)] * 200
        result = bench(config).run(jobs, starve=True, clocks=1700)
        assert len(result.job_done) > 60
        assert_refreshed_in_time(config, result.trace, 2 * len(result.path))


def test_idle_is_idle(bench):
    """Without work there is refresh and nothing else."""
    result = bench(SMALL).run(clocks=1300)
    assert set(result.trace["command"]) == {DramCommand.REFPB}
    assert set(result.activity) == {Activity.IDLE, Activity.REFRESH}
    quiet = bench(SMALL.replace(refresh=False)).run(clocks=1300)
    assert len(quiet.trace) == 0


def test_activity(bench):
    """Streaming as long as the words take, refresh as long as nRP and nRFC."""
    result = bench(SMALL).run([bench.Job(0, 256)])
    count = {a: result.activity.count(a) for a in Activity}
    assert count[Activity.STREAM] == 32 * (2 * 8 - 1)  # the last word of a row ends it
    assert count[Activity.HOST] == 0 and count[Activity.ACTIVATE] <= 34 * opening(SMALL) // 2
    assert 0 < count[Activity.REFRESH] <= (result.refreshes // 8 + 1) * refreshing(SMALL) // 2


def odd_timing(rng):
    """Some speed grade that no memory has."""
    return {name: rng.randint(least, most) for name, least, most in (
        ("nCL", 1, 30), ("nCWL", 1, 30), ("nRCDRD", 1, 40), ("nRCDWR", 1, 40), ("nRP", 1, 40),
        ("nRAS", 1, 80), ("nRC", 1, 120), ("nWR", 1, 40), ("nRTPL", 1, 20), ("nCCDL", 1, 9),
        ("nWTRL", 1, 30), ("nRTW", 1, 9), ("nRRDL", 1, 60), ("nRFC", 20, 500),
         ("nRFCSB", 20, 300), ("nRREFD", 1, 20), ("nRRDS", 1, 9), ("nFAW", 4, 60),
         ("nCCDS", 1, 9))}


@pytest.mark.parametrize("timing", [{"nRC": 130}, {"nFAW": 400}, {"nWR": 90, "nRP": 1}, None])
def test_timing_overrides_hold(bench, seed, timing):
    """Odd speed grades: the distances follow the rows."""
    rng = random.Random(seed)
    config = CONFIGS[rng.choice(list(CONFIGS))].replace(timing_overrides={
        "nREFI": 1500, "nREFMAX": 9 * 1500, **(timing or odd_timing(rng))})
    jobs, hosts = random_jobs(bench, rng, config, 8), random_hosts(bench, rng, config, 25)
    bench(config, gap=0.2).run(jobs, hosts)


@pytest.mark.full
@pytest.mark.parametrize("number", range(40))
def test_any_timing_holds(bench, seed, number):
    """The same at length."""
    rng = random.Random(seed)
    config = CONFIGS[rng.choice(list(CONFIGS))]
    config = config.replace(timing_overrides={
        "nREFI": 1500, "nREFMAX": 9 * 1500, **odd_timing(rng)},
        refresh=rng.random() < 0.8, host_burst=rng.choice((1, 4, 64)))
    interleave = rng.randrange(config.dram.bundles.bit_length())
    jobs = interleaved_jobs(bench, rng, config, 30, interleave)
    hosts = random_hosts(bench, rng, config, 120)
    pattern = rng.choice((0.0, 0.5, 0.9))
    bench(config, gap=rng.choice((0.0, 0.8)),
          stall=lambda rng, clock: rng.random() < pattern).run(jobs, hosts, limit=60000)


def test_presets_fit():
    """What the tests above assume of their configurations."""
    assert isinstance(SMALL, Config) and RANKS.dram.bundles == 4 and SMALL.host_burst == 4
