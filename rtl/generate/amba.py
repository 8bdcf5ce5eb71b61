# SPDX-License-Identifier: BSD-2-Clause
"""The AMBA side of a channel or stack for software, tools and people: C, SystemRDL, tables."""

from logicpim import __version__
from logicpim.rtl.tsv.lanes import groups
from logicpim.spec.config import Config
from logicpim.spec.device import Counter, LaneRegister
from logicpim.spec.host import (
    COUNTERS_BASE,
    COUNTERS_STRIDE,
    IDENTITY,
    WORD_BITS,
    Access,
    address_bits,
    control_registers,
    memory_map,
)

_SOFTWARE = {Access.RO: "sw = r; hw = w;", Access.WO: "sw = w; hw = r;",
             Access.RW: "sw = rw; hw = r;",
             Access.W1C: "sw = rw; onwrite = woclr; hw = w;"}


def c_lines(config: Config) -> list[str]:
    """Definitions of the memory map and of the control registers, in C."""
    each = " of each channel" if config.stack else ""
    lines = ["", f"/* Byte addresses of the AXI4 port{each}. */"]
    for window in memory_map(config):
        name = window.region.name
        lines += [f"#define LOGICPIM_AXI_{name}_BASE 0x{window.base:x}ull",
                  f"#define LOGICPIM_AXI_{name}_SIZE 0x{window.size:x}ull"]
    lines += [f"#define LOGICPIM_AXI_ADDRESS_BITS {address_bits(config)}",
              f"#define LOGICPIM_AXI_DATA_BYTES {config.axi_bits // 8}",
              "", "/* Byte offsets in the AXI4-Lite port, and masks of fields. */"]
    for register in control_registers(config).values():
        name = f"LOGICPIM_REG_{register.name.upper()}"
        lines.append(f"#define {name} 0x{register.offset:x}")
        lines += [f"#define {name}_{f.name.upper()} 0x{f.mask:x}u" for f in register.fields
                  if f.width < WORD_BITS]
    lines += [f"#define LOGICPIM_REG_IDENTITY_VALUE 0x{IDENTITY:x}u",
              f"#define LOGICPIM_REG_DIGEST_VALUE 0x{config.digest[:8]}u",
              f"#define LOGICPIM_REG_COUNTERS 0x{COUNTERS_BASE:x}"]
    if config.stack:
        lines += ["/* From the counters of one channel to those of the next. */",
                  f"#define LOGICPIM_REG_CHANNEL_STRIDE 0x{COUNTERS_BASE:x}"]
    return lines


def _text(words: str) -> str:
    return words.replace("\\", "\\\\").replace('"', '\\"')


def _bits(lsb: int, width: int) -> str:
    return f"[{lsb + width - 1}:{lsb}]"


def system_rdl(config: Config) -> str:
    """The AXI4-Lite registers in SystemRDL 2.0."""
    what = "stack" if config.stack else "channel"
    lines = [f"// LogicPIM {__version__}, configuration {config.name} ({config.digest}).",
             "addrmap logicpim {", f'    name = "LogicPIM {what}: control registers";',
             f'    desc = "AXI4-Lite port of one {what}.";',
             f"    default regwidth = {WORD_BITS};", f"    default accesswidth = {WORD_BITS};"]
    for register in control_registers(config).values():
        lines += ["    reg {", f'        desc = "{_text(register.meaning)}";']
        reset = {"identity": IDENTITY, "digest": int(config.digest[:8], 16),
                 "irq_enable": 0, "channels": (1 << config.channels) - 1}.get(register.name)
        for f in register.fields:
            access = f.access or register.access
            extra = " rclr;" if register.name == "completion" else ""
            value = "" if reset is None else f" = 0x{reset >> f.lsb & (1 << f.width) - 1:x}"
            lines.append(f'        field {{ desc = "{_text(f.meaning)}"; '
                         f"{_SOFTWARE[access]}{extra} }} {f.name}{_bits(f.lsb, f.width)}{value};")
        array = f"[{register.count}]" if register.count > 1 else ""
        lines.append(f"    }} {register.name}{array} @ 0x{register.offset:x};")
    if config.stack:
        return "\n".join([*lines, "    regfile {", *(f"    {line}" for line in _region(config)),
                          f"    }} channel[{config.channels}] @ 0x{COUNTERS_BASE:x} "
                          f"+= 0x{COUNTERS_BASE:x};", "};", ""])
    return "\n".join([*lines, *_region(config, COUNTERS_BASE), "};", ""])


def _region(config: Config, base: int = 0) -> list[str]:
    """The register region of a channel, from ``base`` on."""
    lines = []
    for counter in Counter:
        lines += ["    reg {", f"        regwidth = 64; accesswidth = {WORD_BITS};",
                  f'        desc = "{_text(counter.meaning)}; a write to the lower half clears all '
                  f'counters";',
                  "        field { sw = rw; hw = w; onwrite = wclr; } value[63:0] = 0;",
                  f"    }} {counter.name.lower()} @ 0x{base + COUNTERS_STRIDE * counter:x};"]
    if config.lane_repair:
        array = f"[{len(groups(config))}]"
        for name, index, count, text in (
                ("lane_test", LaneRegister.TEST, "", "groups with dead lanes; a write tests"),
                ("lane_group", LaneRegister.GROUPS, array, "which lane of a group is left out")):
            write = "rw" if index == LaneRegister.TEST else "r"
            lines += ["    reg {", f"        regwidth = 64; accesswidth = {WORD_BITS};",
                      f'        desc = "{text}";',
                      f"        field {{ sw = {write}; hw = w; }} value[63:0];",
                      f"    }} {name}{count} @ 0x{base + COUNTERS_STRIDE * index:x};"]
    return lines


def register_tables(config: Config) -> str:
    """The control registers and their fields, for ``docs/integration.md``."""
    channels = (f"; those of channel c at `0x{COUNTERS_BASE:x}` (1 + c)" if config.stack else "")
    lines = ["| Offset | Register | Access | Meaning |", "| --- | --- | --- | --- |"]
    for register in control_registers(config).values():
        last = register.offset + 4 * (register.count - 1)
        at = f"`0x{register.offset:03x}`" + (f" to `0x{last:03x}`" if register.count > 1 else "")
        lines.append(f"| {at} | {register.name} | {register.access.value} | {register.meaning} |")
    lines += [f"| `0x{COUNTERS_BASE:x}` + {COUNTERS_STRIDE} i | counter i | rw | 64 bits, by the "
              f"index in `docs/isa.md`; a write to the lower half clears all"
              f"{channels} |", "",
              "| Register | Bits | Field | Meaning |", "| --- | --- | --- | --- |"]
    for register in control_registers(config).values():
        for f in register.fields:
            if f.width < WORD_BITS:
                bits = f"{f.lsb + f.width - 1}:{f.lsb}" if f.width > 1 else f.lsb
                lines.append(f"| {register.name} | {bits} | {f.name} | {f.meaning} |")
    return "\n".join(lines) + "\n"


def map_table(config: Config) -> str:
    """The windows of the AXI4 port, for ``docs/integration.md``."""
    lines = ["| Window | From | To | Bytes |", "| --- | --- | --- | --- |"]
    lines += [f"| {w.region.name} | `0x{w.base:08x}` | `0x{w.end - 1:08x}` | {w.size:,} |"
              for w in memory_map(config)]
    return "\n".join(lines) + "\n"
