# SPDX-License-Identifier: BSD-2-Clause
"""docs/arithmetic.md tells the truth: its listing, its example and its figures, run."""

import re
from pathlib import Path

import numpy as np
import pytest

from logicpim.sim.model import arithmetic
from logicpim.sim.model.gemm import gemm
from logicpim.spec.isa import Format

TEXT = (Path(__file__).parents[2] / "docs" / "arithmetic.md").read_text()


def section(title):
    return re.search(rf"^## \d+\. {title}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)[1]


def tables(text):
    """Each table as a list of rows of cells, the heading left out."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.M)
    return [[[cell.strip() for cell in line.strip("|\n").split("|")]
             for line in table.splitlines()[2:]] for table in found]


def test_listing(stimulus):
    names = {}
    exec(re.search(r"```python\n(.*?)```", section("In Python"), re.S)[1], names)
    for temper in ("finite", "normal", "near", "wide", "cancel", "subnormal"):
        for depth in (4, 8, 16, 32):
            m, n, k = stimulus.rng.integers(1, [4, 4, 12 * depth])
            x, w = stimulus.bits((m, k), temper), stimulus.bits((n, k), temper)
            got = gemm(x, w, depth, Format.FP32).view(np.float32).tolist()
            assert got == [[names["element"](a, b, depth) for b in w.tolist()]
                           for a in x.tolist()]


def test_example_beat():
    beat, _ = tables(section("A worked example"))
    rows = [[int(cell, 0) for cell in row] for row in beat]
    x_bits, w_bits = [row[1] for row in rows], [row[2] for row in rows]
    a, w = arithmetic.decode_fp16(x_bits), arithmetic.decode_fp16(w_bits)
    largest = int(re.search(r"X = (\d+)", section("A worked example"))[1])
    total = int(re.search(r"S = (\d+)", section("A worked example"))[1])
    for i, row in enumerate(rows):
        product, scale = row[4] * row[6], row[3] + row[5]
        term = product * 64 >> largest - scale
        term = -term if (row[1] ^ row[2]) >> 15 else term
        assert row == [i, *row[1:3], a.exponent[i], a.significand[i], w.exponent[i],
                       w.significand[i], product, scale, largest - scale, term]
    assert largest == max(row[8] for row in rows)
    assert total == sum(row[-1] for row in rows)
    assert arithmetic.dot_fp16(x_bits, w_bits) == arithmetic.round_to_fp32(total, largest - 280)


def test_example_element():
    text = section("A worked example")
    first, beats = tables(text)
    x, w = np.zeros((2, 5, 4), np.uint16)
    x[0], w[0] = ([int(row[i], 0) for row in first] for i in (1, 2))
    lanes = [0] * 4
    for b, row in enumerate(beats):
        if b:
            x[b, 0], w[b, 0] = int(row[2], 0), int(row[3], 0)
        d = int(arithmetic.dot_fp16(x[b], w[b]))
        lanes[b % 4] = int(arithmetic.fp32_add(lanes[b % 4], d))
        assert [int(row[i], 0) for i in (0, 1, 4, 5)] == [b, b % 4, d, lanes[b % 4]]
    single, half = re.search(r"result\s+is (0x\w+) as FP32 and (0x\w+) as FP16", text).groups()
    x, w = x.reshape(1, 20), w.reshape(1, 20)
    assert gemm(x, w, 4, Format.FP32) == int(single, 16)
    assert gemm(x, w, 4, Format.FP16) == int(half, 16)


@pytest.mark.parametrize("depth", [4, 8, 16, 32])
def test_width_of_the_sum(depth):
    heading, = re.findall(r"^\| D \|(.*)\|$", TEXT, re.M)
    (row,), = tables(section("Other depths, other formats"))
    widths = dict(zip(map(int, heading.split("|")), map(int, row[1:]), strict=True))
    most = depth * (2047 ** 2 << 6)
    assert most < 2 ** (widths[depth] - 1) <= 2 * most + 2 ** 26


def test_decoding_table():
    rows, = tables(section("Internal form")[1:].split("becomes")[1])
    assert [row[1:] for row in rows[2:4]] == [["0", "0"], ["255", "0x400"]]
    operand = arithmetic.decode_fp16([0x0001, 0x03FF, 0x0400, 0x7BFF, 0x7C00, 0x7E01, 0x8000])
    assert operand.exponent.tolist() == [103, 112, 113, 142, 255, 255, 0]
    assert operand.significand.tolist() == [0x400, 0x7FE, 0x400, 0x7FF, 0x400, 0x601, 0]
