# SPDX-License-Identifier: BSD-2-Clause
"""The verdict of each job is that of its own words."""

import random

from amaranth.sim import Simulator

from logicpim.rtl.control.read_errors import ReadErrors
from logicpim.spec.presets import PRESETS


def test_verdicts(seed):
    rng = random.Random(seed)
    top = ReadErrors(PRESETS["small"].replace(ecc=True), depth=4)
    jobs = [[rng.random() < 0.15 for _ in range(rng.choice([1, 1, 2, 7, 30]))] for _ in range(80)]
    words = [(number, bad) for number, job in enumerate(jobs) for bad in job]
    verdicts = []

    async def bench(ctx):
        given = sent = clock = 0
        due = []
        while len(verdicts) < len(jobs):
            job = given < len(jobs) and given - len(verdicts) < 4 and rng.random() < 0.3
            # A word comes some clocks after its job: controller, I/O buffer, gearbox, decoder.
            due += [clock + 4] * job
            word = (clock % 2 and sent < len(words) and words[sent][0] < len(due)
                    and due[words[sent][0]] <= clock)
            ctx.set(top.job, job)
            ctx.set(top.words, len(jobs[given]) if job else 0)
            ctx.set(top.word, word and rng.random() < 0.8)
            ctx.set(top.bad, words[sent][1] if word else rng.getrandbits(1))
            ctx.set(top.o.ready, rng.random() < 0.3)
            if ctx.get(top.o.valid) and ctx.get(top.o.ready):
                verdicts.append(ctx.get(top.o.payload))
            given, sent = given + job, sent + ctx.get(top.word)
            await ctx.tick()
            clock += 1
            assert clock < 50_000

    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert verdicts == [any(job) for job in jobs] and {0, 1} == set(verdicts)
