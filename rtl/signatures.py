# SPDX-License-Identifier: BSD-2-Clause
"""The ports at which the rooms of the data path meet: bank, tsv, pim, control."""

from amaranth.hdl import unsigned
from amaranth.lib import data, enum, stream
from amaranth.lib.wiring import In, Out, Signature
from amaranth.utils import bits_for, ceil_log2

from logicpim.spec.config import Config
from logicpim.spec.ecc import PART_BITS
from logicpim.spec.isa import Format


class Activity(enum.Enum, shape=3):
    """What the DRAM controller is doing, for the attribution of stalls."""

    IDLE = 0
    ACTIVATE = 1
    STREAM = 2
    REFRESH = 3
    HOST = 4


def row_command(config: Config) -> data.StructLayout:
    """A slot of the row command bus. ``command`` is a :class:`~logicpim.spec.dram.DramCommand`;
    for bundle commands ``bank`` is the bundle's index in the channel, and ``bank_group`` the part
    of PART_ACT: a bundle may have more parts than there are groups."""
    org = config.dram
    return data.StructLayout({
        "command": unsigned(4),
        "rank": unsigned(max(1, ceil_log2(org.ranks))),
        "bank_group": unsigned(max(1, ceil_log2(max(org.bank_groups, org.parts)))),
        "bank": unsigned(max(1, ceil_log2(max(org.banks_per_group, org.bundles)))),
        "row": unsigned(max(1, ceil_log2(org.rows))),
    })


def column_command(config: Config) -> data.StructLayout:
    """A slot of the column command bus, as :func:`row_command` with ``column`` for ``row``."""
    org = config.dram
    members = dict(row_command(config).members)
    del members["row"]
    return data.StructLayout({**members, "column": unsigned(max(1, ceil_log2(org.columns)))})


class CommandBus(Signature):
    """Commands from the controller to the DRAM: two row and two column slots a logic clock.

    Slot ``p`` of logic clock ``c`` is command clock ``2 * c + p``. Bit ``b`` of ``path`` is 1
    while the bank I/O of bundle ``b`` is switched to the Logic-PIM path, 0 for the xPU path.
    """

    def __init__(self, config: Config):
        super().__init__({
            "row0": Out(row_command(config)), "row1": Out(row_command(config)),
            "column0": Out(column_command(config)), "column1": Out(column_command(config)),
            "path": Out(config.dram.bundles),
        })


class DataBus(Signature):
    """Bank I/O as the TSV interface sees it (Out drives the DRAM).

    For a read command of clock ``c`` the DRAM holds ``*_rdata`` valid during clock
    ``c + read_latency`` alone; for a write it takes ``*_wdata`` (and bytes with their bit of
    ``host_wmask`` set) during clock ``c + write_latency``. Lane ``i`` of a bundle word is
    granule ``i``, see :meth:`logicpim.spec.dram.Organisation.bank_of`.

    With ``config.ecc`` each data bus has its side band beside it (``*_rcheck``, ``*_wcheck``),
    valid in the same clocks, and ``host_wmask`` is full in each write.
    """

    def __init__(self, config: Config):
        members = {
            "bundle_rdata": In(config.word_bits), "bundle_wdata": Out(config.word_bits),
            "host_rdata": In(config.granule_bits), "host_wdata": Out(config.granule_bits),
            "host_wmask": Out(config.granule_bytes),
        }
        if config.ecc:
            members |= {
                "bundle_rcheck": In(config.word_check_bits),
                "bundle_wcheck": Out(config.word_check_bits),
                "host_rcheck": In(config.check_bits), "host_wcheck": Out(config.check_bits),
            }
        super().__init__(members)


def bundle_job(config: Config) -> data.StructLayout:
    """Words to stream: ``words`` >= 1 bundle words from ``address`` on, dealt row by row over the
    ``2 ** interleave`` bundles of its aligned set."""
    bits = ceil_log2(config.dram.words)
    return data.StructLayout({"address": unsigned(bits), "words": unsigned(bits + 1),
                              "write": unsigned(1), "interleave": unsigned(2)})


def host_access(config: Config) -> data.StructLayout:
    """One granule of the xPU path; ``mask`` has a bit for each byte that a write changes."""
    return data.StructLayout({
        "write": unsigned(1), "address": unsigned(ceil_log2(config.dram.granules)),
        "data": unsigned(config.granule_bits), "mask": unsigned(config.granule_bytes)})


class DataStrobes(Signature):
    """When data of an issued command is on the :class:`DataBus` (Out is the controller).

    Each strobe is high in exactly the clock of the transfer. ``host_wdata`` and ``host_wmask``
    are valid with ``host_write``. A write needs no data strobe from the consumer: the controller
    issues ALL_WR only for words the TSV interface has announced with ``word_ready``, and
    ALL_RD only while it holds credit, returned by ``word_taken`` (one word each).
    """

    def __init__(self, config: Config):
        super().__init__({
            "bundle_read": Out(1), "bundle_write": Out(1),
            "host_read": Out(1), "host_write": Out(1),
            "host_wdata": Out(config.granule_bits), "host_wmask": Out(config.granule_bytes),
            "word_taken": In(1), "word_ready": In(1),
        })


class EccEvents(Signature):
    """What the decoders of the read paths found (``config.ecc``).

    ``word`` is high once for each bundle word read, in order, with ``bad`` if it has a part that
    is not correct; the others are numbers of parts in a clock.
    """

    def __init__(self, config: Config):
        granule = range(config.granule_bits // PART_BITS + 1)
        beat = range(config.beat_bits // PART_BITS + 1)
        super().__init__({
            "word": Out(1), "bad": Out(1),
            "words_corrected": Out(beat), "words_uncorrected": Out(beat),
            "host_corrected": Out(granule), "host_uncorrected": Out(granule)})


def gemm_job(config: Config) -> data.StructLayout:
    """One pass over the weights: up to ``config.pass_tokens`` tokens against N rows of depth K.

    ``source_line`` is the operand line of (group 0, k word 0); group g, k word w is at
    ``source_line + g * ceil(k / granule_elements) + w`` (with 8-bit weights K counts as padded
    to whole words, of twice as many elements); of ``dealt`` operands (``config.stack``) the lines
    come of themselves, in the order of their use. ``result_line`` likewise, with the
    result lines of one group in place of the k words. Raw sizes, all >= 1. If ``scaled``, the
    binary32 scales are in the lines from ``scale_line`` on: those of a row block's rows for its
    first ``scale_group`` weight words, for the next, and so on, then those of the next row block.
    If ``accumulate``, results are added to what lies there. If ``transpose``, weights come as words
    of W[K, N]: no more tokens then than ``tile.tokens``, n up to ``config.transposed_columns``.
    """
    return data.StructLayout({
        "tokens": unsigned(bits_for(config.tile.max_tokens)),
        "n": unsigned(24), "k": unsigned(24),
        "source_line": unsigned(ceil_log2(config.input_lines)),
        "result_line": unsigned(ceil_log2(config.temp_lines)),
        "weight_format": Format, "input_format": Format, "output_format": Format,
        "scaled": unsigned(1), "scale_line": unsigned(ceil_log2(config.input_lines)),
        "scale_group": unsigned(8), "accumulate": unsigned(1),
        "transpose": unsigned(1), **({"dealt": unsigned(1)} if config.stack else {}),
    })


class BufferRead(Signature):
    """Reader of a line buffer: ``data`` is valid in the clock after ``enable`` and ``address``
    were high together with ``ready``. ``ready`` may be low; it does not wait for ``enable``."""

    def __init__(self, lines: int, line_bits: int):
        super().__init__({"enable": Out(1), "address": Out(ceil_log2(lines)),
                          "ready": In(1), "data": In(line_bits)})


class OperandRead(Signature):
    """Reader of the input buffer that may go on looking at the line that it read: a
    :class:`BufferRead` whose ``data`` stay until the clock after the next one that is granted,
    its own or, told by ``lost``, another's."""

    def __init__(self, config: Config):
        super().__init__({**BufferRead(config.input_lines, config.line_bits).members,
                          "lost": In(1)})


class BufferWrite(Signature):
    """Writer of a line buffer: cells (equal parts of a line) with their ``enable`` bit set in a
    clock in which ``ready`` is high are written. They may be read from the second clock after."""

    def __init__(self, lines: int, line_bits: int, cells: int):
        super().__init__({"enable": Out(cells), "address": Out(ceil_log2(lines)),
                          "data": Out(line_bits), "ready": In(1)})


class ResultWrite(Signature):
    """Writer of results, always ready: :class:`BufferWrite` but that ``data`` are two neighbouring
    cells, the same for each pair of a line."""

    def __init__(self, config: Config):
        super().__init__({"enable": Out(cells_per_line(config)),
                          "address": Out(ceil_log2(config.temp_lines)),
                          "data": Out(2 * config.line_bits // cells_per_line(config))})


def cells_per_line(config: Config) -> int:
    """Write granularity of the buffers: the 16-bit results of one row block of one token."""
    return config.line_bits // (config.tile.rows * 16)


def beat_stream(config: Config) -> stream.Signature:
    """Weights on their way: beat h (0, 1) of a word holds, for each row r, its elements
    ``[h * depth, (h + 1) * depth)`` at bits ``r * depth * 16``."""
    return stream.Signature(unsigned(config.beat_bits))


class GemmEvents(Signature):
    """What the tile did this clock: took a beat, or why not (at most one is high)."""

    def __init__(self, config: Config):
        broadcast = {"stall_broadcast": Out(1)} if config.stack else {}
        super().__init__({"active": Out(1), "stall_output": Out(1), "stall_weights": Out(1),
                          **broadcast})


def line_stream(config: Config) -> stream.Signature:
    """Operand lines that a channel of a stack is given, in the order of their use."""
    return stream.Signature(unsigned(config.line_bits))
