# SPDX-License-Identifier: BSD-2-Clause
"""What the parts of a GEMM module tell each other: where a beat goes, what a block is."""

from amaranth.hdl import unsigned
from amaranth.lib import data
from amaranth.utils import ceil_log2

from logicpim.rtl.signatures import gemm_job
from logicpim.spec.config import Config
from logicpim.spec.isa import Format


def beat_place(config: Config) -> data.StructLayout:
    """Accumulators that a beat is added to, if ``enable``: from +0 if ``first``."""
    return data.StructLayout({
        "enable": unsigned(1), "first": unsigned(1), "page": unsigned(1),
        "lane": unsigned(ceil_log2(config.tile.lanes)),
        "group": unsigned(ceil_log2(config.tile.groups))})


def row_block(config: Config) -> data.StructLayout:
    """A finished row block: the sums of ``tile.rows`` output rows for every token of the job.

    ``line``: result line of group 0; each further group is ``stride`` lines on. ``slot``: first
    cell of the block within a granule. ``last_group``, ``last_token`` (within that group) and
    ``last_row`` are the last valid ones. Lanes above ``last_lane`` got no beat. ``final``: the
    job's last block. ``split``: weights of 8 bits, so the sums of even beats and of odd ones lie
    apart: in two entries, or, if ``reshaped``, with two units. ``scaled``: the rows' scales wait in
    the drain. Of a row with several groups of scales each group is a block: ``more``: not the first
    of them, ``partial``: not the last. ``accumulate``: to be added to what lies there; ``first``:
    of the job. ``transpose``: its groups are not of tokens, but of rows: row blocks of one group of
    tokens, each of which has its results behind those of the one before.
    """
    tile = config.tile
    line = gemm_job(config)["result_line"].shape
    return data.StructLayout({
        "line": line, "stride": line,
        "slot": unsigned(ceil_log2(config.granule_elements // tile.rows)),
        "last_group": unsigned(ceil_log2(tile.groups)),
        "last_token": unsigned(ceil_log2(tile.tokens)),
        "last_row": unsigned(ceil_log2(tile.rows)),
        "output_format": Format, "last_lane": unsigned(2), "final": unsigned(1),
        "transpose": unsigned(1), "split": unsigned(1), "reshaped": unsigned(1),
        "scaled": unsigned(1),
        "more": unsigned(1), "partial": unsigned(1),
        "accumulate": unsigned(1), "first": unsigned(1)})


def beat_kind(config: Config) -> data.StructLayout:
    """How to read the operands of a beat.

    ``part`` and ``part_upper``: which half of its weights of 8 bits the units of the lower and of
    the upper half of the tokens take.
    """
    return data.StructLayout({"weight_format": Format, "brain_inputs": unsigned(1),
                              "part": unsigned(1), "part_upper": unsigned(1)})


def drain_step(config: Config) -> data.StructLayout:
    """One token of a block on its way out; ``read``: its group's sums are to be read.

    ``last``: of its block. Of a ``split`` block a token takes two steps, ``part`` 0 and 1; the
    result is that of both. So does one of a block that is added to what lies there, where the
    adder of lanes has to do that too.
    """
    block = row_block(config)
    same = ("slot", "last_row", "output_format", "last_lane", "final", "line", "split", "reshaped",
            "scaled", "more", "partial", "accumulate")
    return data.StructLayout({
        "enable": unsigned(1), "read": unsigned(1), "page": unsigned(1), "part": unsigned(1),
        "last": unsigned(1),
        "group": block["last_group"].shape, "token": block["last_token"].shape,
        **{name: block[name].shape for name in same}})
