# SPDX-License-Identifier: BSD-2-Clause
"""The core file by which FuseSoC takes up the generated Verilog."""

from collections.abc import Sequence

from logicpim import __version__
from logicpim.spec.config import Config


def core_file(config: Config, top: str, verilog: Sequence[str], waiver: str) -> str:
    """A CAPI2 core: the sources, the waivers for Verilator, and a target that lints them."""
    name = "".join(c if c.isalnum() else "_" for c in config.name)
    lines = ["CAPI=2:", f"name: logicpim:logicpim:{name}:{__version__}",
             f'description: "LogicPIM, configuration {name} ({config.digest})"', "",
             "filesets:", "  rtl:", "    files:", *(f"      - {file}" for file in verilog),
             "    file_type: verilogSource", "  waivers:", "    files:", f"      - {waiver}",
             "    file_type: vlt", "", "targets:", "  default: &default",
             '    filesets: [rtl, "tool_verilator? (waivers)"]', f"    toplevel: {top}",
             "  lint:", "    <<: *default", "    default_tool: verilator", "    tools:",
             "      verilator:", "        mode: lint-only", '        verilator_options: [-Wall]']
    return "\n".join(lines) + "\n"
