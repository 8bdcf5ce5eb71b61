# SPDX-License-Identifier: BSD-2-Clause
"""A bench of the GEMM module: jobs of any kind, stalls on both sides, judged by the model."""

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.sim import Simulator

from logicpim.rtl.control.arbiter import ReadArbiter
from logicpim.rtl.pim.buffer import LineBuffer, write_results
from logicpim.rtl.pim.gemm import GemmModule
from logicpim.rtl.signatures import cells_per_line
from logicpim.sim.model import layout
from logicpim.sim.model.gemm import gemm
from logicpim.spec.config import Config, Tile
from logicpim.spec.dram import Organisation
from logicpim.spec.isa import BYTE_FORMATS, Format
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]


def shaped(banks=4, **tile):
    """A small configuration with another tile."""
    dram = Organisation(ranks=1, bank_groups=2, banks_per_group=banks, rows=64, columns=8,
                        bundle_banks=banks)
    return SMALL.replace(tile=Tile(**tile), dram=dram, input_buffer_bytes=1 << 13,
                         temp_buffer_bytes=1 << 13)


SHAPES = {
    "one token": shaped(tokens=1, rows=4, depth=4, groups=4),
    "one group": shaped(tokens=4, rows=2, depth=4, groups=1, banks=2),
    "two groups": shaped(tokens=4, rows=2, depth=4, groups=2, banks=2),
    "deep": shaped(tokens=2, rows=2, depth=8, groups=2, banks=2),
    "tokens": shaped(tokens=16, rows=2, depth=4, groups=2, banks=2),
}

MIXED = SMALL.replace(formats=("fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int8"),
                      tile=Tile(tokens=4, rows=4, depth=4, groups=2),
                      input_buffer_bytes=1 << 13, temp_buffer_bytes=1 << 13)


class Bench(Elaboratable):
    """The module with a temp buffer behind it, in which what is read too soon is wrong."""

    def __init__(self, config):
        self.gemm = GemmModule(config)
        self.readers = ReadArbiter(lines=config.temp_lines, bits=config.line_bits, readers=2,
                                   urgent=True)
        self.read = self.readers.i[1]
        self.temp = LineBuffer(lines=config.temp_lines, line_bits=config.line_bits,
                               cells=cells_per_line(config))

    def elaborate(self, platform):
        m = Module()
        m.submodules.gemm, m.submodules.temp = self.gemm, self.temp
        m.submodules.readers = self.readers
        write_results(m, self.gemm.results, self.temp.write)
        wiring.connect(m, self.gemm.prior, self.readers.i[0])
        self._read(m, self.readers.o, self.temp.read, self.temp.write)
        return m

    def _read(self, m, reader, port, writer):
        last, address = Signal.like(writer.enable), Signal.like(writer.address)
        soon, wrong = Signal.like(writer.enable), Signal.like(writer.enable)
        m.d.sync += [last.eq(writer.enable), address.eq(writer.address), wrong.eq(soon)]
        m.d.comb += [
            port.enable.eq(reader.enable), port.address.eq(reader.address),
            reader.ready.eq(port.ready),
            soon.eq(Mux(reader.address == writer.address, writer.enable, 0)
                    | Mux(reader.address == address, last, 0)),
            reader.data.eq(port.data ^ Cat(bit.replicate(len(port.data) // len(wrong))
                                           for bit in wrong))]


@dataclass
class Work:
    """One job: what goes in, where it lies, what must come out."""

    config: Config
    x: np.ndarray
    w: np.ndarray
    fmt: Format
    source: int
    result: int
    rng: np.random.Generator
    inputs: Format = Format.FP16
    weights: Format = Format.FP16
    scales: np.ndarray | None = None
    scale_line: int = 0
    scale_group: int = 0
    accumulate: bool = False
    transpose: bool = False     # the weight lies as W[K, N]

    @property
    def sizes(self):
        return len(self.x), len(self.w), self.x.shape[1]

    @property
    def beats(self):
        data = self.noisy(layout.pack_weights, self.w.T if self.transpose else self.w)
        word = data.reshape(-1, self.config.tile.rows, 2, self.config.granule_bytes // 2)
        return [int.from_bytes(beat.tobytes(), "little")
                for beat in word.transpose(0, 2, 1, 3).reshape(-1, self.config.beat_bytes)]

    def noisy(self, pack, matrix):
        """Bytes of the matrix with anything as padding."""
        data = pack(self.config, matrix, self.weights)
        inside = pack(self.config, np.full_like(matrix, np.iinfo(matrix.dtype).max), self.weights)
        return np.where(inside, data, self.rng.integers(0, 256, data.shape)).astype(np.uint8)

    def place(self, source, expected):
        """Put the operands into one image and the results into the other."""
        size = self.config.line_bytes
        data = self.noisy(layout.pack_operands, self.x)
        source.reshape(-1)[self.source * size:][:len(data)] = data
        lies = expected.reshape(-1)[self.result * size:]
        prior = layout.unpack_results(self.config, lies, *self.sizes[:2], Format.FP32) if (
            self.accumulate) else None
        y = gemm(self.x, self.w, self.config.tile.depth, self.fmt, inputs=self.inputs,
                 weights=self.weights, scales=self.scales, scale_group=layout.scale_elements(
                     self.config, self.scale_group, self.weights), prior=prior)
        if self.scales is not None:
            data = layout.pack_scales(self.config, self.scales)
            source.reshape(-1)[self.scale_line * size:][:len(data)] = data
        data = layout.pack_results(self.config, y, self.fmt)
        where = layout.result_mask(self.config, *self.sizes[:2], self.fmt)
        expected.reshape(-1)[self.result * size:][:len(data)][where] = data[where]


def random_bits(rng, shape, fmt=Format.FP16):
    """Mostly moderate numbers, some of any pattern."""
    if fmt in BYTE_FORMATS:
        bits = rng.integers(0, 256, shape).astype(np.uint8)
        return np.where((bits & 0x7C == 0x7C) & (rng.integers(0, 30, shape) > 0), bits >> 2, bits)
    if fmt == Format.BF16:
        bits = rng.normal(0, 1, shape).astype(np.float32).view(np.uint32) >> 16
        tiny = rng.integers(0, 1 << 16, shape) & 0x81FF
        bits = np.where(rng.integers(0, 9, shape) == 0, tiny, bits)
        return np.where(rng.integers(0, 60, shape) == 0, rng.integers(0, 1 << 16, shape),
                        bits).astype(np.uint16)
    bits = rng.normal(0, 1, shape).astype(np.float16).view(np.uint16)
    return np.where(rng.integers(0, 40, shape) == 0, rng.integers(0, 1 << 16, shape),
                    bits).astype(np.uint16)


def random_scales(rng, shape, wild):
    """Moderate numbers, or mostly any pattern, many of them zeros."""
    scales = rng.normal(0, 1, shape).astype(np.float32).view(np.uint32)
    if wild:
        scales = np.where(rng.integers(0, 9, shape) > 0, scales, rng.integers(0, 1 << 32, shape))
        scales = np.where(rng.integers(0, 3, shape) > 0, scales, rng.choice([0, 1 << 31], shape))
    return scales.astype(np.uint32)


def jobs(rng, config, sizes):
    """Jobs one behind the other in both buffers."""
    source = result = before = 0
    for i, (m, n, k) in enumerate(sizes):
        inputs, weights = (Format(rng.choice(known)) for known in (
            config.input_formats, config.weight_formats))
        fmt = config.output_formats[i % len(config.output_formats)]
        m = min(m, config.pass_tokens(weights))
        work = Work(config, random_bits(rng, (m, k), inputs), random_bits(rng, (n, k), weights),
                    fmt, source, result, rng, inputs, weights)
        source += layout.operand_lines(config, m, k, weights)
        if config.has_bytes and i % 3 != 1:
            work.scale_group = int(rng.choice([0, 1, 1, 2, 3]))
            groups = layout.scale_groups(config, k, work.scale_group, weights)
            work.scales = random_scales(rng, (n, groups), i % 2)
            work.scale_line = source
            source += layout.scale_lines(config, n, groups)
        work.accumulate = fmt == Format.FP32 and bool(rng.integers(2))
        if work.accumulate and rng.integers(2):
            work.result = before        # of which some may still be on the way
        before = work.result
        result = max(result, work.result + layout.line_count(config, m, n, fmt))
        assert source <= config.input_lines and result <= config.temp_lines
        yield work


def run(rng, config, works, beat_stall=0.0, read_stall=0.0, job_stall=0.0):
    """Run the jobs; returns events by name and clock of each ``done``."""
    bench = Bench(config)
    dut = bench.gemm
    source = rng.integers(0, 256, (config.input_lines, config.line_bytes)).astype(np.uint8)
    expected = np.zeros((config.temp_lines, config.line_bytes), np.uint8)
    for work in works:
        work.place(source, expected)
    lines = [int.from_bytes(line.tobytes(), "little") for line in source]
    beats = [beat for work in works for beat in work.beats]
    queue = list(works)
    events = {"active": [], "stall_output": [], "stall_weights": []}
    done = []
    # By line and cell: how often written, and how often that is right.
    cells = cells_per_line(config)
    written, due = (np.zeros((config.temp_lines, cells), int) for _ in range(2))
    for work in works:
        mask = layout.result_mask(config, *work.sizes[:2], work.fmt)
        mask = mask.reshape(-1, cells, 2 * config.tile.rows)
        due[work.result:][:len(mask)] += mask.any(axis=2)

    async def drive(ctx):
        offered_job = offered_beat = False
        data = None
        for clock in range(100_000):
            ready = rng.random() >= read_stall
            ctx.set(dut.operands.ready, ready)
            noise = int.from_bytes(rng.bytes(config.line_bytes), "little")
            ctx.set(dut.operands.data, noise if data is None else data)
            offered_job = bool(queue) and (offered_job or rng.random() >= job_stall)
            offered_beat = bool(beats) and (offered_beat or rng.random() >= beat_stall)
            ctx.set(dut.job.valid, offered_job)
            ctx.set(dut.beats.valid, offered_beat)
            if offered_job:
                m, n, k = queue[0].sizes
                ctx.set(dut.job.payload, {
                    "tokens": m, "n": n, "k": k, "source_line": queue[0].source,
                    "result_line": queue[0].result, "output_format": queue[0].fmt,
                    "input_format": queue[0].inputs, "weight_format": queue[0].weights,
                    "scaled": queue[0].scales is not None, "scale_line": queue[0].scale_line,
                    "scale_group": queue[0].scale_group, "accumulate": queue[0].accumulate,
                    "transpose": queue[0].transpose})
            ctx.set(dut.beats.payload, beats[0] if offered_beat else 0)

            read = ready and ctx.get(dut.operands.enable)
            lost = not read and rng.random() < read_stall   # another reader has the port
            ctx.set(dut.operands.lost, lost)
            if read:
                data = lines[ctx.get(dut.operands.address)]
            elif lost:
                data = None
            if offered_job and ctx.get(dut.job.ready):
                queue.pop(0)
                offered_job = False
            if offered_beat and ctx.get(dut.beats.ready):
                beats.pop(0)
                offered_beat = False
            raised = [name for name in events if ctx.get(getattr(dut.events, name))]
            assert len(raised) <= 1
            for name in raised:
                events[name].append(clock)
            if ctx.get(dut.done):
                done.append(clock)
            if enable := ctx.get(dut.results.enable):
                written[ctx.get(dut.results.address)] += [enable >> c & 1 for c in range(cells)]
            await ctx.tick()
            if len(done) == len(works) and not ctx.get(dut.busy):
                break
        assert len(done) == len(works) and not beats and not queue
        assert (written == due).all()
        await ctx.tick()    # what is written last may be read from the second clock after
        for line, content in enumerate(expected):
            ctx.set(bench.read.address, line)
            ctx.set(bench.read.enable, 1)
            await ctx.tick()
            found = ctx.get(bench.read.data).to_bytes(config.line_bytes, "little")
            assert found == content.tobytes(), f"line {line}"

    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    return events, done


def random_sizes(rng, config, count):
    most = config.tile.max_tokens
    return [(int(rng.integers(1, most + 1)), int(rng.integers(1, 14)), int(rng.integers(1, 36)))
            for _ in range(count)]
