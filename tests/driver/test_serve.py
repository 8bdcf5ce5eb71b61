"""Continuous batching: the bits of each request alone, the order of joining, damage to one only."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from logicpim.driver.attend import AttentionRunner
from logicpim.driver.decode import Decoder
from logicpim.driver.experts import ExpertRunner
from logicpim.driver.modelled import Clock
from logicpim.driver.serve import Request, Server
from logicpim.llm.attention import NumpyAttention
from logicpim.llm.checkpoint import Checkpoint
from logicpim.llm.config import load_config
from logicpim.llm.decoder import Model
from logicpim.sim.model.device import ReferenceDevice
from logicpim.spec.presets import PRESETS

FAMILIES = Path(__file__).resolve().parents[1] / "llm" / "families"
CONFIG = PRESETS["channel"]


class Bench:
    """A model on the reference device, served as often as asked."""

    def __init__(self, folder, device=CONFIG):
        self.config = load_config(folder)
        checkpoint = Checkpoint(folder, self.config)
        self.model = Model(self.config, checkpoint)
        self.experts, self.others = (
            ExpertRunner(ReferenceDevice(device), self.config, checkpoint) for _ in range(2))

    def serve(self, requests, room=None, pim=False, **limits):
        """(server, what became of each request by id, its logits by id)."""
        attention = NumpyAttention(self.config, room)
        if pim:
            attention = AttentionRunner(self.experts.kernels, self.config, self.experts.memory)
            free = attention.memory.free_bytes
        decoder = Decoder(self.model, self.experts, attention=attention)
        server = Server(decoder, Clock(CONFIG, self.config, False), **limits)
        found, logits = {}, {}
        for served, row in server.run(requests):
            found[served.request.id] = served
            if row is not None:
                logits.setdefault(served.request.id, []).append(row)
        assert all(s.stream is None for s in found.values())
        assert attention.memory.free_bytes == free if pim else not attention._used
        return server, found, logits


@pytest.fixture(scope="module")
def bundled(bundled_model):
    return Bench(bundled_model)


@pytest.fixture
def bench(make_model):
    return Bench(make_model())


def make(id, length, tokens=3, arrival=0.0, seed=0):
    prompt = np.random.default_rng(100 * length + seed).integers(1, 250, length)
    return Request(id=id, prompt=tuple(prompt.tolist()), tokens=tokens, arrival=arrival)


def test_bits_of_a_request_alone(bundled, seed):
    """Sixteen of mixed lengths: token ids and logits, whatever joins and leaves meanwhile."""
    random = np.random.default_rng(seed)
    requests = [make(str(i), int(random.integers(1, 9)), int(random.integers(1, 5)), seed=i)
                for i in range(16)]
    server, found, logits = bundled.serve(requests, max_batch=16)
    assert server.steps[0].sequences == 16 and server.steps[-1].sequences < 16
    late = [replace(r, arrival=i * server.steps[-1].spent.seconds)
            for i, r in enumerate(requests)]
    other, _, again = bundled.serve(late, max_batch=5, max_prefill=16)
    assert {s.phase for s in other.steps} == {"prefill", "mixed", "decode"}
    for request in requests:
        _, alone, rows = bundled.serve([request])
        assert found[request.id].ids == alone[request.id].ids
        for batch in (logits, again):
            bits = [np.array(x).view(np.uint32) for x in (batch[request.id], rows[request.id])]
            assert np.array_equal(*bits) and len(bits[0]) == request.tokens


def test_device_cache(make_model):
    """The same with keys and values in a DRAM that has no room for all of them at once."""
    bench = Bench(make_model(max_position_embeddings=4096),
                  CONFIG.replace(dram=replace(CONFIG.dram, rows=4)))
    requests = [make(str(i), 2 + i, 4, seed=i) for i in range(8)] + [make("never", 9, 3000)]
    server, found, logits = bench.serve(requests, pim=True, max_batch=8)
    assert 1 < max(s.sequences for s in server.steps) < 8
    assert found["never"].finish == "error" and "the KV cache is full" in found["never"].error
    for request in requests[:-1]:
        _, alone, rows = bench.serve([request], pim=True)
        assert alone[request.id].ids == found[request.id].ids
        assert np.array_equal(*(np.array(x).view(np.uint32)
                                for x in (rows[request.id], logits[request.id])))


@pytest.mark.parametrize("name", ["switch", "gpt_oss"])
def test_other_families(name):
    """An encoder reads what joins; experts have biases."""
    bench = Bench(FAMILIES / name)
    requests = [Request(id=str(i), prompt=tuple(range(5, 7 + i)), tokens=3) for i in range(4)]
    _, found, logits = bench.serve(requests, max_prefill=5, pim=True)
    for request in requests:
        _, alone, rows = bench.serve([request], pim=True)
        assert alone[request.id].ids == found[request.id].ids
        assert np.array_equal(*(np.array(x).view(np.uint32)
                                for x in (rows[request.id], logits[request.id])))


def test_first_come_first_served(bench):
    """Nobody overtakes: a long prompt waits for room, and short ones behind it wait with it."""
    requests = [make("late", 2, arrival=1.0), make("a", 4, 4), make("b", 4, 2), make("long", 30),
                make("short", 1)]
    server, found, _ = bench.serve(requests, room=40, max_batch=4)
    assert list(found) == ["a", "b", "long", "short", "late"]
    assert found["a"].joined == found["b"].joined == 0.0
    # 14 tokens are taken: the 33 wait until a has left, and short only because of the order.
    assert found["long"].joined == found["a"].times[-1] == found["short"].joined > 0
    assert found["late"].joined == 1.0 and found["late"].t2ft == pytest.approx(
        server.steps[-3].spent.seconds)
    for served in found.values():
        assert served.times == sorted(served.times) and len(served.times) == len(served.ids)
        assert served.e2e == pytest.approx(served.t2ft + sum(served.tbt))


def test_limits(bench):
    requests = [make(str(i), 5, 4, seed=i) for i in range(6)]
    server, found, _ = bench.serve(requests, max_batch=4, max_prefill=11)
    assert [s.prompt_tokens for s in server.steps][:3] == [10, 10, 0]
    assert max(s.sequences for s in server.steps) == 4
    server, *_ = bench.serve([make("a", 20), make("b", 5), make("c", 5)], max_prefill=12)
    assert [s.prompt_tokens for s in server.steps][:3] == [20, 10, 0]
    assert {s.finish for s in found.values()} == {"length"}


def test_refused_alone(bench):
    """Too long for the model, and too long for the cache, even when it is empty."""
    requests = [make("model", 60, 20), make("a", 3), make("cache", 20, 20), make("b", 3)]
    _, found, _ = bench.serve(requests, room=30)
    assert {i: s.finish for i, s in found.items()} == {
        "model": "error", "cache": "error", "a": "length", "b": "length"}
    assert "was made for 64" in found["model"].error and "30 are free" in found["cache"].error
    _, alone, _ = bench.serve([requests[1]])
    assert found["a"].ids == alone["a"].ids


@pytest.mark.parametrize("prompt", [(5, 7), (7,), (9, 4)])
def test_given_up_alone(bench, prompt):
    """Activations that are no numbers are found among the experts' operands of all sequences.

    In the last case only once the request has made a token.
    """
    requests = [make("a", 3), Request(id="bad", prompt=prompt, tokens=4), make("b", 4)]
    good = {r.id: bench.serve([r])[1][r.id].ids for r in (requests[0], requests[2])}
    first = bench.serve([requests[1]])[1]["bad"].ids[0]
    damaged = 7 if 7 in prompt else first
    assert damaged not in {t for i in good for t in good[i][:-1]}
    bench.model.outer["embedding"][damaged] = np.nan
    _, found, _ = bench.serve(requests)
    assert found["bad"].finish == "error" and "not finite in FP16" in found["bad"].error
    assert len(found["bad"].ids) == (7 not in prompt)
    assert {i: found[i].ids for i in good} == good


def test_stops(bench):
    request = make("a", 3, 6)
    _, found, _ = bench.serve([request])
    stop = found["a"].ids[2]
    _, found, _ = bench.serve([replace(request, ended=lambda ids: ids[-1] == stop)])
    assert found["a"].finish == "stop" and found["a"].ids[-1] == stop
    assert len(found["a"].ids) <= 3


def test_checked_against_a_reference(bench):
    """Wrong bits in the experts' matrices of one side show, in each request that uses them."""
    decoder = Decoder(bench.model, bench.experts, bench.others)
    server = Server(decoder, Clock(CONFIG, bench.config, False))
    requests = [make("a", 3), make("b", 5)]
    assert all(s.matches for s, _ in server.run(requests)) and decoder.matches
    bench.others.device.dram(0).reshape(CONFIG.dram.bundles, -1)[:, :1 << 15] ^= 4
    assert not any(s.matches for s, _ in server.run(requests)) and not decoder.matches


def test_modelled_time(bench):
    """The sum of rooflines of all operations, experts on Logic-PIM, counted anew."""
    server, found, _ = bench.serve([make("a", 3, 2)])
    clock = CONFIG.clock_hz
    peaks = {"xPU": (989.4e12 / 160, 32 * clock), "Logic-PIM": (1024 * clock, 128 * clock)}
    total = 0
    for done in server.decoder.operations.values():
        for o in done:
            if o.name == "expert activation" and o.place == "Logic-PIM":
                continue  # in the shadow of the products
            flops, rate = peaks[str(o.place)]
            total += max(o.flops / flops, o.bytes / rate)
    assert server.now == pytest.approx(total, rel=1e-9) and found["a"].e2e == server.now
