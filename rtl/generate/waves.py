# SPDX-License-Identifier: BSD-2-Clause
"""Set-up of waveform viewers: what to look at, and codes as words."""

from logicpim.spec.config import Config
from logicpim.spec.device import Region
from logicpim.spec.dram import DramCommand
from logicpim.spec.isa import FIELDS, INSTRUCTION_BITS, Opcode, Status

_HEX, _WORDS, _BLANK = 0x22, 0x2022, 0x200  # GTKWave's flags of a line

_CODES = {"opcode": (Opcode, FIELDS["opcode"].width), "status": (Status, 8),
          "dram": (DramCommand, 4), "region": (Region, 2)}


def translations() -> dict[str, str]:
    """By file name: what codes mean, for GTKWave (``.gtkw.txt``) and Surfer (``.surfer.txt``)."""
    files = {}
    for name, (kind, bits) in _CODES.items():
        digits = -(-bits // 4)
        files[f"{name}.gtkw.txt"] = "".join(f"{e.value:0{digits}X} {e.name}\n" for e in kind)
        files[f"{name}.surfer.txt"] = (f"Name = logicpim_{name}\nBits = {bits}\n"
                                       + "".join(f"{e.value} {e.name}\n" for e in kind))
    return files


def _traces(config: Config):
    """(title, [(signal, width, code or None)]) of each group."""
    clock = [("clk", 1, None), ("rst", 1, None)]
    native = [
        ("instructions", [("insn_valid", 1, None), ("insn_ready", 1, None),
                          ("insn_payload", INSTRUCTION_BITS, "opcode"),
                          ("done_valid", 1, None), ("done_ready", 1, None),
                          ("done_tag", 16, None), ("done_status", 8, "status")]),
        ("host port", [("host_req_valid", 1, None), ("host_req_ready", 1, None),
                       ("host_req_write", 1, None), ("host_req_region", 2, "region"),
                       ("host_resp_valid", 1, None), ("host_resp_error", 1, None)])]
    data, control = ([(f"{port}_{name}{end}", 1, None) for name in ("aw", "w", "b", "ar", "r")
                      for end in ("valid", "ready")] for port in ("s_axi", "s_axil"))
    amba = [("AXI4", data), ("AXI4-Lite", [*control, ("irq", 1, None)])]
    slots = [f"dram_{bus}{slot}_command" for bus in ("row", "column") for slot in (0, 1)]
    dram = [(name, 4, "dram") for name in slots]
    dram.append(("dram_path", config.dram.bundles, None))
    if config.stack:
        (title, instructions), (_, host) = native
        instructions.insert(3, ("insn_channels", config.channels, None))
        if config.host == "axi":
            (title, instructions), host = amba[1], data
        return [("clock", clock), (title, instructions), *(
            (f"channel {index}", [(f"ch{index:02}_{name}", *rest) for name, *rest in host + dram])
            for index in range(config.channels))]
    if config.host == "native":
        return [("clock", clock), *native, ("DRAM commands", dram)]
    # A net has one of the names of the signals that are one with it.
    there = [("native ports", [("insn_valid", 1, None), ("insn_ready", 1, None),
                               ("insn_payload", INSTRUCTION_BITS, "opcode"),
                               *((f"{name}_{end}", 1, None) for name in
                                 ("completion_", "host_req", "host_resp")
                                 for end in ("valid", "ready"))])]
    return [("clock", clock), *amba, *there, ("DRAM commands", dram)]


def gtkwave(config: Config, top: str, scope: str) -> str:
    """A save file of GTKWave, for waveforms whose hierarchy begins with ``scope``."""
    lines = ["[*] LogicPIM: start gtkwave in this folder, for the translation files"]
    for title, signals in _traces(config):
        lines += [f"@{_BLANK:x}", f"-{title}"]
        for name, width, code in signals:
            path = f"{scope}{top}.{name}"
            lines.append(f"@{_WORDS if code else _HEX:x}")
            if code:
                lines.append(f"^1 {code}.gtkw.txt")
            if code == "opcode":  # the lowest bits of the descriptor
                bits = FIELDS["opcode"].width
                lines.append("#{opcode} " + " ".join(
                    f"({width - 1 - bit}){path}[{width - 1}:0]" for bit in reversed(range(bits))))
            else:
                lines.append(path + (f"[{width - 1}:0]" if width > 1 else ""))
    return "\n".join(lines) + "\n"


def surfer(config: Config, top: str, scope: str) -> str:
    """Commands for Surfer, for waveforms whose hierarchy begins with ``scope``."""
    lines = []
    for title, signals in _traces(config):
        lines.append(f'divider_add "{title}"')
        for name, width, code in signals:
            lines.append(f"variable_add {scope}{top}.{name}")
            if code and _CODES[code][1] == width:
                lines.append(f"item_set_format logicpim_{code}")
    return "\n".join([*lines, "zoom_fit", ""])


def wave_files(config: Config, top: str) -> dict[str, str]:
    """Set-ups by file name, for the hierarchies of Verilator and of Icarus."""
    files = translations()
    for simulator, scope in (("verilator", "TOP."), ("icarus", "")):
        files[f"{simulator}.gtkw"] = gtkwave(config, top, scope)
        files[f"{simulator}.sucl"] = surfer(config, top, scope)
    return files
