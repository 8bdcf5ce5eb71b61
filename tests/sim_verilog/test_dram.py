# SPDX-License-Identifier: BSD-2-Clause
"""The harness's DRAM beside the one in Python: same traces, data, contents; faults are told."""

import numpy as np
import pytest

from logicpim.sim.dram.model import DramModel, Slot
from logicpim.sim.verilog.binding import Job, Model, Outcome
from logicpim.sim.verilog.build import model_library
from logicpim.spec.dram import DramCommand as C


@pytest.fixture(scope="module")
def library(puppet_config, puppet_top):
    return model_library(puppet_config, puppet_top)


@pytest.fixture
def model(library, puppet_config, seed):
    model = Model(library, puppet_config, seed)
    model.memories[0][:] = np.random.default_rng(seed).integers(0, 256, model.memories[0].size)
    yield model
    model.close()


def play(model, config, words):
    """Run instructions one a clock; the byte seen on the read bus in the clock of each."""
    job = Job(config, words)
    model.begin()
    assert model.run(job, len(words) + 10) is Outcome.DONE
    assert (np.diff(job.issue_clocks.astype(int)) == 1).all()
    return job.statuses


def addresses(config, random):
    """A random (bundle, lane), how a bank and how the bundle is addressed, a row, a column."""
    org = config.dram
    bundle, lane = int(random.integers(org.bundles)), int(random.integers(org.bundle_banks))
    rank, group, bank = org.bank_of(bundle, lane)
    return (bundle, lane), (rank, group, bank), (rank, 0, bundle), int(
        random.integers(org.rows)), int(random.integers(org.columns))


def row_slot(config, random, open_):
    """A row command that opens no open bank; ``open_`` follows it. And the bundle it touches."""
    at, single, whole, row, _ = addresses(config, random)
    banks = [(at[0], i) for i in range(config.dram.bundle_banks)]
    kind = random.random()
    if kind < 0.2 and not any(b in open_ for b in banks):
        open_.update((b, row) for b in banks)
        return Slot(C.ALL_ACT, *whole, row), at[0]
    if kind < 0.4 and at not in open_:
        open_[at] = row
        return Slot(C.ACT, *single, row), at[0]
    if 0.4 < kind < 0.41:
        for b in banks:
            open_.pop(b, None)
        return Slot(C.ALL_PRE, *whole, 0), at[0]
    if 0.45 < kind < 0.47:
        open_.pop(at, None)
        return Slot(C.PRE, *single, 0), at[0]
    return Slot(), None


def column_slot(config, random, open_, touched, path):
    """A column command, of bundles only if one row is open in all banks; mostly sound."""
    at, single, whole, _, column = addresses(config, random)
    banks = [(at[0], i) for i in range(config.dram.bundle_banks)]
    kind, wrong = random.random(), random.random() < 0.1
    if kind > 0.6 or at[0] in touched:
        return Slot()
    if path[at[0]] != wrong and len({open_.get(b) for b in banks}) == 1:
        return Slot(random.choice([C.ALL_RD, C.ALL_WR]), *whole, column)
    if path[at[0]] == wrong:
        return Slot(random.choice([C.RD, C.WR]), *single, column)
    return Slot()


def script(config, random, clocks):
    """A random score: row slots, column slots, path bits, mask, byte to write, bus to look at."""
    open_, score = {}, []
    path = [random.random() < 0.5 for _ in range(config.dram.bundles)]
    for _ in range(clocks):
        if random.random() < 0.02:
            path[random.integers(len(path))] ^= True
        # A column of a bundle whose rows change in the same clock is left out: the model in
        # Python takes all row commands of a clock first.
        rows, touched = zip(*(row_slot(config, random, open_) for _ in range(2)), strict=True)
        columns = [column_slot(config, random, open_, touched, path) for _ in range(2)]
        score.append((rows, columns, sum(p << b for b, p in enumerate(path)),
                      int(random.integers(1 << config.granule_bytes)), int(random.integers(256)),
                      int(random.integers(2))))
    return score


def test_equals_the_model_in_python(model, puppet_config, pull, seed):
    config = puppet_config
    twin = DramModel(config, model.memories[0].copy(), seed)
    score = script(config, np.random.default_rng(seed), 3000)
    names = ("command", "rank", "bank_group", "bank")
    words, known = [], []
    reads = [twin.step()]  # the clock in which the first instruction is accepted
    for rows, columns, path, mask, byte, whole in score:
        known.append(dict(twin.carrying))
        slots = {f"row{i}": dict(zip((*names, "row"), s, strict=True)) for i, s in enumerate(rows)}
        slots |= {f"column{i}": dict(zip((*names, "column"), s, strict=True))
                  for i, s in enumerate(columns)}
        words.append(pull(**slots, path=path, mask=mask, byte=byte, low=whole))
        fill = bytes([byte])
        reads.append(twin.step(rows, columns, path,
                               int.from_bytes(fill * config.word_bytes, "little"),
                               int.from_bytes(fill * config.granule_bytes, "little"), mask))
    seen = play(model, config, words)
    data = 0
    for i, (*_, whole) in enumerate(score):
        if bool(whole) in known[i]:
            data += 1
            assert seen[i] == reads[i][not whole] & 255, i
    assert data > 100
    trace = model.take_trace(0)
    want = twin.trace[np.argsort(twin.trace["clock"], kind="stable")]
    assert len(trace) == len(want) > 1000 and (trace == want).all()
    assert (model.memories[0] == twin.memory).all()
    assert model.state(0).faults == len(twin.faults) > 0


def test_garbage_changes(model, puppet_config, pull):
    seen = play(model, puppet_config, [pull()] * 600)
    assert len(set(seen.tolist())) > 100 and (np.diff(seen.astype(int)) != 0).mean() > 0.9


ACT, ALL = {"command": C.ACT, "bank": 1, "row": 5}, {"command": C.ALL_ACT, "row": 5}


@pytest.mark.parametrize("clocks, fault", [
    ([{"column0": {"command": C.RD}}], "finds a bank closed"),
    ([{"column1": {"command": C.ALL_RD}, "path": 1}], "finds a bank closed"),
    ([{"row0": ALL}, {"column0": {"command": C.ALL_RD}}], "finds the path bit wrong"),
    ([{"row0": ALL}, {"column0": {"command": C.ALL_RD}, "path": 1}], "moves data with the path"),
    ([{"row0": ALL, "column0": {"command": C.ALL_WR}, "path": 1}], "moves data with the path"),
    ([{"row0": ACT}, {"column0": {"command": C.RD, "bank": 1}, "path": 1}],
     "finds the path bit wrong"),
    ([{"row0": ACT}, {"row1": ACT}], "opens a row in an open bank"),
    ([{"row0": ACT}, {"row1": ALL}], "opens a row in an open bank"),
    ([{"row0": ACT}, {f"column{i}": {"command": C.RD, "bank": 1} for i in (0, 1)}],
     "moves data together"),
    ([{"row0": {"command": C.RD}}], "is no row command"),
    ([{"row0": {"command": 15}}], "is no row command"),
    ([{"column0": {"command": C.ACT}}], "is no column command"),
    ([{"row0": {"command": C.ACT, "rank": 1}}], "not there"),
    ([{"row0": {"command": C.ALL_ACT, "bank": 2}}], "not there"),
    ([{"respond": 1}], "a response to no host request"),
])
def test_faults(model, puppet_config, pull, clocks, fault):
    play(model, puppet_config, [pull(**values) for values in clocks])
    model.idle(20)
    state = model.state(0)
    assert state.faults and fault in state.first_fault.decode()


def test_no_fault(model, puppet_config, pull):
    play(model, puppet_config, [pull(row0=ALL, path=1)] + [pull(path=1)] * 3
         + [pull(column0={"command": C.ALL_RD}, path=1)] + [pull(path=1)] * 20
         + [pull(row0={"command": C.ALL_PRE}), pull(row1=ACT, row0={"command": C.REFAB})])
    assert model.state(0).faults == 0 and model.state(0).last_command.row == 5
