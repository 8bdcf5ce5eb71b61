"""Kernels against the golden model: any size, any buffers, any number of channels."""

import numpy as np
import pytest

from logicpim.driver.kernel import Job, Kernels, _units
from logicpim.driver.memory import Memory, load, load_quantised
from logicpim.driver.quantise import quantise
from logicpim.driver.stats import Stats
from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.model.gemm import gemm
from logicpim.spec.config import Config, Tile
from logicpim.spec.device import STALLS
from logicpim.spec.dram import Organisation
from logicpim.spec.errors import CapacityError, LogicPimError
from logicpim.spec.isa import Completion, Format, Status
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]
TIGHT = SMALL.replace(input_buffer_bytes=128, temp_buffer_bytes=128)

DEEP = Config(name="deep", tile=Tile(tokens=1, rows=2, depth=16, groups=1), channels=2,
              dram=Organisation(ranks=1, bank_groups=2, banks_per_group=2, rows=256, columns=8,
                                bundle_banks=2),
              input_buffer_bytes=512, temp_buffer_bytes=256)


class Recorder(ReferenceDevice):
    """Counts what the driver asks for, and what clocks would be."""

    timed = True

    def __init__(self, config):
        super().__init__(config)
        self.programs, self.written, self.clocks = [], 0, {}

    def write_buffer(self, channel, buffer, line, data):
        self.written += data.size
        super().write_buffer(channel, buffer, line, data)

    def execute(self, programs):
        self.programs.append(programs)
        for channel, program in programs.items():
            self.clocks[channel] = self.clocks.get(channel, 0) + 100 * len(program) + channel
        return super().execute(programs)

    def counters(self, channel):
        clocks = self.clocks.get(channel, 0)
        return {"cycles": clocks, "active": clocks // 4, "words_read": clocks, "refreshes": 1,
                **{c.name.lower(): 0 for c in STALLS}, "stall_control": clocks - clocks // 4}


def patterns(random, *shape):
    return random.standard_normal(shape).astype(np.float16).view(np.uint16)


def place(memory, device, w_bits, space=0):
    matrix = memory.place(*w_bits.shape, space)
    load(device, matrix, w_bits)
    return matrix


@pytest.mark.parametrize("output", [Format.FP16, Format.FP32])
@pytest.mark.parametrize("config", [SMALL, TIGHT, SMALL.replace(channels=4),
                                    TIGHT.replace(channels=2), DEEP, PRESETS["channel"]],
                         ids=["small", "tight", "small4", "tight2", "deep", "channel"])
def test_any_size(config, output, seed):
    random = np.random.default_rng(seed)
    device, memory = ReferenceDevice(config), Memory(config)
    kernels = Kernels(device)
    for m, n, k in [(1, 1, 1), (2, 4, 8), (3, 5, 7), (9, 23, 17), (33, 70, 12), (1, 130, 25),
                    *random.integers(1, 30, (4, 3)).tolist()]:
        x, w = patterns(random, m, k), patterns(random, n, k)
        job = Job(x, (place(memory, device, w),))
        (y,), = kernels.run([job], output)
        assert np.array_equal(y, gemm(x, w, config.tile.depth, output)), (m, n, k)


@pytest.mark.parametrize("config", [SMALL, TIGHT], ids=["small", "tight"])
def test_jobs_together(config, seed):
    random = np.random.default_rng(seed)
    device, memory = ReferenceDevice(config), Memory(config)
    jobs, wanted = [], []
    for i in range(7):
        x = patterns(random, 1 + i % 3, 20)
        ws = [patterns(random, 11 + i, 20) for _ in range(2)]
        jobs.append(Job(x, tuple(place(memory, device, w, i % 2) for w in ws)))
        wanted.append([gemm(x, w, config.tile.depth, Format.FP32) for w in ws])
    found = Kernels(device).run(jobs)
    assert all(np.array_equal(a, b) for f, w in zip(found, wanted, strict=True)
               for a, b in zip(f, w, strict=True))


def test_shared_operands_cut_differently(seed):
    """A wide and a narrow matrix take the same tokens in unequal portions."""
    random = np.random.default_rng(seed)
    device, memory = ReferenceDevice(TIGHT), Memory(TIGHT)
    x = patterns(random, 16, 4)
    ws = [patterns(random, n, 4) for n in (16, 2, 9)]
    jobs = [Job(x, (place(memory, device, w),)) for w in ws]
    for (y,), w in zip(Kernels(device).run(jobs), ws, strict=True):
        assert np.array_equal(y, gemm(x, w, TIGHT.tile.depth, Format.FP32))


def test_shared_operands_are_written_once_and_in_one_program(seed):
    random = np.random.default_rng(seed)
    device, memory = Recorder(SMALL), Memory(SMALL)
    x = patterns(random, 2, 8)
    pairs = [tuple(place(memory, device, patterns(random, 5, 8)) for _ in range(2))
             for _ in range(3)]
    Kernels(device).run([Job(x, pair) for pair in pairs])
    assert device.written == SMALL.line_bytes
    assert [len(program[0]) for program in device.programs] == [6]


def test_stats():
    config = SMALL.replace(channels=2)
    device, memory, stats = Recorder(config), Memory(config), Stats()
    x, w = np.zeros((3, 10), np.uint16), np.zeros((12, 10), np.uint16)
    kernels = Kernels(device)
    job = Job(x, (place(memory, device, w),))
    kernels.run([job], stats=stats)
    kernels.run([job], stats=stats)
    # Channel 1 took longer: 101 clocks for its one instruction, twice.
    assert (stats.programs, stats.gemms, stats.cycles) == (2, 2, 202)
    assert stats.cycles == stats.active + sum(stats.stalls.values())
    assert stats.words_read == 402
    assert stats.weight_bytes == 2 * 12 * 10 * 2 and stats.macs == 2 * 3 * 12 * 10
    assert stats.bandwidth_efficiency(config) == 480 / (2 * 202 * config.beat_bytes)
    assert stats.mac_utilisation(config) == 720 / (2 * 202 * config.tile.macs)
    assert Stats().bandwidth_efficiency(config) is None


def test_tokens_in_one_instruction():
    """At most what its field holds, and whole passes over the weights where there is room."""
    config = SMALL.replace(input_buffer_bytes=1 << 22, temp_buffer_bytes=1 << 22)
    job = Job(np.zeros((150000, 1), np.uint16), (Memory(config).place(1, 1, 0),))
    units = list(_units(config, 0, job, Format.FP32))
    assert sum(u.m for u in units) == 150000 and [u.first for u in units][0] == 0
    assert all(u.m < 1 << 16 and u.m % config.tile.max_tokens == 0 for u in units[:-1])
    assert len(units) == 3


def test_reduction_too_long():
    memory = Memory(SMALL)
    with pytest.raises(CapacityError, match="K = 1025 needs 129 operand lines.*has 128"):
        Kernels(ReferenceDevice(SMALL)).run(
            [Job(np.zeros((1, 1025), np.uint16), (memory.place(1, 1025, 0),))])


def test_refusal_by_the_device_is_an_error():
    class Refusing(ReferenceDevice):
        def execute(self, programs):
            return {c: [Completion(i.tag, Status.DRAM_RANGE) for i in p]
                    for c, p in programs.items()}
    job = Job(np.zeros((1, 4), np.uint16), (Memory(SMALL).place(1, 4, 0),))
    with pytest.raises(LogicPimError, match=Status.DRAM_RANGE.reason):
        Kernels(Refusing(SMALL)).run([job])


BYTES = PRESETS["small"].replace(formats=("fp16", "int8", "fp8_e4m3"), channels=2)


@pytest.mark.parametrize("config", [
    BYTES, BYTES.replace(input_buffer_bytes=256, temp_buffer_bytes=128)], ids=["small", "tight"])
@pytest.mark.parametrize("group", [0, 16, 32])
def test_scales(config, group, seed):
    """Quantised matrices, cut anywhere, beside those of FP16; scales of the right rows."""
    random = np.random.default_rng(seed)
    device, memory = ReferenceDevice(config), Memory(config)
    jobs, wanted = [], []
    for fmt, (m, n, k) in zip((Format.INT8, Format.FP16, Format.FP8_E4M3, Format.INT8),
                              [(1, 45, 45), (3, 9, 20), (2, 70, 33), (19, 5, 40)], strict=True):
        x = patterns(random, m, k)
        if fmt == Format.FP16:
            w = patterns(random, n, k)
            jobs.append(Job(x, (place(memory, device, w),)))
            wanted.append(gemm(x, w, config.tile.depth, Format.FP32))
            continue
        values = random.standard_normal((n, k))
        matrix = load_quantised(device, memory.place(n, k, 0, fmt=fmt), values, group)
        jobs.append(Job(x, (matrix,)))
        w, scales = quantise(values, fmt, group or None)
        assert np.array_equal(scales, matrix.scales) and matrix.scale_group == group // 16
        wanted.append(gemm(x, w, config.tile.depth, Format.FP32, weights=fmt, scales=scales,
                           scale_group=group or None))
    for (y,), expected in zip(Kernels(device).run(jobs), wanted, strict=True):
        assert np.array_equal(y, expected)


def test_scales_too_many():
    config = BYTES.replace(input_buffer_bytes=256)
    matrix = load_quantised(ReferenceDevice(config),
                            Memory(config).place(1, 112, 0, fmt=Format.INT8),
                            np.ones((1, 112)), 16)
    with pytest.raises(CapacityError, match="K = 112 needs 14 operand lines and 4 of scales"):
        Kernels(ReferenceDevice(config)).run([Job(np.zeros((1, 112), np.uint16), (matrix,))])
