# SPDX-License-Identifier: BSD-2-Clause
"""A stack on the generated Verilog: random programs on sets of channels, the reference's bits."""

from dataclasses import replace

import numpy as np
import pytest

from logicpim.driver.ffn import FfnJob, FfnKernels
from logicpim.driver.kernel import Job, Kernels
from logicpim.driver.memory import Memory, load, load_quantised
from logicpim.driver.network import load_ffn, place
from logicpim.driver.stats import Stats
from logicpim.sim.model import layout
from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.model.gemm import gemm
from logicpim.sim.verilog import Pauses, Requests, VerilatorDevice
from logicpim.spec.device import STALLS, Region
from logicpim.spec.errors import ToolError
from logicpim.spec.functions import Function
from logicpim.spec.isa import Buffer, Format, Instruction, Opcode, Status
from logicpim.spec.presets import PRESETS

STACK = PRESETS["small"].replace(name="stack", channels=4, stack=True, formats=("fp16", "int8"))


class Random:
    """Random instructions: most are fine, their lines overlap, some break a rule."""

    def __init__(self, config, seed):
        self.config, self.rng = config, np.random.default_rng(seed)

    def number(self, least, most):
        return int(self.rng.integers(least, most + 1))

    def chance(self, p):
        return self.rng.random() < p

    def program(self, length):
        return [self.instruction() for _ in range(length)]

    def instruction(self):
        """(instruction or descriptor, its channels)."""
        channels = self.config.channels
        on = self.rng.permutation(channels)[:self.number(1, channels)]
        on = range(channels) if self.chance(0.3) else on[:0] if self.chance(0.03) else on
        kind = self.rng.choice(["dealt", "gemm", "activate", "softmax", "move", "fence", "raw"],
                               p=[0.35, 0.2, 0.15, 0.08, 0.12, 0.05, 0.05])
        if kind == "raw":
            word = int.from_bytes(self.rng.bytes(32), "little")
            return (word & ~0xFF | int(self.rng.choice(Opcode)) if self.chance(0.5) else word), on
        fields = getattr(self, f"_{kind}")(len(on))
        return Instruction(tag=self.number(0, 65535), **fields), on

    def _dealt(self, channels):
        """A GEMM with enough channels, or sometimes not quite."""
        fields = self._gemm(channels, transpose=False)
        words = layout.operand_granules(self.config, fields["k"], fields["weight_format"])
        dealt = max(1, -(-words // max(1, channels)) + self.number(-1, 3) * self.chance(0.3))
        groups = -(-fields["m"] // self.config.tile.tokens)
        return fields | {"dealt": dealt,
                         "source_line": self._line(Buffer.INPUT, groups * dealt)}

    def _gemm(self, _, transpose=True):
        config, rng = self.config, self.rng
        fmt = rng.choice([Format.FP16, Format.INT8])
        m, n, k = self.number(1, 9), self.number(1, 20), self.number(1, 60)
        transposed = transpose and fmt == Format.FP16 and self.chance(0.2)
        n = min(n, config.transposed_columns) if transposed else n
        output = rng.choice([Format.FP16, Format.FP32])
        scaled = int(fmt == Format.INT8 and self.chance(0.5))
        group = self.number(0, 2) * scaled
        scales = layout.scale_lines(config, n, layout.scale_groups(config, k, group, fmt))
        stored = (k, n) if transposed else (n, k)
        return {
            "opcode": Opcode.GEMM, "m": m, "n": n, "k": k, "weight_format": fmt,
            "output_format": output, "transpose": int(transposed), "scaled": scaled,
            "scale_group": group, "interleave": self.number(0, 1) + 2 * self.chance(0.02),
            "scale_line": scaled and self._line(Buffer.INPUT, scales),
            "accumulate": int(output == Format.FP32 and self.chance(0.3)),
            "address": self._address(layout.weight_words(config, *stored, fmt)),
            "source_line": self._line(Buffer.INPUT, layout.operand_lines(config, m, k, fmt)),
            "result_line": self._line(Buffer.TEMP, layout.line_count(config, m, n, output))}

    def _function(self, opcode, **fields):
        config, m, n = self.config, self.number(1, 5), self.number(1, 40)
        fmt = self.rng.choice([Format.FP16, Format.FP32])
        lines = layout.line_count(config, m, n, fmt)
        return {"opcode": opcode, "m": m, "n": n, "input_format": fmt,
                "source_line": self._line(Buffer.TEMP, lines),
                "result_line": self._line(Buffer.INPUT, layout.line_count(config, m, n))}, lines

    def _activate(self, _):
        fields, lines = self._function(Opcode.ACTIVATE)
        return fields | {"function": self.rng.choice(Function), "gated": self.number(0, 1),
                         "second_line": self._line(Buffer.TEMP, lines)}

    def _softmax(self, _):
        fields, _ = self._function(Opcode.SOFTMAX)
        return fields | {"length": self.number(1, fields["n"] + self.chance(0.1)),
                         "scale": int(np.float32(self.rng.choice([0.3, 1, 5])).view(np.uint32))}

    def _move(self, _):
        opcode, length = self.rng.choice([Opcode.LOAD, Opcode.STORE]), self.number(1, 12)
        line = "result_line" if opcode == Opcode.LOAD else "source_line"
        buffer = self.rng.choice(Buffer)
        return {"opcode": opcode, "length": length, "buffer": buffer,
                "interleave": self.number(0, 1), "address": self._address(length),
                line: self._line(buffer, 2 * length)}

    def _fence(self, _):
        return {"opcode": Opcode.FENCE}

    def _address(self, words):
        return self.number(0, self.config.dram.words_per_bundle - words + self.chance(0.05) * 80)

    def _line(self, buffer, lines):
        held = self.config.temp_lines if buffer == Buffer.TEMP else self.config.input_lines
        return self.number(0, max(0, held - lines) + self.chance(0.03) * 9)


def fill(device, seed):
    """Numbers around 1 everywhere."""
    config = device.config
    for channel in range(config.channels):
        rng = np.random.default_rng(seed + channel)
        device.dram(channel)[:] = rng.standard_normal(config.capacity_bytes // 2).astype(
            np.float16).view(np.uint8)
        for buffer, size in ((Buffer.INPUT, config.input_buffer_bytes),
                             (Buffer.TEMP, config.temp_buffer_bytes)):
            data = rng.standard_normal(size // 2).astype(np.float16).view(np.uint8)
            device.write_buffer(channel, buffer, 0, data)


def assert_equal(device, reference):
    """All of DRAM and buffers of all channels."""
    config = device.config
    for buffer, size in ((Buffer.INPUT, config.input_buffer_bytes),
                         (Buffer.TEMP, config.temp_buffer_bytes)):
        found = device.read_buffers(buffer, 0, dict.fromkeys(range(config.channels), size))
        for channel, data in found.items():
            expected = reference.read_buffer(channel, buffer, 0, size)
            wrong = np.flatnonzero(data != expected)
            assert not len(wrong), (f"channel {channel}, {buffer.name} line "
                                    f"{wrong[0] // config.line_bytes}, {len(wrong)} bytes in all")
    for channel in range(config.channels):
        assert (device.dram(channel) == reference.dram(channel)).all(), channel


def traffic(config, rng, n):
    """Reads of DRAM and of the buffers by the host of each channel."""
    return {c: Requests(np.zeros(n), rng.integers(0, 3, n), rng.integers(0, 256, n),
                        np.zeros((n, config.granule_bytes), np.uint8))
            for c in range(config.channels)}


def random_programs(config, seed, programs, length, pauses, **options):
    rng = np.random.default_rng(seed)
    with VerilatorDevice(config, seed=seed, pauses=pauses, **options) as device:
        reference, said = ReferenceDevice(config), set()
        for each in (device, reference):
            fill(each, seed)
        device.clear_counters()
        programs_of = Random(config, seed)
        for i in range(programs):
            program = programs_of.program(length)
            requests = traffic(config, rng, 20 * length) if i % 2 else None
            done = device.execute_stack(program, requests)
            assert done == reference.execute_stack(program)
            said |= {c.status for c in done}
            assert_equal(device, reference)
        for counters in device.all_counters(range(config.channels)).values():
            assert counters["cycles"] == counters["active"] + sum(
                counters[c.name.lower()] for c in STALLS)
    return said


def test_random_programs(seed):
    said = random_programs(STACK, seed, 2, 40, Pauses(150, 150, 100, 200))
    assert Status.OK in said and len(said) > 3


@pytest.mark.full
@pytest.mark.parametrize("changes", [
    {}, {"channels": 2, "queue_depth": 2, "line_fifo": 4}, {"channels": 8, "word_fifo": 4},
    {"ecc": True}, {"functions": False, "refresh": False}])
def test_many_random_programs(changes, seed):
    config = STACK.replace(name="odd", **changes)
    said = random_programs(config, seed, 40, 60, Pauses(60, 60, 60, 60))
    assert said >= {Status.OK, Status.BAD_FORMAT, Status.SOURCE_RANGE, Status.BAD_CHANNELS,
                    Status.RESULT_RANGE, Status.BAD_RESERVED, Status.BAD_OPCODE}


def test_programs_of_channels(seed):
    """A program for each channel, an instruction of each in turn; one has none."""
    with VerilatorDevice(STACK, seed=seed) as device:
        reference = ReferenceDevice(STACK)
        for each in (device, reference):
            fill(each, seed)
        programs = {c: [insn for insn, _ in Random(STACK, seed + c).program(length)]
                    for c, length in ((0, 9), (1, 4), (3, 12))}
        assert device.execute(programs) == reference.execute(programs)
        assert device.execute({2: []}) == {2: []} and device.execute_stack([]) == []
        assert_equal(device, reference)


def test_no_dead_lanes():
    with pytest.raises(ToolError, match="single channels: stack=false, or lane_repair=false"):
        VerilatorDevice(STACK.replace(lane_repair=True))


def test_host_reaches_every_channel(seed):
    """Each port its own channel's DRAM and slices."""
    rng, n = np.random.default_rng(seed), 60
    with VerilatorDevice(STACK, seed=seed) as device:
        for region in (Region.DRAM, Region.INPUT, Region.TEMP):
            at = rng.permutation(256)[:n]
            data = {c: rng.integers(0, 256, (n, STACK.granule_bytes), np.uint8) for c in range(4)}
            device._ask(region, {c: (at, each) for c, each in data.items()}, True)
            found = device._ask(region, {c: (at, data[c] * 0) for c in data}, False)
            assert all((found[c] == data[c]).all() for c in data)
            if region == Region.DRAM:
                for c, each in data.items():
                    assert (device.dram(c).reshape(-1, STACK.granule_bytes)[at] == each).all()


def test_driver(seed):
    """Networks and products with scales, one program for all: the reference's bits."""
    rng, results, (hidden, inner) = np.random.default_rng(seed), [], (40, 60)
    weights = [(rng.standard_normal(shape) * shape[1] ** -0.5).astype(np.float16).view(np.uint16)
               for shape in ((inner, hidden), (inner, hidden), (hidden, inner))]
    xs = [rng.standard_normal((m, hidden)).astype(np.float16).view(np.uint16) for m in (2, 1, 3)]
    values, stats = rng.standard_normal((90, hidden)), Stats()
    for kind in (VerilatorDevice, ReferenceDevice):
        with kind(STACK) as device:
            memory, kernels = Memory(STACK), Kernels(device)
            ffn = place(memory, hidden, inner, 0, bundles=2)
            load_ffn(device, ffn, *weights)
            ys = FfnKernels(kernels, Function.SILU).run([FfnJob(x, ffn) for x in xs], stats)
            narrow = memory.place(90, hidden, 0, fmt=Format.INT8)
            narrow = load_quantised(device, narrow, values, 16)
            (y,), = kernels.run([Job(xs[2], (narrow,))])
            results.append([*ys, y, *in_panels(device, seed)])
    for found, expected in zip(*results, strict=True):
        assert np.array_equal(found, expected)
    assert stats.cycles == stats.active + sum(stats.stalls.values()) > 0


def in_panels(device, seed):
    """A network of which gate and up fit the slices a part at a time."""
    rng, (hidden, inner) = np.random.default_rng(seed), (16, 520)
    weights = [rng.standard_normal(shape).astype(np.float16).view(np.uint16)
               for shape in ((inner, hidden), (inner, hidden), (hidden, inner))]
    ffn = place(Memory(device.config), hidden, inner, 0, bundles=2)
    load_ffn(device, ffn, *weights)
    x = rng.standard_normal((4, hidden)).astype(np.float16).view(np.uint16)
    stats = Stats()
    ys = FfnKernels(Kernels(device), Function.SILU).run([FfnJob(x, ffn)], stats)
    assert stats.programs == 1
    return ys


def product(config, matrices, x):
    """Y of all matrices (patterns) by FP16 products on the generated Verilog."""
    with VerilatorDevice(config) as device:
        kernels, memory, placed = Kernels(device), Memory(config), []
        for i, w in enumerate(matrices):
            placed.append(memory.place(*w.shape, i % config.dram.bundles))
            load(device, placed[-1], w)
        return kernels.run([Job(x, tuple(placed))])[0]


@pytest.mark.parametrize("base, channels, sizes", [
    (STACK, 4, (3, 90, 70)),
    pytest.param(STACK, 32, (7, 300, 150), marks=pytest.mark.full),
    pytest.param(PRESETS["paper"], 32, (5, 500, 2500), marks=pytest.mark.full)],
    ids=["small4", "small32", "paper"])
def test_the_bits_of_one_channel(base, channels, sizes, seed):
    """The same tokens alone on one channel, and on a stack, whole or one of them."""
    rng, (m, n, k) = np.random.default_rng(seed), sizes
    x, *ws = (rng.standard_normal(shape).astype(np.float16).view(np.uint16)
              for shape in ((m, k), (n, k), (n - 13, k)))
    expected = [gemm(x, w, base.tile.depth, Format.FP32) for w in ws]
    alone = PRESETS["channel" if base is PRESETS["paper"] else "small"]
    if base is STACK and channels > 4:      # one channel has to hold what so many do
        alone = alone.replace(dram=replace(alone.dram, rows=4 * alone.dram.rows))
    stack = base.replace(channels=channels)
    for config, tokens in ((alone, slice(0, m)), (stack, slice(0, m)), (stack, slice(1, 2))):
        for y, each in zip(product(config, ws, x[tokens]), expected, strict=True):
            assert np.array_equal(y, each[tokens])
