# SPDX-License-Identifier: BSD-2-Clause
"""The fpga backend over the model of a board: bad lines, the DRAM's copy, what is refused."""

import os
import random
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logicpim.driver.backends import open_device
from logicpim.driver.fpga.device import FpgaDevice
from logicpim.driver.fpga.link import Link
from logicpim.driver.fpga.serial_line import SerialLine
from logicpim.sim.model.device import ReferenceDevice
from logicpim.sim.model.link import BoardModel, Deframer, escape
from logicpim.spec.errors import ConfigError, LogicPimError, ToolError
from logicpim.spec.isa import Buffer, Instruction, Opcode, Status
from logicpim.spec.link import END, ESC, Line, Request
from logicpim.spec.presets import PRESETS

SMALL = PRESETS["small"]


class Noise(Line):
    """A line that loses, flips and inserts bytes, both ways."""

    def __init__(self, line, rate, seed):
        self.name, self.baud, self.patience = line.name, line.baud, line.patience
        self.line, self.rate, self.random = line, rate, random.Random(seed)

    def _spoil(self, data):
        out, rng = bytearray(), self.random
        for byte in data:
            kind = rng.random() / self.rate if self.rate else 9
            if kind > 1 / 3:
                out.append(byte ^ 1 << rng.randrange(8) if kind < 2 / 3 else byte)
            if 2 / 3 < kind < 1:
                out.append(rng.choice([END, ESC, rng.randrange(256)]))
        return bytes(out)

    def write(self, data):
        self.line.write(self._spoil(data))

    def read(self, seconds):
        return self._spoil(self.line.read(seconds))

    def now(self):
        return self.line.now()


@given(st.lists(st.binary(max_size=20)), st.data())
def test_frames_survive_what_is_around_them(frames, data):
    """Whatever comes before, a frame with its ENDs is found, and nothing else is made up."""
    garbage = data.draw(st.binary(max_size=40))
    raw = garbage + b"".join(escape(frame) for frame in frames if frame)
    deframer, found = Deframer(), []
    while raw:
        cut = data.draw(st.integers(1, len(raw)))
        found += deframer.feed(raw[:cut])
        raw = raw[cut:]
    assert found == [frame for frame in frames if frame]


@given(st.binary(min_size=1, max_size=30), st.data())
def test_damage_is_seen(frame, data):
    """Up to three wrong bits, or a byte lost or put in: no frame but the right one comes out."""
    raw = bytearray(escape(frame))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1))]
    if data.draw(st.booleans()):
        raw.insert(data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 255)))
    assert set(Deframer().feed(bytes(raw))) <= {frame}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from([0.0, 0.001, 0.01]))
def test_each_request_once(seed, rate):
    """Over any line a session writes and reads what it should, and the board does each once."""
    board = BoardModel(ReferenceDevice(SMALL))
    link = Link(Noise(board, rate, seed), tries=1000)
    rng, start = random.Random(seed), 0
    link.hello()
    start = board.served
    for _ in range(5):
        data = rng.randbytes(SMALL.granule_bytes * 4)
        link.ask(Request.WRITE, b"\0\x05\0\0\0" + data)
        assert link.ask(Request.READ, b"\0\x05\0\0\0\x04") == data
    assert board.served - start == link.requests - 1


class Twins:
    """The backend and the reference, to be told and asked the same."""

    def __init__(self, rate=0.0, seed=0, **board):
        self.board = BoardModel(ReferenceDevice(SMALL), **board)
        self.device = FpgaDevice(SMALL, Noise(self.board, rate, seed))
        self.device.link.tries = 1000
        self.golden = ReferenceDevice(SMALL)

    def both(self, call):
        return call(self.device), call(self.golden)


@pytest.mark.parametrize("rate", [0.0, 0.0005])
def test_a_program(seed, rate):
    """DRAM by the back door, buffers, a GEMM, a STORE over what was there: as in the reference."""
    twins, rng = Twins(rate, seed, frame_bytes=256), np.random.default_rng(seed)
    line, word = SMALL.line_bytes, SMALL.word_bytes
    weights, other = (rng.integers(0, 60, n * word, dtype=np.uint8) for n in (4, 3))
    operands = rng.integers(0, 60, 4 * line, dtype=np.uint8)
    program = [
        Instruction(Opcode.GEMM, tag=7, m=2, n=4, k=16, address=2),
        Instruction(Opcode.STORE, tag=8, buffer=Buffer.TEMP, length=2, address=9),
        Instruction(Opcode.FENCE, tag=9), (1 << 255) | 9,
    ]

    def run(device):
        memory = device.dram(0)
        memory[2 * word:6 * word], memory[9 * word:12 * word] = weights, other
        device.write_buffer(0, Buffer.INPUT, 0, operands)
        done = device.execute({0: program})[0]
        again = device.execute({0: []})[0]
        return done, again, memory.copy(), device.read_buffer(0, Buffer.TEMP, 0, 2 * line)

    got, expected = twins.both(run)
    assert got[:2] == expected[:2] and got[0][0].status == Status.OK
    assert all((a == b).all() for a, b in zip(got[2:], expected[2:], strict=True))
    assert (twins.board.device.dram(0) == twins.golden.dram(0)).all()


def test_only_what_changed_is_sent():
    twins = Twins()
    memory, asked = twins.device.dram(0), twins.device.link
    before = asked.requests
    twins.device.flush()
    assert asked.requests == before
    memory[[0, 700, 701]] = 1
    twins.device.flush()
    assert asked.requests == before + 2 and (twins.board.device.dram(0) == memory).all()


def test_a_second_session_knows_nothing():
    """A board that was used before may hold anything: its DRAM is made what the array says."""
    twins = Twins()
    twins.device.dram(0)[5] = 9
    twins.device.flush()
    second = FpgaDevice(SMALL, twins.board)
    second.flush()
    assert not twins.board.device.dram(0).any() and not second.dram(0).any()
    with pytest.raises(ToolError, match="session"):
        twins.device.counters(0)


class Silence(Line):
    name, baud, patience = "nowhere", 1_000_000, 0.0

    def write(self, data):
        pass

    def read(self, seconds):
        return b""


def test_refused():
    with pytest.raises(ToolError, match="no answer from nowhere"):
        FpgaDevice(SMALL, Silence())
    board = BoardModel(ReferenceDevice(SMALL))
    with pytest.raises(ConfigError, match="holds configuration"):
        FpgaDevice(SMALL.replace(word_fifo=16), board)
    with pytest.raises(ConfigError, match="channels=1"):
        FpgaDevice(SMALL.replace(channels=2), board)
    device = FpgaDevice(SMALL, board)
    for call, words in ((lambda: device.dram(1), "channel 1"),
                        (lambda: device.read_buffer(0, Buffer.INPUT, 0, 3), "granules"),
                        (lambda: device.read_buffer(0, Buffer.TEMP, 99, 4096), "do not fit"),
                        (lambda: device.execute({0: [1 << 256]}), "256 bits")):
        with pytest.raises(LogicPimError, match=words):
            call()
    with pytest.raises(LogicPimError, match="--port"):
        open_device("fpga", SMALL)
    with pytest.raises(LogicPimError, match="--port"):
        open_device("reference", SMALL, port="sim")


def test_serial_line(tmp_path):
    """Through a pseudo terminal: every byte, either way; then what is wrong with a port."""
    board, (far, near) = BoardModel(ReferenceDevice(SMALL)), os.openpty()

    def serve():
        while True:
            try:
                board.write(os.read(far, 4096))
            except OSError:
                return
            if answer := board.read(0):
                os.write(far, answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    path = os.ttyname(near)
    with FpgaDevice(SMALL, SerialLine(path, 1_000_000)) as device:
        data = np.arange(64 * SMALL.granule_bytes).astype(np.uint8)
        device.write_buffer(0, Buffer.INPUT, 1, data)
        assert (device.read_buffer(0, Buffer.INPUT, 1, data.size) == data).all()
        with pytest.raises(ToolError, match="in use"):
            SerialLine(path, 1_000_000)
    for path, words in ((str(tmp_path / "tty"), "cannot open"), (os.devnull, "no serial port")):
        with pytest.raises(ToolError, match=words):
            SerialLine(path, 1_000_000)
    with pytest.raises(ToolError, match="123 baud"):
        SerialLine(os.devnull, 123)
    os.close(near)
    os.close(far)
