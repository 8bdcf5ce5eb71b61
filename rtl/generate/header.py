# SPDX-License-Identifier: BSD-2-Clause
"""The C header and the instruction manual, both from the one table of the instruction set."""

from logicpim import __version__
from logicpim.spec.config import Config
from logicpim.spec.device import Counter, LaneRegister, Region
from logicpim.spec.dram import DramCommand
from logicpim.spec.ecc import ROWS
from logicpim.spec.functions import Function
from logicpim.spec.isa import (
    FIELDS,
    INSTRUCTION_BITS,
    Buffer,
    Format,
    Opcode,
    Status,
    allowed_mask,
)

from .amba import c_lines

_ENUMS = {"OPCODE": Opcode, "FORMAT": Format, "BUFFER": Buffer, "FUNCTION": Function,
          "STATUS": Status, "REGION": Region, "COUNTER": Counter, "LANE_REGISTER": LaneRegister,
          "DRAM": DramCommand}


DEALT = (
    "In a stack (`stack`) an instruction goes to a set of channels, each of which executes it on "
    "its own DRAM and its own slices of the buffers. The operands of a GEMM with `dealt` = D lie "
    "in the slices of all channels of the set, c0 < c1 < ...: k word *kw* of group *g* in channel "
    "c(kw // D) at line `source_line` + *g* * D + *kw* mod D. There are KW k words, ceil(K / "
    "granule elements), with weights of 8 bits 2 ceil(K / 2 granule elements), and ceil(KW / D) "
    "must not be more than the channels of the set. Each of them must have `source_line` + groups "
    "* D lines. So each channel holds an ordinary operand matrix of D words, and what ACTIVATE "
    "leaves in the slices are dealt operands. With `transpose` operands cannot be dealt.",)


def sizes(config: Config) -> dict[str, int]:
    """Sizes of a configuration by the name they have in C, without prefix."""
    org, timing, tile = config.dram, config.dram_timing, config.tile
    return {
        "CHANNELS": config.channels,
        "INSTRUCTION_BYTES": INSTRUCTION_BITS // 8,
        "TILE_TOKENS": tile.tokens, "TILE_ROWS": tile.rows, "TILE_DEPTH": tile.depth,
        "MAX_TOKENS": tile.max_tokens,
        "GRANULE_BYTES": config.granule_bytes, "WORD_BYTES": config.word_bytes,
        "LINE_BYTES": config.line_bytes,
        "INPUT_LINES": config.input_lines, "TEMP_LINES": config.temp_lines,
        "RANKS": org.ranks, "BANK_GROUPS": org.bank_groups,
        "BANKS_PER_GROUP": org.banks_per_group, "BUNDLE_BANKS": org.bundle_banks,
        "BUNDLES": org.bundles, "ROWS": org.rows, "COLUMNS": org.columns,
        "WORDS_PER_BUNDLE": org.words_per_bundle,
        "READ_LATENCY": timing.read_latency, "WRITE_LATENCY": timing.write_latency,
        "CHECK_BYTES": config.check_bits // 8, "LANE_REPAIR": int(config.lane_repair),
    }


def c_header(config: Config) -> str:
    """Sizes of the configuration and the encodings, for software in C or C++."""
    lines = [f"/* LogicPIM {__version__}, configuration {config.name} ({config.digest}). */",
             "#ifndef LOGICPIM_H", "#define LOGICPIM_H", ""]
    lines += [f"#define LOGICPIM_{name} {value}" for name, value in sizes(config).items()]
    if config.ecc:
        lines += ["", "/* Data bits of each check bit of a part of 64 bits. */",
                  f"#define LOGICPIM_ECC_ROWS {', '.join(f'0x{row:016x}ULL' for row in ROWS)}"]
    for prefix, kind in _ENUMS.items():
        lines += [""] + [f"#define LOGICPIM_{prefix}_{e.name} {e.value}" for e in kind]
    lines += ["", "/* Fields of an instruction: lowest bit and width. */"]
    for f in FIELDS.values():
        lines += [f"#define LOGICPIM_INSN_{f.name.upper()}_LSB {f.lsb}",
                  f"#define LOGICPIM_INSN_{f.name.upper()}_WIDTH {f.width}"]
    if config.host == "axi":
        lines += c_lines(config)
    return "\n".join([*lines, "", "#endif", ""])


def isa_manual() -> str:
    """``docs/isa.md``: opcodes, fields, formats, statuses, host regions and counters."""
    text = ["# Instruction set", "",
            "Written by `logicpim.rtl.generate.header.isa_manual` from `logicpim/spec/isa.py`; "
            "change that.", "",
            f"An instruction is a descriptor of {INSTRUCTION_BITS} bits, little-endian. Sizes "
            "are in elements, DRAM addresses in bundle words of the channel, buffer positions "
            "in lines. Bits that no field of the opcode covers must be zero.", "", "## Fields", ""]
    text += _table(("Field", "Bits", "Opcodes", "Meaning"), (
        (f"`{f.name}`", f"{f.lsb + f.width - 1}:{f.lsb}", ", ".join(o.name for o in f.opcodes),
         f.meaning) for f in FIELDS.values()))
    text += ["", "## Opcodes", ""]
    text += _table(("Opcode", "Code", "Bits that may be set"), (
        (o.name, f"`0x{o:02x}`", f"`0x{allowed_mask(o):064x}`") for o in Opcode))
    text += ["", "## Dealt operands", "", *DEALT]
    for title, kind in (("Formats", Format), ("Buffers", Buffer),
                        ("Functions", Function), ("Host regions", Region)):
        text += ["", f"## {title}", "", *_table(("Name", "Code"), ((e.name, e) for e in kind))]
    text += ["", "## Status of a completion", "",
             "Checked in this order but for DATA_ERROR; the first that fails is the status, and "
             "the instruction has no effect. DATA_ERROR comes with `ecc` alone.", ""]
    text += _table(("Status", "Code", "Meaning"), ((s.name, s, s.reason) for s in Status))
    text += ["", "## Counters", "",
             "Granule *i* of the register region reads counter *i*; a write to the region "
             "clears all. Those of corrected and uncorrected parts stay 0 without `ecc`.", ""]
    text += _table(("Counter", "Index", "Counts"), ((c.name, c, c.meaning) for c in Counter))
    text += ["", "## Lane registers", "",
             f"With `lane_repair`, granule {LaneRegister.TEST} of the register region runs the "
             f"lane test when it is written, and granules from {LaneRegister.GROUPS} on tell of "
             f"each group of lanes: see `docs/integrity.md`."]
    return "\n".join(text) + "\n"


def _table(head, rows):
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(format(cell) for cell in row)} |"


if __name__ == "__main__":
    import sys
    sys.stdout.write(isa_manual())
