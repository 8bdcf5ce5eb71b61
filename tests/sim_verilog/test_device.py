# SPDX-License-Identifier: BSD-2-Clause
"""The device on the generated Verilog: equal to the reference, and loud where it is not sound."""

import numpy as np
import pytest

from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.verilog import DeviceFault, Pauses, Requests, VerilatorDevice
from logicpim.spec.device import STALLS, Region
from logicpim.spec.errors import CapacityError, LogicPimError
from logicpim.spec.isa import Buffer, Completion, Format, Instruction, Opcode, Status
from logicpim.spec.presets import PRESETS, load_config

SMALL = PRESETS["small"]


def programs(config, random):
    """A program with everything in it, for random contents."""
    def gemm(m, n, k, **more):
        return Instruction(Opcode.GEMM, m=m, n=n, k=k, tag=int(random.integers(1 << 16)), **more)
    return [
        gemm(3, 9, 21, address=5),
        gemm(1, 1, 1, address=600, source_line=7, output_format=Format.FP32),
        Instruction(Opcode.FENCE, tag=9),
        gemm(7, 6, 9, address=1023),  # runs past the end: refused
        Instruction(Opcode.LOAD, address=100, length=5, buffer=Buffer.TEMP, result_line=60),
        gemm(5, 12, 16, address=512, result_line=20),
        gemm(6, 10, 20, address=77, result_line=20, output_format=Format.FP32, accumulate=1),
        gemm(1, 3, 5, address=80, result_line=20, output_format=Format.FP32, accumulate=1),
        gemm(1, 3, 5, address=90, result_line=20, output_format=Format.FP32, accumulate=1),
        gemm(2, 3, 5, address=99, result_line=21, accumulate=1),  # FP16 results: refused
        gemm(5, 8, 21, address=130, result_line=30, transpose=1),
        gemm(1, 3, 7, address=9, result_line=32, transpose=1, accumulate=1,
             output_format=Format.FP32),
        gemm(1, 9, 7, address=9, transpose=1),  # too many columns: refused
        Instruction(Opcode.STORE, address=300, length=7, source_line=2),
        Instruction(Opcode.STORE, address=700, length=20, buffer=Buffer.TEMP),
        0xFF,
        gemm(2, 20, 8, address=40, result_line=90, output_format=Format.FP32),
        gemm(2, 20, 8, address=80, result_line=100, output_format=Format.FP32),
        Instruction(Opcode.ACTIVATE, tag=3, m=2, n=20, gated=1, input_format=Format.FP32,
                    source_line=90, second_line=100, result_line=33),
        gemm(2, 9, 20, address=90, source_line=33, result_line=110),
        Instruction(Opcode.SOFTMAX, tag=4, m=2, n=9, length=9, scale=0x7F800000),  # refused
        Instruction(Opcode.SOFTMAX, tag=5, m=2, n=9, length=8, causal=1, scale=0x3F800000,
                    source_line=110, result_line=40),
    ]


def fill(device, channel, config, random):
    values = random.standard_normal(config.capacity_bytes // 2).astype(np.float16)
    device.dram(channel)[:] = values.view(np.uint8)
    for buffer, lines in ((Buffer.INPUT, config.input_lines), (Buffer.TEMP, config.temp_lines)):
        values = random.standard_normal(lines * config.line_bytes // 2).astype(np.float16)
        device.write_buffer(channel, buffer, 0, values.view(np.uint8))


def everything(device, channel, config):
    return [device.dram(channel).copy()] + [
        device.read_buffer(channel, buffer, 0, lines * config.line_bytes)
        for buffer, lines in ((Buffer.INPUT, config.input_lines), (Buffer.TEMP, config.temp_lines))]


@pytest.mark.parametrize("pauses", [Pauses(), Pauses(200, 100, 30, 230)])
def test_equals_the_reference(pauses, seed):
    config = SMALL.replace(channels=2)
    with VerilatorDevice(config, seed=seed, pauses=pauses) as device:
        reference = ReferenceDevice(config)
        for channel in range(2):
            for each in (device, reference):
                fill(each, channel, config, np.random.default_rng(seed + channel))
        device.clear_counters()
        random = np.random.default_rng(seed)
        work = {channel: programs(config, random) for channel in range(2)}
        done = device.execute(work)
        assert done == reference.execute(work)
        assert [c.status for c in done[0]][3] is Status.DRAM_RANGE
        for channel in range(2):
            counters = device.counters(channel)
            assert counters["cycles"] == counters["active"] + sum(
                counters[c.name.lower()] for c in STALLS)
            assert 0 < counters["cycles"] <= device.cycles[channel] + 1
            for a, b in zip(everything(device, channel, config),
                            everything(reference, channel, config), strict=True):
                assert (a == b).all()


@pytest.mark.full
@pytest.mark.parametrize("changes", [
    ["tile.tokens=1", "tile.groups=1"],
    ["tile.tokens=8", "tile.groups=4", "temp_buffer_bytes=16384", "input_buffer_bytes=8192"],
    ["tile.rows=2", "dram.bundle_banks=2", "tile.depth=16"],
    ["tile.rows=8", "tile.depth=8", "dram.bundle_banks=8", "dram.ranks=2"],
    ["dram.bank_groups=1", "dram.banks_per_group=8", "dram.columns=4", "word_fifo=4"],
    ["timing_overrides.nCL=70", "timing_overrides.nCWL=1", "refresh=false"],
    ["queue_depth=2", "host_burst=1", "dram.bank_groups=4", "dram.banks_per_group=2"],
])
def test_odd_configurations(changes, seed):
    config = load_config("small", changes).replace(name="odd")
    random = np.random.default_rng(seed)
    with VerilatorDevice(config, seed=seed, pauses=Pauses(100, 100, 100, 100)) as device:
        reference = ReferenceDevice(config)
        for each in (device, reference):
            fill(each, 0, config, np.random.default_rng(seed))
        for _ in range(5):
            work = {0: programs(config, random)}
            assert device.execute(work) == reference.execute(work)
            for a, b in zip(everything(device, 0, config), everything(reference, 0, config),
                            strict=True):
                assert (a == b).all()


def test_host_port_reaches_everything(seed):
    """Masked writes and reads of all regions, in one go and with pauses, beside a program."""
    random = np.random.default_rng(seed)
    n, size = 300, SMALL.granule_bytes
    with VerilatorDevice(SMALL, pauses=Pauses(request=90, response=90)) as device:
        fill(device, 0, SMALL, random)
        before = everything(device, 0, SMALL)
        regions = random.integers(0, 3, n)
        address = random.integers(0, 256, n) + np.where(regions == 0, 256, 0)
        mask = random.integers(0, 256, (n, size // 8))
        cell = SMALL.tile.rows * 2  # bytes: buffers are written in whole ones
        assert cell == 8
        mask[regions != Region.DRAM] = np.where(mask[regions != Region.DRAM] & 1, 255, 0)
        requests = Requests(random.integers(0, 2, n), regions, address,
                            random.integers(0, 256, (n, size)), mask)
        program = [Instruction(Opcode.GEMM, m=2, n=40, k=8, address=0, result_line=64)] * 3
        device.execute({0: program}, {0: requests})
        after = everything(device, 0, SMALL)
    want = [memory.reshape(-1, size).copy() for memory in before]
    masks = np.unpackbits(requests.mask.astype(np.uint8), axis=1, bitorder="little").astype(bool)
    for i in range(n):
        granule = want[regions[i]][address[i]]
        if requests.write[i]:
            granule[masks[i]] = requests.data[i][masks[i]]
        elif regions[i] != Region.TEMP or address[i] < 128:  # the program writes the rest
            assert (requests.answers[i] == granule).all(), i
    assert not requests.errors.any()
    assert (after[0].reshape(-1, size) == want[0]).all()
    assert (after[1].reshape(-1, size) == want[1]).all()


@pytest.mark.parametrize("ownership", ["wait", "refuse"])
def test_ownership(ownership, seed):
    """Host accesses to the bundle of an instruction wait, or are refused and change nothing."""
    config, random = SMALL.replace(ownership=ownership), np.random.default_rng(seed)
    n, size, half = 2000, config.granule_bytes, config.dram.granules // config.dram.bundles
    with VerilatorDevice(config, seed=seed) as device, ReferenceDevice(config) as reference:
        for each in (device, reference):
            fill(each, 0, config, np.random.default_rng(seed))
        before = device.dram(0).reshape(-1, size).copy()
        # Each granule once, above the weights in bundle 0, anywhere in bundle 1.
        address = random.permutation(half // 2)[:n // 2] + half // 2
        address = np.stack([address, address + half], axis=1).reshape(-1)
        requests = Requests(np.arange(n) // 2 % 2, np.full(n, Region.DRAM), address,
                            random.integers(0, 256, (n, size)))
        program = [Instruction(Opcode.GEMM, m=2, n=120, k=16, address=0, result_line=8, tag=4)]
        done = device.execute({0: program}, {0: requests})
        assert done == reference.execute({0: program})
        after = device.dram(0).reshape(-1, size)
        error, write = requests.errors.astype(bool), requests.write.astype(bool)
        assert (everything(device, 0, config)[2] == everything(reference, 0, config)[2]).all()
    assert not error[1::2].any()
    assert not error.any() if ownership == "wait" else 0 < error.sum() < n // 2
    made = before.copy()
    made[address[write & ~error]] = requests.data[write & ~error]
    assert (after == made).all()
    read = ~write & ~error
    assert (requests.answers[read] == before[address[read]]).all()
    assert not requests.answers[error].any()


def test_trace(seed):
    with VerilatorDevice(SMALL, trace=True) as device, VerilatorDevice(SMALL) as other:
        for each in (device, other):
            each.execute({0: [Instruction(Opcode.GEMM, m=1, n=40, k=32)]})
            each.idle(0, 200_000)
        trace = device.trace(0)
        assert len(trace) > 100 and (np.diff(trace["clock"].astype(int)) >= 0).all()
        assert trace["clock"][-1] <= 2 * device.clocks(0) and device.clocks(0) > 200_000
        assert not len(other.trace(0))
        device.clear_trace()
        assert not len(device.trace(0))


def test_same_again():
    """Two devices of one seed do the same, clock by clock."""
    traces = []
    for _ in range(2):
        with VerilatorDevice(SMALL, trace=True, seed=3, pauses=Pauses(50, 50, 50, 50)) as device:
            device.execute({0: [Instruction(Opcode.GEMM, m=1, n=40, k=32)]})
            traces.append(device.trace(0))
    assert (traces[0] == traces[1]).all()


def test_a_violation_is_told(monkeypatch):
    """The checker sees what the Verilog does: with another notion of time it complains."""
    device = VerilatorDevice(SMALL)
    slow = SMALL.replace(timing_overrides={"nRCDRD": 40})
    from logicpim.sim.dram.checker import TraceChecker
    device._models._checkers[0] = TraceChecker(slow, 0)
    with device, pytest.raises(DeviceFault, match="protocol violated.*nRCDRD"):
        device.execute({0: [Instruction(Opcode.GEMM, m=1, n=4, k=8)]})


def test_a_stuck_channel_is_told(puppet_config, puppet_top, pull):
    with VerilatorDevice(puppet_config, check=False, idle_limit=500, top=puppet_top) as device:
        with pytest.raises(DeviceFault, match=r"channel 0 is stuck at clock 5\d\d.*1 of 1 instr.* "
                                              r"0 completed.*ACT rank 0"):
            device.execute({0: [pull(hang=1, row0={"command": 1})]})


def test_promises_broken_are_told(puppet_config, puppet_top, pull):
    with VerilatorDevice(puppet_config, check=False, top=puppet_top) as device:
        with pytest.raises(DeviceFault, match="a completion of no instruction"):
            device.execute({0: [pull(spurious=1, low=2)]})
            device.idle(0, 10)
    with VerilatorDevice(puppet_config, check=False, top=puppet_top) as device:
        with pytest.raises(DeviceFault, match="finds a bank closed.*1 faults"):
            device.execute({0: [pull(column0={"command": 8}, low=2)]})
            device.idle(0, 10)
    with VerilatorDevice(puppet_config, check=False, top=puppet_top) as device:
        with pytest.raises(DeviceFault, match=r"tags \[0\] for instructions with tags \[5\]"):
            device.execute({0: [pull(spurious=1, hang=1, tag=5, low=2)]})
    with VerilatorDevice(puppet_config, check=False, top=puppet_top) as device:
        with pytest.raises(DeviceFault, match=r"status \d+, which there is not"):
            for _ in range(9):  # the status is garbage
                device.execute({0: [pull()]})


def test_wrong_use():
    with VerilatorDevice(SMALL) as device:
        assert device.execute({}) == {} and device.execute({0: []}) == {0: []}
        with pytest.raises(LogicPimError, match="channel 1 does not exist"):
            device.dram(1)
        with pytest.raises(LogicPimError, match="not whole granules"):
            device.read_buffer(0, Buffer.INPUT, 0, 3)
        with pytest.raises(CapacityError, match="do not fit the temp buffer"):
            device.read_buffer(0, Buffer.TEMP, SMALL.temp_lines - 1, 2 * SMALL.line_bytes)
        with pytest.raises(TypeError, match="uint8"):
            device.write_buffer(0, Buffer.TEMP, 0, np.zeros(16, np.uint16))
        with pytest.raises(LogicPimError, match="256 bits"):
            device.execute({0: [1 << 256]})
        memory = device.dram(0)
        assert device.execute({0: [Instruction(Opcode.FENCE, tag=3)]}) == {
            0: [Completion(3, Status.OK)]}
    memory[:] = 1  # the array outlives the device
    with pytest.raises(RuntimeError, match="closed"):
        device.dram(0)
