# SPDX-License-Identifier: BSD-2-Clause
"""The executor hands out the right jobs and completes in order, after the last effect."""

import random

from amaranth.sim import Simulator

from logicpim.rtl.control.executor import OperationExecutor
from logicpim.spec.isa import Buffer, Format, Opcode, Status
from logicpim.spec.presets import PRESETS

CONFIG = PRESETS["small"].replace(formats=("fp16", "bf16", "int8"))
TOKENS = CONFIG.tile.tokens


def random_operation(rng):
    status = rng.choice([Status.OK] * 3 + [Status.DRAM_RANGE])
    opcode = rng.choice([Opcode.GEMM, *Opcode])
    return {"opcode": opcode, "tag": rng.getrandbits(16), "status": status,
            "output_format": rng.choice([Format.FP16, Format.FP32]),
            "input_format": rng.choice([Format.FP16, Format.BF16]),
            "weight_format": rng.choice([Format.FP16, Format.INT8]),
            "scaled": rng.randrange(2), "scale_line": rng.randrange(20),
            "scale_group": rng.randrange(256), "accumulate": rng.randrange(2),
            "transpose": rng.randrange(2),
            "buffer": rng.choice(list(Buffer)), "m": rng.choice([1, 4, 5, 13]),
            "n": rng.randrange(1, 99), "k": rng.randrange(1, 99),
            "address": rng.randrange(CONFIG.dram.words), "words": rng.randrange(1, 50),
            "source_line": rng.randrange(20), "result_line": rng.randrange(20),
            "source_stride": rng.randrange(1, 9), "result_stride": rng.randrange(1, 9)}


def jobs_of(op):
    """(kind, fields) of every job of an operation, from the definition of the instruction."""
    if op["status"] != Status.OK or op["opcode"] == Opcode.FENCE:
        return []
    words = {"address": op["address"], "words": op["words"],
             "write": op["opcode"] == Opcode.STORE}
    if op["opcode"] != Opcode.GEMM:
        line = op["source_line"] if op["opcode"] == Opcode.STORE else op["result_line"]
        kind = op["opcode"].name.lower()
        return [("bundle", words),
                (kind, {"buffer": op["buffer"], "words": op["words"], "line": line})]
    jobs = []
    most = TOKENS if op["transpose"] else CONFIG.pass_tokens(op["weight_format"])
    for first in range(0, op["m"], most):
        group = first // TOKENS
        jobs += [("bundle", words), ("gemm", {
            "tokens": min(most, op["m"] - first), "n": op["n"], "k": op["k"],
            "source_line": op["source_line"] + group * op["source_stride"],
            "result_line": op["result_line"] + group * op["result_stride"],
            **{name: op[name] for name in ("output_format", "input_format", "weight_format",
                                         "scaled", "scale_line", "scale_group",
                                         "accumulate", "transpose")}})]
    return jobs


def test_jobs_and_completions(seed):
    rng = random.Random(seed)
    operations = [random_operation(rng) for _ in range(60)]
    dut, log = OperationExecutor(CONFIG), []
    streams = {"bundle": dut.bundle, "gemm": dut.gemm, "load": dut.load, "store": dut.store}
    dones = {"gemm": dut.gemm_done, "load": dut.load_done, "store": dut.bundle_done}

    async def workers(ctx):
        pending = []
        while True:
            for port in streams.values():
                ctx.set(port.ready, rng.random() < 0.5)
            for done in dones.values():
                ctx.set(done, 0)
            if pending and rng.random() < 0.2:
                ctx.set(dones[pending[0]], 1)
                log.append(("done", pending.pop(0)))
            signals = [s for p in streams.values() for s in (p.valid, p.ready, p.payload)]
            _, _, *seen = await ctx.tick().sample(*signals)
            for index, name in enumerate(streams):
                valid, ready, payload = seen[3 * index:3 * index + 3]
                if valid and ready:
                    log.append((name, payload))
                    if name != "bundle":
                        pending.append(name)

    async def completions(ctx):
        while True:
            ctx.set(dut.o.ready, rng.random() < 0.5)
            _, _, valid, ready, payload = await ctx.tick().sample(
                dut.o.valid, dut.o.ready, dut.o.payload)
            if valid and ready:
                log.append(("complete", payload))

    async def bench(ctx):
        for op in operations:
            ctx.set(dut.i.payload, op)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)
        for _ in range(5000):
            await ctx.tick()
            if sum(kind == "complete" for kind, _ in log) == len(operations):
                return

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    for process in (workers, completions):
        sim.add_testbench(process, background=True)
    sim.run()

    check_log(operations, log)


def check_log(operations, log):
    """Jobs and completions in order; nothing early; only GEMMs run into each other."""
    where = {kind: [i for i, (name, _) in enumerate(log) if name == kind]
             for kind in ("bundle", "gemm", "load", "store", "done", "complete")}
    assert len(where["complete"]) == len(operations)
    given = {kind: 0 for kind in where}
    before, overlapped = -1, 0
    for number, op in enumerate(operations):
        at = where["complete"][number]
        completion = log[at][1]
        assert (completion.tag, completion.status) == (op["tag"], op["status"])
        for kind, fields in jobs_of(op):
            index = where[kind][given[kind]]
            given[kind] += 1
            payload = log[index][1]
            assert {k: getattr(payload, k) for k in fields} == fields
            assert index > before, "started before what it has to wait for"
            if number and index < where["complete"][number - 1]:
                overlapped += 1
                assert all(o["opcode"] == Opcode.GEMM and o["status"] == Status.OK
                           for o in operations[number - 1:number + 1])
            if kind != "bundle":
                assert index < where["done"][given["done"]] < at
                given["done"] += 1
        if op["opcode"] != Opcode.GEMM or op["status"] != Status.OK:
            assert number == 0 or where["complete"][number - 1] < at
            before = at
    assert all(given[kind] == len(where[kind]) for kind in given if kind != "complete")
    assert overlapped
