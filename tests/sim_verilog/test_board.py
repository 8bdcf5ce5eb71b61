# SPDX-License-Identifier: BSD-2-Clause
"""The gateware of a board, Verilated, behind its line: the link against its model, then the
backend over it against the reference."""

import json
import random

import numpy as np
import pytest

from logicpim.cli.main import main
from logicpim.driver.fpga.device import FpgaDevice
from logicpim.driver.kernel import Job, Kernels
from logicpim.driver.memory import Memory, load
from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.model.gemm import gemm
from logicpim.sim.model.link import BoardModel, Deframer, escape
from logicpim.sim.verilog import VerilatorDevice
from logicpim.sim.verilog.board import SimulatedBoard
from logicpim.spec.device import Region
from logicpim.spec.dram import Organisation
from logicpim.spec.isa import Buffer, Format, Instruction, Opcode
from logicpim.spec.link import END, ESC, HEADER, TARGET, Line, Request, pack
from logicpim.spec.presets import PRESETS

# A small DRAM: each byte of it takes 40 clocks on the line.
CONFIG = PRESETS["small"].replace(
    name="board", timing="bram", functions=False,
    dram=Organisation(ranks=1, bank_groups=2, banks_per_group=4, rows=16, columns=4,
                      bundle_banks=4))
SECONDS = 1e-3  # of the simulated clock: any request, both ways


class Bad(Line):
    """A line that loses, flips and inserts bytes, both ways."""

    def __init__(self, line, rate, seed):
        self.name, self.baud, self.patience = line.name, line.baud, line.patience
        self.line, self.rate, self.random = line, rate, random.Random(seed)

    def spoil(self, data):
        out, rng = bytearray(), self.random
        for byte in data:
            kind = rng.random() / self.rate
            if kind > 1 / 3:
                out.append(byte ^ 1 << rng.randrange(8) if kind < 2 / 3 else byte)
            if 2 / 3 < kind < 1:
                out.append(rng.choice([END, ESC, rng.randrange(256)]))
        return bytes(out)

    def write(self, data):
        self.line.write(self.spoil(data))

    def read(self, seconds):
        return self.spoil(self.line.read(seconds))

    def now(self):
        return self.line.now()

    def close(self):
        self.line.close()


@pytest.fixture
def board():
    line = SimulatedBoard(CONFIG)
    yield line
    line.close()


def requests(rng, session):
    """Frames of any kind, and whether they read counters: the next, the last again, strange,
    malformed and empty ones."""
    number, last, counts = 9, None, False
    yield escape(pack(HEADER, session=session, sequence=number) + bytes([Request.HELLO])), False
    sizes = {Region.DRAM: CONFIG.dram.granules, Region.INPUT: CONFIG.input_lines * 2,
             Region.TEMP: CONFIG.temp_lines * 2, Region.REGISTERS: 17}
    for _ in range(60):
        if last and rng.random() < 0.15:
            yield last, counts
            continue
        kind = rng.choice([Request.READ, Request.WRITE, Request.WRITE_MASKED, 0, 77])
        region = rng.choice(list(Region))
        address = rng.randrange(sizes[region])
        if rng.random() < 0.1:
            region, address = rng.randrange(256), rng.getrandbits(32)
        count, width = rng.randrange(4), CONFIG.granule_bytes
        body = pack(TARGET, region=region, address=address)
        if kind == Request.READ:
            body += bytes([rng.choice([count, count, 200])])
        else:
            each = width + (width // 8 if kind == Request.WRITE_MASKED else 0)
            body += rng.randbytes(count * each)
        if rng.random() < 0.1:
            body = body[:rng.randrange(len(body) + 1)] if rng.random() < 0.5 else body + b"x"
        counts = kind == Request.READ and region == Region.REGISTERS
        if rng.random() < 0.1:  # strange
            yield escape(pack(HEADER, session=rng.randrange(1 << 16), sequence=number)
                         + bytes([kind]) + body), False
            last = None
            continue
        number = (number + 1) % 256
        last = escape(pack(HEADER, session=session, sequence=number) + bytes([kind]) + body)
        yield last, counts


def test_every_answer(board, seed):
    """Byte for byte those of the model, whatever is asked and whatever noise is between."""
    rng = random.Random(seed)
    model = BoardModel(ReferenceDevice(CONFIG))
    for raw, counts in requests(rng, rng.randrange(1 << 16)):
        if rng.random() < 0.2:
            raw = rng.randbytes(rng.randrange(9)) + bytes([END]) + raw
        model.write(raw)
        board.write(raw)
        expected, got = model.read(0), board.read(SECONDS)
        if counts:  # the model's device has no time to count
            (a,), (b,) = (Deframer().feed(answer) for answer in (got, expected))
            assert (a[:3], len(a), a[-1]) == (b[:3], len(b), b[-1])
        else:
            assert got == expected, raw


@pytest.mark.parametrize("rate", [0.0, 0.002])
def test_backend(board, seed, rate):
    """DRAM by the back door, matrix products, a STORE: the bits of the reference."""
    rng = np.random.default_rng(seed)
    line = Bad(board, rate, seed) if rate else board
    with FpgaDevice(CONFIG, line) as device:
        memory, kernels = Memory(CONFIG), Kernels(device)
        for m, n, k in ((1, 9, 21), (5, 4, 8)):
            matrix = memory.place(n, k, 0, 2)
            w, x = (rng.standard_normal(s).astype(np.float16).view(np.uint16)
                    for s in ((n, k), (m, k)))
            load(device, matrix, w)
            (y,), = kernels.run([Job(x, (matrix,))])
            assert (y == gemm(x, w, CONFIG.tile.depth, Format.FP32)).all()
        counted = device.counters(0)
        assert counted["words_read"] > 0 and counted["cycles"] > counted["active"] > 0
        store = Instruction(Opcode.STORE, buffer=Buffer.TEMP, length=3, address=100)
        device.execute({0: [store]})
        word = CONFIG.word_bytes
        stored = device.dram(0)[100 * word:103 * word]
        held = device.read_buffer(0, Buffer.TEMP, 0, stored.size)
        assert (stored == held).all() and held.any()
        assert device.link.repeats >= (rate > 0)


def test_a_new_session_resets(board):
    """Instructions of a host that has gone leave nothing behind, but for what they wrote."""
    first = FpgaDevice(CONFIG, board)
    first.dram(0)[:] = 5
    first.flush()
    first.link.ask(Request.RUN, b"".join(
        Instruction(Opcode.FENCE, tag=tag).encode().to_bytes(32, "little") for tag in range(4)))
    with FpgaDevice(CONFIG, board) as second:
        assert not second.identity["fresh"] and second.counters(0)["cycles"] == 0
        done = second.execute({0: [Instruction(Opcode.FENCE, tag=9)]})[0]
        assert [c.tag for c in done] == [9]
        load = Instruction(Opcode.LOAD, tag=3, buffer=Buffer.INPUT, length=1)
        second.execute({0: [load]})
        assert not second.read_buffer(0, Buffer.INPUT, 0, CONFIG.word_bytes).any()


@pytest.mark.full
def test_expert_on_the_board_of_the_preset(capsys):
    """A gated feed-forward network on a board's configuration and functions, by the command."""
    status = main(["bench", "ffn", "--config", "ulx3s-85f", "--set", "functions=true",
                   "--backend", "fpga", "--port", "sim", "--m", "3",
                   "--hidden", "40", "--intermediate", "56", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert status == 0 and result["matches_reference"] and result["cycles"] > 0


@pytest.mark.full
@pytest.mark.parametrize("m, n, k", [(1, 30, 120), (5, 9, 33)])
def test_the_controller_keeps_the_rows_of_block_ram(m, n, k):
    """The channel beside the functional DRAM, every command judged by the rows of the board's."""
    rng, memory = np.random.default_rng(m), Memory(CONFIG)
    matrix = memory.place(n, k, 0, 2)
    w, x = (rng.standard_normal(s).astype(np.float16).view(np.uint16) for s in ((n, k), (m, k)))
    with VerilatorDevice(CONFIG) as device:
        load(device, matrix, w)
        (y,), = Kernels(device).run([Job(x, (matrix,))])
    assert (y == gemm(x, w, CONFIG.tile.depth, Format.FP32)).all()
