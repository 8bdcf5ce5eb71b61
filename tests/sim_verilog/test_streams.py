# SPDX-License-Identifier: BSD-2-Clause
"""Random streams of instructions, a third malformed, on the generated Verilog: as the reference.

After each stream (of ``channel``: after some), all of the DRAM and of both buffers is compared.
"""

import sys
import time
from collections import Counter

import numpy as np
import pytest

from logicpim.sim.bench.streams import Streams
from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.verilog import Pauses, Requests, VerilatorDevice
from logicpim.spec.device import Region
from logicpim.spec.isa import Buffer, Instruction, Opcode, Status
from logicpim.spec.presets import PRESETS, load_config

SMALL = PRESETS["small"]
ALL = 'formats=["fp16","bf16","fp8_e4m3","fp8_e5m2","int8"]'
FORMATS = load_config("small", [ALL])
# That of test_formats.py, so that it is built once.
DEEP = load_config("small", [ALL, "refresh=false", "dram.rows=128", "tile.tokens=4", "tile.depth=8",
                             "input_buffer_bytes=16384", "temp_buffer_bytes=65536"])
CHUNK = 1 << 22


class Pair:
    """A device on the Verilog and the reference, of equal contents."""

    def __init__(self, config, seed, *, windows=0, every=1, **options):
        self.config, self.seed, self.every = config, seed, every
        self.random = np.random.default_rng(seed + 1)
        self.streams = Streams(config, seed, windows=windows)
        self.device = VerilatorDevice(config, seed=seed, **options)
        self.reference = ReferenceDevice(config)
        self.counts, self.compared = Counter(), 0
        word = config.word_bytes
        size = 2 * config.dram.columns * word if windows else config.capacity_bytes
        for start in self.streams.starts * word:
            self.streams.fill(self.device.dram(0)[start:start + size])
        self.reference.dram(0)[:] = self.device.dram(0)
        for buffer in Buffer:
            filled = self.streams.fill(np.empty(self._bytes(buffer), np.uint8))
            for each in (self.device, self.reference):
                each.write_buffer(0, buffer, 0, filled)

    def _bytes(self, buffer):
        config = self.config
        return (config.temp_buffer_bytes if buffer is Buffer.TEMP else config.input_buffer_bytes)

    def run(self, count, length, progress=None):
        """So many streams, host reads alongside."""
        started = time.monotonic()
        for number in range(1, count + 1):
            self._one(number, self.streams.stream(self.streams._size(length)))
            if number % self.every == 0 or number == count:
                self._compare(number)
            if progress and number % progress == 0:
                print(f"{self.config.name}, {len(self.config.formats)} formats: {number} of "
                      f"{count} streams, {sum(self.counts.values())} instructions, "
                      f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)

    def _one(self, number, drawn):
        words = [word for word, _ in drawn]
        # One half of the streams come without a pause, as fast as they are taken.
        self.device.pauses = Pauses(*(self.random.integers(0, 230, 4) if number % 2 else [0] * 4))
        done = self.device.execute({0: words}, {0: self._reads(int(self.random.integers(20)))})[0]
        expected = self.reference.execute({0: words})[0]
        wrong = [f"{i}: {words[i]:#066x} answered {d.status.name}, not {e.status.name}"
                 for i, (d, e) in enumerate(zip(done, expected, strict=True)) if d != e]
        assert not wrong, f"stream {number} of seed {self.seed}: {wrong}"
        for (_, meant), answer in zip(drawn, done, strict=True):
            assert meant is None or answer.status == meant
            self.counts[answer.status] += 1

    def _reads(self, count):
        """Of any granules; what they find depends on when they come."""
        config = self.config
        regions = self.random.integers(0, 3, count)
        sizes = np.array([config.capacity_bytes, config.input_buffer_bytes,
                          config.temp_buffer_bytes]) // config.granule_bytes
        assert list(Region)[:3] == [Region.DRAM, Region.INPUT, Region.TEMP]
        return Requests(np.zeros(count), regions, self.random.integers(0, sizes[regions]),
                        np.zeros((count, config.granule_bytes), np.uint8))

    def _compare(self, number):
        where = f"differs after stream {number} of seed {self.seed}"
        memory, expected = (each.dram(0) for each in (self.device, self.reference))
        for start in range(0, memory.size, CHUNK):
            part = memory[start:start + CHUNK] != expected[start:start + CHUNK]
            assert not part.any(), f"DRAM byte {start + part.argmax()} {where}"
        for buffer in Buffer:
            size = self._bytes(buffer)
            part = (self.device.read_buffer(0, buffer, 0, size)
                    != self.reference.read_buffer(0, buffer, 0, size))
            assert not part.any(), f"{buffer.name} buffer's byte {part.argmax()} {where}"
        self.compared += 1

    def close(self):
        self.device.close()
        self.reference.close()


@pytest.fixture
def pair():
    """Makes a Pair that is closed in the end."""
    made = []

    def make(*args, **options):
        made.append(Pair(*args, **options))
        return made[-1]
    yield make
    for each in made:
        each.close()


def judge_counts(pair, least):
    """A third was refused, for every reason that there is."""
    total, refused = sum(pair.counts.values()), pair.counts.copy()
    del refused[Status.OK]
    assert 0.28 < sum(refused.values()) / total < 0.38
    assert set(refused) == set(pair.streams.refusals) and min(refused.values()) >= least


@pytest.mark.parametrize("config, every", [(SMALL, 1), (DEEP, 10)], ids=["small", "deep"])
def test_streams(config, every, seed, pair):
    pair = pair(config, seed, every=every)
    pair.run(100, 20)
    judge_counts(pair, 3)


@pytest.mark.full
@pytest.mark.parametrize("config, count", [(SMALL, 10_000), (FORMATS, 3_000)],
                         ids=["small", "formats"])
def test_ten_thousand_streams(config, count, seed, pair):
    pair = pair(config, seed)
    pair.run(count, 30, progress=500)
    assert pair.compared == count
    judge_counts(pair, count // 10)


@pytest.mark.full
def test_streams_of_a_channel(seed, pair):
    pair = pair(PRESETS["channel"], seed, windows=16, every=25)
    pair.run(500, 20, progress=50)
    judge_counts(pair, 40)


def test_a_difference_is_told(seed, pair):
    """One byte anywhere, one status: the comparison is worth something."""
    pair = pair(SMALL, seed)
    pair.run(2, 3)
    pair.device.dram(0)[-1] ^= 1
    with pytest.raises(AssertionError, match=f"DRAM byte {SMALL.capacity_bytes - 1} differs"):
        pair._compare(2)
    pair.device.dram(0)[-1] ^= 1
    pair.reference._buffer(0, Buffer.TEMP)[77] ^= 1
    with pytest.raises(AssertionError, match="TEMP buffer's byte 77 differs"):
        pair._compare(2)
    pair.reference._buffer(0, Buffer.TEMP)[77] ^= 1
    word = Instruction(Opcode.LOAD, tag=4, length=1).encode()
    with pytest.raises(AssertionError):
        pair._one(3, [(word, Status.ZERO_SIZE)])
