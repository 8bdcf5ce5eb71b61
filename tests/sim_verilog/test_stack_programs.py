# SPDX-License-Identifier: BSD-2-Clause
"""Random programs for random sets of a stack's channels: every bit is the reference's."""

import random

import numpy as np
import pytest

from logicpim.sim.model import layout
from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.verilog import VerilatorDevice
from logicpim.sim.verilog.binding import Requests
from logicpim.spec.device import STALLS, Region
from logicpim.spec.functions import Function
from logicpim.spec.isa import Buffer, Format, Instruction, Opcode, Status
from logicpim.spec.presets import PRESETS

STACK = PRESETS["small"].replace(name="stack", channels=4, stack=True, formats=("fp16", "int8"))
LINES = 40              # lines that programs use: few, so that neighbours share some
SCALES, HOST = 100, 112  # first lines of the scales, and of what the host has for itself
ONE = 0x3F800000


class Programs:
    """Instructions that fit, often for several channels, often reading what others write."""

    def __init__(self, config, seed):
        self.config, self.rng = config, random.Random(seed)

    def _lines(self, count):
        return self.rng.randint(0, LINES - count)

    def gemm(self, members) -> Instruction:
        """Operands dealt, or the channel's own; scales, sums."""
        config, rng = self.config, self.rng
        fmt, out = rng.choice(config.weight_formats), rng.choice((Format.FP16, Format.FP32))
        m, n, k = rng.randint(1, 9), rng.randint(1, 14), rng.randint(1, 60)
        words, dealt = layout.operand_granules(config, k, fmt), 0
        if rng.random() < 0.7:
            dealt = rng.randint(-(-words // len(members)), words)
        lines = -(-m // config.tile.tokens) * (dealt or words)
        results = layout.line_count(config, m, n, out)
        if max(lines, results) > LINES:
            return self.gemm(members)
        scaled = int(config.has_bytes and rng.random() < 0.3)
        return Instruction(
            Opcode.GEMM, tag=rng.getrandbits(16), weight_format=fmt, output_format=out, m=m, n=n,
            k=k, dealt=dealt, source_line=self._lines(lines), result_line=self._lines(results),
            address=rng.randrange(config.dram.words_per_bundle
                                  - layout.weight_words(config, n, k, fmt)),
            scaled=scaled, scale_line=SCALES * scaled,
            scale_group=scaled * rng.choice((0, 0, 1, 2)),
            accumulate=int(out == Format.FP32 and rng.random() < 0.3))

    def function(self) -> Instruction:
        """An activation or a softmax."""
        config, rng = self.config, self.rng
        m, n, fmt = rng.randint(1, 9), rng.randint(1, 40), rng.choice(config.output_formats)
        sources = layout.line_count(config, m, n, fmt)
        results = layout.line_count(config, m, n, Format.FP16)
        if max(sources, results) > LINES:
            return self.function()
        own = ({"opcode": Opcode.SOFTMAX, "scale": ONE, "length": n} if rng.random() < 0.3 else
               {"opcode": Opcode.ACTIVATE, "function": rng.choice(list(Function))})
        return Instruction(tag=rng.getrandbits(16), m=m, n=n, input_format=fmt, **own,
                           source_line=self._lines(sources), result_line=self._lines(results))

    def move(self) -> Instruction:
        """A few words from or to DRAM."""
        rng, tile = self.rng, self.config.tile
        length = rng.randint(1, 6)
        line = self._lines(-(-length * tile.rows // tile.tokens))
        opcode, which = rng.choice(((Opcode.LOAD, "result_line"), (Opcode.STORE, "source_line")))
        return Instruction(opcode, tag=rng.getrandbits(16), buffer=rng.choice(list(Buffer)),
                           length=length, address=rng.randrange(100), **{which: line})

    def program(self, size):
        """(instruction, set of channels) in turn."""
        rng, channels = self.rng, self.config.channels
        for _ in range(size):
            members = rng.sample(range(channels), rng.choice((1, 2, channels, channels)))
            kind = rng.random()
            if kind < 0.6:
                yield self.gemm(members), members
            elif kind < 0.8:
                yield self.function(), members
            elif kind < 0.9:
                yield self.move(), members
            elif kind < 0.95:
                yield Instruction(Opcode.FENCE, tag=rng.getrandbits(16)), members
            else:   # refused
                yield rng.choice(((0xFF0011, members), (self.gemm(members), [])))


def fill(config, devices, seed):
    """Halves everywhere, FP32 of reasonable size among them, and scales."""
    for channel in range(config.channels):
        rng = np.random.default_rng([seed, channel])

        def halves(size, rng=rng):
            return rng.standard_normal(size // 2).astype(np.float16).view(np.uint8)

        dram = halves(config.capacity_bytes)
        held = {Buffer.INPUT: halves(config.input_buffer_bytes),
                Buffer.TEMP: halves(config.temp_buffer_bytes)}
        scales = rng.random(200).astype(np.float32).view(np.uint32)
        for device in devices:
            device.dram(channel)[:] = dram
            for buffer, content in held.items():
                device.write_buffer(channel, buffer, 0, content)
            if config.has_bytes:
                device.write_buffer(channel, Buffer.INPUT, SCALES,
                                    layout.pack_scales(config, scales)[:12 * config.line_bytes])


def traffic(config, reference, rng, count):
    """Reads and writes of lines that programs leave alone, and of DRAM that none writes."""
    requests, expected = {}, {}
    size, tokens = config.granule_bytes, config.tile.tokens
    for channel in range(config.channels):
        region = rng.choice((Region.DRAM, Region.INPUT, Region.TEMP), count).astype(np.uint8)
        write = (rng.random(count) < 0.4) & (region != Region.DRAM)
        dram = config.dram.granules // 2 + rng.integers(0, config.dram.granules // 2, count)
        line = rng.integers(HOST, config.temp_lines, count) * tokens
        address = np.where(region == Region.DRAM, dram, line)
        data = rng.integers(0, 256, (count, size), np.uint8)
        requests[channel] = Requests(write, region, address, data)
        expected[channel] = np.zeros((count, size), np.uint8)
        for i in range(count):
            if region[i] == Region.DRAM:
                memory = reference.dram(channel)
            else:
                memory = reference._buffer(channel, Buffer[Region(region[i]).name])
            cell = memory[address[i] * size:(address[i] + 1) * size]
            if write[i]:
                cell[:] = data[i]
            else:
                expected[channel][i] = cell
    return requests, expected


def same(config, device, reference):
    """Every byte of every channel."""
    for channel in range(config.channels):
        assert (device.dram(channel) == reference.dram(channel)).all(), channel
        for buffer in Buffer:
            size = reference._buffer(channel, buffer).size
            found, expected = (each.read_buffer(channel, buffer, 0, size)
                               for each in (device, reference))
            wrong = np.flatnonzero(found != expected) // config.line_bytes
            assert not len(wrong), f"channel {channel}, {buffer.name}: lines {set(wrong.tolist())}"


def run(config, seed, rounds, size, requests=60):
    """Programs on the Verilog and in the reference."""
    programs, reference = Programs(config, seed), ReferenceDevice(config)
    rng = np.random.default_rng(seed)
    with VerilatorDevice(config, seed=seed) as device:
        fill(config, (device, reference), seed)
        for _ in range(rounds):
            program = list(programs.program(size))
            beside, answers = traffic(config, reference, rng, requests)
            done = device.execute_stack(program, beside)
            assert done == reference.execute_stack(program)
            for channel, expected in answers.items():
                found = beside[channel].answers.reshape(expected.shape)
                reads = ~beside[channel].write.astype(bool)
                assert (found[reads] == expected[reads]).all() and not beside[channel].errors.any()
            same(config, device, reference)
        counters = device.all_counters(range(config.channels))
    for value in counters.values():
        assert value["cycles"] == value["active"] + sum(value[c.name.lower()] for c in STALLS)
        assert value["stall_broadcast"] > 0
    return counters


def test_random_programs(seed):
    run(STACK, seed, 4, 40)


@pytest.mark.full
@pytest.mark.parametrize("changes", [
    {}, {"channels": 2, "formats": ("fp16",)}, {"line_fifo": 4, "queue_depth": 2, "channels": 8},
    {"ecc": True, "refresh_kind": "all"}], ids=lambda c: "-".join(c))
def test_many_random_programs(seed, changes):
    run(STACK.replace(**changes), seed, 30, 60)


def test_operands_that_another_channel_makes(seed):
    """A dealt GEMM waits for the ACTIVATE that makes a part of its operands in one channel, itself
    behind a long GEMM there; another ACTIVATE, behind it, does not overwrite them too early."""
    reference, n = ReferenceDevice(STACK), 40
    long = Instruction(Opcode.GEMM, tag=1, m=4, n=n, k=60, output_format=Format.FP16)
    makes = Instruction(Opcode.ACTIVATE, tag=2, m=4, n=n, function=Function.RELU, result_line=60)
    uses = Instruction(Opcode.GEMM, tag=3, m=4, n=14, k=2 * n, source_line=60, result_line=40,
                       dealt=-(-n // STACK.granule_elements), output_format=Format.FP32)
    spoils = Instruction(Opcode.ACTIVATE, tag=4, m=4, n=n, source_line=70, result_line=60)
    program = [(long, [1]), (makes, [1]), (uses, [1, 2]), (spoils, [2]), (spoils, [1])]
    with VerilatorDevice(STACK, seed=seed) as device:
        fill(STACK, (device, reference), seed)
        for _ in range(3):
            assert device.execute_stack(program) == reference.execute_stack(program)
            same(STACK, device, reference)


def test_refused_in_their_turn(seed):
    """Completions are in the order of the program, whoever is done first."""
    slow = Instruction(Opcode.GEMM, tag=1, m=8, n=14, k=60)
    program = [(slow, [0]), (Instruction(0xEE, tag=2), [1]),
               (Instruction(Opcode.FENCE, tag=3), [1]),
               (Instruction(Opcode.FENCE, tag=4), []), (slow, [2, 3]),
               (Instruction(Opcode.FENCE, tag=5), [1])]
    with VerilatorDevice(STACK, seed=seed) as device:
        done = device.execute_stack(program)
    assert [(c.tag, c.status) for c in done] == [
        (1, Status.OK), (2, Status.BAD_OPCODE), (3, Status.OK), (4, Status.BAD_CHANNELS),
        (1, Status.OK), (5, Status.OK)]
