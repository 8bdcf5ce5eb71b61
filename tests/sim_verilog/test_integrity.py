# SPDX-License-Identifier: BSD-2-Clause
"""Faults injected into the generated Verilog: bits of stored words, bits on the way, lanes."""

import numpy as np
import pytest

from logicpim.rtl.tsv.lanes import groups, lane_count, links
from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.verilog import Requests, VerilatorDevice
from logicpim.spec.device import Counter, LaneRegister, Region
from logicpim.spec.ecc import PART_BITS
from logicpim.spec.isa import Buffer, Instruction, Opcode, Status
from logicpim.spec.presets import PRESETS

pytestmark = pytest.mark.full

CONFIG = PRESETS["small"].replace(ecc=True, lane_repair=True)
GRANULES = CONFIG.dram.granules
PARTS = CONFIG.word_bits // PART_BITS
WHOLE = Instruction(Opcode.GEMM, m=3, n=256, k=64, address=512)
"""All words of a bundle."""


class Twins:
    """The device and the reference, filled and run alike."""

    def __init__(self, seed, config=CONFIG):
        self.config, self.rng = config, np.random.default_rng(seed)
        self.device = VerilatorDevice(config, seed=seed)
        self.reference = ReferenceDevice(config)
        self.refill()

    def refill(self):
        values = self.rng.standard_normal(self.config.capacity_bytes // 2).astype(np.float16)
        operands = self.rng.standard_normal(self.config.input_buffer_bytes // 2)
        for each in (self.device, self.reference):
            each.dram(0)[:] = values.view(np.uint8)
            each.write_buffer(0, Buffer.INPUT, 0, operands.astype(np.float16).view(np.uint8))

    def run(self, *program):
        """Statuses on the device, which are OK on the reference; and what the counters gained."""
        self.device.clear_counters()
        done = self.device.execute({0: program})[0]
        want = self.reference.execute({0: program})[0]
        assert [c.tag for c in done] == [c.tag for c in want]
        assert all(c.status == Status.OK for c in want)
        return [c.status for c in done], self.device.counters(0)

    def equal(self):
        config = self.config
        assert (self.device.dram(0) == self.reference.dram(0)).all()
        return all((self.device.read_buffer(0, buffer, 0, size)
                    == self.reference.read_buffer(0, buffer, 0, size)).all()
                   for buffer, size in ((Buffer.INPUT, config.input_buffer_bytes),
                                        (Buffer.TEMP, config.temp_buffer_bytes)))

    def host(self, write, address, data=None, mask=None, region=Region.DRAM):
        """One host access a row; (answers, errors)."""
        address = np.atleast_1d(address)
        if data is None:
            data = np.zeros((len(address), self.config.granule_bytes), np.uint8)
        requests = Requests(np.full(len(address), write), np.full(len(address), region), address,
                            data, mask)
        self.device.host(0, requests)
        return requests.answers, requests.errors

    def granule(self, address):
        size = self.config.granule_bytes
        return self.device.dram(0)[address * size:(address + 1) * size]


@pytest.fixture
def twins(seed):
    both = Twins(seed)
    with both.device:
        yield both


def test_one_wrong_bit_in_every_part(twins):
    """1e5 parts, each with one wrong bit on its way: all corrected, all counted."""
    parts = 0
    twins.device.disturb(0, 1)
    while parts < 100_000:
        statuses, counters = twins.run(WHOLE)
        assert statuses == [Status.OK] and twins.equal()
        assert counters["words_corrected"] == 512 * PARTS
        assert not counters["words_uncorrected"]
        parts += counters["words_corrected"]
        twins.refill()
    assert twins.device.disturb(0, 0) == parts


def test_two_wrong_bits_in_every_part(twins):
    """1e5 parts with two: every one detected, none taken for another error."""
    parts = 0
    twins.device.disturb(0, 2)
    while parts < 100_000:
        statuses, counters = twins.run(WHOLE)
        assert statuses == [Status.DATA_ERROR]
        assert counters["words_uncorrected"] == 512 * PARTS and not counters["words_corrected"]
        parts += counters["words_uncorrected"]
        twins.refill()
    assert twins.device.disturb(0, 0) == parts


@pytest.mark.parametrize("bits", [1, 2])
def test_host_reads(twins, bits):
    """The xPU path's decoder, likewise."""
    twins.device.clear_counters()
    twins.device.disturb(0, bits)
    addresses = twins.rng.integers(0, GRANULES, 6000)
    answers, errors = twins.host(False, addresses)
    parts = twins.device.disturb(0, 0)
    counters = twins.device.counters(0)
    want = twins.reference.dram(0).reshape(GRANULES, -1)[addresses]
    assert parts == 6000 * CONFIG.granule_bits // PART_BITS
    assert counters["host_corrected"] == parts * (bits == 1)
    assert counters["host_uncorrected"] == parts * (bits == 2)
    assert ((answers == want).all() and not errors.any()) if bits == 1 else errors.all()


def test_wrong_bits_at_rest(twins):
    """Any stored bit, data or check: corrected each time it is read, until it is written anew."""
    parts = twins.rng.choice(512 * PARTS, 300, replace=False)
    per_granule = CONFIG.granule_bits // PART_BITS
    for part in parts:
        granule, part = 512 * CONFIG.dram.bundle_banks + part // per_granule, part % per_granule
        bit = int(twins.rng.integers(72))
        twins.device.inject(0, int(granule), int(
            part * PART_BITS + bit if bit < PART_BITS
            else CONFIG.granule_bits + 8 * part + bit - PART_BITS))
    assert twins.device.wrong_granules(0)
    for _ in range(2):
        statuses, counters = twins.run(WHOLE)
        assert statuses == [Status.OK] and counters["words_corrected"] == 300
    for address in range(512, 1024, 32):
        twins.run(Instruction(Opcode.STORE, address=address, length=32))
    assert not twins.device.wrong_granules(0) and twins.equal()
    assert not twins.run(WHOLE)[1]["words_corrected"]


def test_status_names_the_instruction(twins):
    """The instruction that read it, no other, wherever in it the word was."""
    def gemm(block, m=2, tag=0):
        return Instruction(Opcode.GEMM, m=m, n=16, k=24, address=32 * block, tag=tag)

    def load(block):
        return Instruction(Opcode.LOAD, buffer=Buffer.TEMP, address=32 * block, length=9,
                           result_line=90)

    for word in (0, 5, 11):
        for bad in range(0, 12, 3):
            granule = (32 * bad + (word if bad != 9 else word * 8 // 11)) * 4
            for bit in twins.rng.choice(64, 2, replace=False):
                twins.device.inject(0, granule + 1, int(bit))
            program = [(load if block % 4 == 1 else gemm)(block) for block in range(12)]
            program[6] = gemm(6, m=11)  # in three passes
            program.insert(4, Instruction(Opcode.STORE, address=700, length=3))
            program.insert(8, Instruction(Opcode.FENCE))
            done, counters = twins.run(*program)
            at = bad + (bad >= 4) + (bad >= 7)
            assert [i for i, status in enumerate(done) if status != Status.OK] == [at]
            assert done[at] == Status.DATA_ERROR
            assert counters["words_uncorrected"] == (3 if bad == 6 else 1)
            twins.refill()
            twins.host(True, granule + 1, twins.granule(granule + 1)[None].copy())
            assert not twins.device.wrong_granules(0)


def test_masked_writes(twins):
    """Any mask, among whole writes and reads: the bytes and their check bits are right."""
    n, size = 500, CONFIG.granule_bytes
    rng, memory = twins.rng, twins.reference.dram(0).reshape(GRANULES, -1)
    write, address = rng.random(n) < 0.7, rng.integers(0, 40, n)
    data, bits = rng.integers(0, 256, (n, size), np.uint8), rng.random((n, size)) < 0.5
    bits[rng.random(n) < 0.3], bits[rng.random(n) < 0.1] = True, False
    requests = Requests(write, np.full(n, Region.DRAM), address, data,
                        np.packbits(bits, axis=1, bitorder="little"))
    twins.device.host(0, requests)
    for i in range(n):
        if write[i]:
            memory[address[i]][bits[i]] = data[i][bits[i]]
        else:
            assert (requests.answers[i] == memory[address[i]]).all()
    assert not requests.errors.any()
    assert twins.equal() and not twins.device.wrong_granules(0)


def test_host_errors(twins):
    """Read: error and the data as they are. Masked write: refused. Empty mask: heals one bit."""
    mask = np.array([[1, 0]], np.uint8)
    one = twins.granule(7).copy()
    twins.device.inject(0, 7, 100)
    answer, error = twins.host(False, 7)
    assert (answer == one).all() and not error.any() and (twins.granule(7) != one).any()
    assert not twins.host(True, 7, mask=0 * mask)[1].any()
    assert (twins.granule(7) == one).all() and not twins.device.wrong_granules(0)

    for bit in (3, CONFIG.granule_bits):
        twins.device.inject(0, 9, bit)
    damaged = twins.granule(9).copy()
    answer, error = twins.host(False, 9)
    assert error.all() and (answer == damaged).all()
    for each in (mask, 0 * mask):
        assert twins.host(True, 9, mask=each)[1].all()
        assert (twins.granule(9) == damaged).all() and twins.device.wrong_granules(0) == 1
    assert not twins.host(True, 9, one[None])[1].any()
    assert (twins.granule(9) == one).all() and not twins.device.wrong_granules(0)


def traffic(twins):
    """Whether what crosses all four links is right: a write and a read of each bus."""
    rng, size = twins.rng, CONFIG.granule_bytes
    data = rng.integers(0, 256, (4, size), np.uint8)
    data[0], data[1] = 0, 255
    errors = twins.host(True, np.arange(4), data)[1].any()
    answers, more = twins.host(False, np.arange(4))
    good = not errors and not more.any() and (answers == data).all()
    lines = rng.integers(0, 256, 4 * CONFIG.line_bytes, np.uint8)
    lines[:CONFIG.word_bytes] = 0
    twins.device.write_buffer(0, Buffer.INPUT, 0, lines)
    words = len(lines) // CONFIG.word_bytes
    done = twins.device.execute({0: [
        Instruction(Opcode.STORE, address=40, length=words),
        Instruction(Opcode.LOAD, buffer=Buffer.TEMP, address=40, length=words)]})[0]
    return (good and all(c.status == Status.OK for c in done)
            and (twins.device.read_buffer(0, Buffer.TEMP, 0, len(lines)) == lines).all()
            and not twins.device.wrong_granules(0))


def repairs(twins, number, lane, level):
    """A dead lane is found by its number, and after it data passes without a correction."""
    link, first, _ = groups(twins.config)[number]
    twins.device.stick(0, link, first + lane, level)
    assert twins.device.test_lanes(0) == (1, 0), (link, lane, level)
    assert twins.device.lane_groups(0)[number] == (lane, True, False)
    twins.device.clear_counters()
    assert traffic(twins), (link, lane, level)
    counters = twins.device.counters(0)
    assert not counters["words_corrected"] and not counters["host_corrected"]
    twins.device.stick(0, link, first + lane, None)


def test_a_dead_lane_of_each_group(twins):
    assert twins.device.test_lanes(0) == (0, 0) and traffic(twins)
    for number, (_, _, size) in enumerate(groups(CONFIG)):
        repairs(twins, number, int(twins.rng.integers(size + 1)), int(twins.rng.integers(2)))
    assert twins.device.test_lanes(0) == (0, 0)


@pytest.mark.parametrize("ecc", [True, False])
def test_every_dead_lane(seed, ecc):
    """All lanes of all links, one by one, stuck at 0 and at 1."""
    twins = Twins(seed, CONFIG.replace(ecc=ecc))
    with twins.device:
        tried = 0
        for number, (_, _, size) in enumerate(groups(twins.config)):
            for lane in range(size + 1):
                for level in (0, 1):
                    repairs(twins, number, lane, level)
                    tried += 1
        assert tried == 2 * sum(lane_count(twins.config, link) for link in links(twins.config))


def test_dead_lane_before_its_repair(twins):
    """ECC corrects what a dead lane does to a word until the test repairs it; of two dead lanes of
    a group one is repaired, and ECC has the other."""
    statuses, counters = twins.run(WHOLE)
    assert not counters["words_corrected"]
    twins.device.stick(0, "bundle_read", 3, 1)
    statuses, counters = twins.run(WHOLE)
    assert statuses == [Status.OK] and counters["words_corrected"] > 100 and twins.equal()
    assert twins.device.test_lanes(0) == (1, 0)
    assert not twins.run(WHOLE)[1]["words_corrected"]
    twins.device.stick(0, "bundle_read", 9, 0)
    assert not twins.run(WHOLE)[1]["words_corrected"] == 0
    assert twins.device.test_lanes(0) == (0, 1)
    statuses, counters = twins.run(WHOLE)
    assert statuses == [Status.OK] and counters["words_corrected"] > 100 and twins.equal()


def test_lane_test_beside_work(twins):
    """The test waits for the instruction at hand and holds back the next; nothing is harmed."""
    n = 60
    region = np.where(np.arange(n) % 20 == 10, Region.REGISTERS, Region.DRAM)
    address = np.where(region == Region.REGISTERS, LaneRegister.TEST, np.arange(n))
    data = twins.rng.integers(0, 256, (n, CONFIG.granule_bytes), np.uint8)
    requests = Requests(np.ones(n, bool), region, address, data)
    program = [Instruction(Opcode.GEMM, m=3, n=32, k=64, address=512, tag=i) for i in range(12)]
    done = twins.device.execute({0: program}, {0: requests})[0]
    assert done == twins.reference.execute({0: program})[0] and not requests.errors.any()
    memory = twins.reference.dram(0).reshape(GRANULES, -1)
    memory[address[region == Region.DRAM]] = data[region == Region.DRAM]
    assert twins.equal()


def test_registers_that_are_not_there(twins):
    """Between the counters and the lanes, and past the last group, is nothing."""
    last = LaneRegister.GROUPS + len(groups(CONFIG)) - 1
    count = len(Counter)
    for address, there in ((count - 1, True), (count, False), (63, False), (64, True), (65, False),
                           (127, False), (128, True), (last, True), (last + 1, False)):
        assert twins.host(False, address, region=Region.REGISTERS)[1].any() != there
