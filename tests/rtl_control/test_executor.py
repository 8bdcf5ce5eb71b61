# SPDX-License-Identifier: BSD-2-Clause
"""The executor hands out the right jobs and completes in order, after the last effect."""

import random

from amaranth.sim import Simulator

from logicpim.rtl.control.executor import OperationExecutor
from logicpim.spec.functions import Function
from logicpim.spec.isa import FUNCTION_OPCODES, Buffer, Format, Opcode, Status
from logicpim.spec.presets import PRESETS

CONFIG = PRESETS["small"].replace(formats=("fp16", "bf16", "int8"))
TOKENS = CONFIG.tile.tokens


def random_operation(rng):
    status = rng.choice([Status.OK] * 9 + [Status.DRAM_RANGE])
    opcode = rng.choice([Opcode.GEMM] * 6 + [*FUNCTION_OPCODES] * 3 + [*Opcode])
    has_second = rng.randrange(2) if opcode != Opcode.SOFTMAX else 0
    lines = {name: rng.randrange(60) for name in ("source_line", "second_line", "result_line")}
    size = rng.randrange(1, 9)
    causal, m = rng.randrange(2), rng.choice([1, 4, 5, 13])
    return {"opcode": opcode, "tag": rng.getrandbits(16), "status": status,
            "output_format": rng.choice([Format.FP16, Format.FP32]),
            "input_format": rng.choice([Format.FP16, Format.BF16]),
            "weight_format": rng.choice([Format.FP16, Format.INT8]),
            "scaled": has_second, "scale_line": lines["second_line"],
            "scale_group": rng.randrange(256), "accumulate": rng.randrange(2),
            "transpose": rng.randrange(2),
            "buffer": rng.choice(list(Buffer)), "m": m,
            "n": rng.randrange(1, 99), "k": rng.randrange(1, 99),
            "address": rng.randrange(CONFIG.dram.words), "words": rng.randrange(1, 50),
            "source_stride": rng.randrange(1, 9), "result_stride": rng.randrange(1, 9), **lines,
            "source_end": lines["source_line"] + size,
            "second_end": (lines["second_line"] + size) * has_second,
            "result_end": lines["result_line"] + rng.randrange(1, 9),
            "function": rng.choice(list(Function)), "gated": has_second, "causal": causal,
            "scale": rng.getrandbits(31), "length": rng.randrange(m, 99)}


def jobs_of(op):
    """(kind, fields) of every job of an operation, from the definition of the instruction."""
    if op["status"] != Status.OK or op["opcode"] == Opcode.FENCE:
        return []
    if op["opcode"] in FUNCTION_OPCODES:
        softmax = op["opcode"] == Opcode.SOFTMAX
        same = ("function", "gated", "causal", "scale", "input_format", "output_format",
                "source_line", "second_line", "result_line")
        return [("function", {
            "softmax": softmax, "rows": op["m"], "width": op["n"],
            "length": op["length"] - op["causal"] * (op["m"] - 1),
            **{name: op[name] for name in same}})]
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


def lines_of(op, which):
    """The lines that an operation reads or writes."""
    names = ("source", "second") if which == "read" else ("result",)
    return {line for name in names for line in range(op[f"{name}_line"], op[f"{name}_end"])}


def must_wait(op, before):
    """Whether an operation must not start before one in front of it is done."""
    kinds = [None if o["status"] != Status.OK else o["opcode"] == Opcode.GEMM if
             o["opcode"] in (Opcode.GEMM, *FUNCTION_OPCODES) else None for o in (op, before)]
    if None in kinds or kinds == [False, False]:
        return True
    if kinds == [True, True]:
        return False
    return bool(lines_of(op, "read") & lines_of(before, "write")
                or lines_of(op, "write") & lines_of(before, "read"))


def test_jobs_and_completions(seed):
    rng = random.Random(seed)
    operations = [random_operation(rng) for _ in range(160)]
    dut, log = OperationExecutor(CONFIG), []
    streams = {"bundle": dut.bundle, "gemm": dut.gemm, "load": dut.load, "store": dut.store,
               "function": dut.function}
    dones = {"gemm": dut.gemm_done, "load": dut.load_done, "store": dut.bundle_done,
             "function": dut.function_done}

    async def workers(ctx):
        pending = dict.fromkeys(streams, 0)
        while True:
            for port in streams.values():
                ctx.set(port.ready, rng.random() < 0.5)
            for kind, done in dones.items():
                # Some functions are fast, some GEMMs too.
                now = pending[kind] and rng.random() < rng.choice([0.02, 0.2, 0.5])
                now = bool(now and (kind == "function" or pending["bundle"]))
                ctx.set(done, now)
                if now:
                    pending[kind] -= 1
                    pending["bundle"] -= kind != "function"
                    log.append(("done", kind))
            assert pending["function"] <= 1
            signals = [s for p in streams.values() for s in (p.valid, p.ready, p.payload)]
            _, _, *seen = await ctx.tick().sample(*signals)
            for index, name in enumerate(streams):
                valid, ready, payload = seen[3 * index:3 * index + 3]
                if valid and ready:
                    log.append((name, payload))
                    pending[name] += 1

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
            waited = 0
            while not ctx.get(dut.i.ready):
                await ctx.tick()
                waited += 1
                assert waited < 2000, "it hangs"
            await ctx.tick()
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
    """Jobs and completions in order; nothing early; what may overlap does."""
    where = {kind: iter([i for i, (name, _) in enumerate(log) if name == kind])
             for kind in ("bundle", "gemm", "load", "store", "function", "complete")}
    done_at = {kind: iter([i for i, event in enumerate(log) if event == ("done", kind)])
               for kind in ("gemm", "load", "store", "function")}
    starts, ends, overlapped = [], [], set()
    for number, op in enumerate(operations):
        at = next(where["complete"])
        completion = log[at][1]
        assert (completion.tag, completion.status) == (op["tag"], op["status"])
        mine, end = [at], at
        for kind, fields in jobs_of(op):
            index = next(where[kind])
            mine.append(index)
            payload = log[index][1]
            assert {k: getattr(payload, k) for k in fields} == fields
            if kind != "bundle":
                end = next(done_at[kind])
                assert index < end < at
        starts.append(min(mine))
        ends.append(end)
        for other, before in enumerate(operations[:number]):
            if must_wait(op, before):
                assert starts[number] > ends[other], "started before what it has to wait for"
            elif starts[number] < ends[other]:
                overlapped.add((before["opcode"] == Opcode.GEMM, op["opcode"] == Opcode.GEMM))
    assert not any(next(events, None) for events in (*where.values(), *done_at.values()))
    assert overlapped == {(True, True), (True, False), (False, True)}
