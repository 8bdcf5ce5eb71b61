# SPDX-License-Identifier: BSD-2-Clause
"""What Amaranth calls a module, an instance or a signal, and what the Verilog calls it."""

import json
import re
from collections.abc import Iterable, Mapping

NAMES = "names.json"

_INSTANCE = re.compile(r"^  (\w+) (\w+) \($", re.MULTILINE)
_SIGNAL = re.compile(r"^  (?:input|output|wire|reg) (?:\[\d+:\d+\] )?(\w+(?:, \w+)*)"
                     r"(?: \[\d+:0\])?(?: =|;| /)", re.MULTILINE)
_MADE_UP = re.compile(r"_\d+_")  # by Yosys, for what has no name


def name_map(top: str, texts: Iterable[str], renamed: Mapping[str, str]) -> str:
    """A JSON map from paths of Amaranth to names in Verilog.

    ``modules`` has for each module of the Verilog its ``instances``, submodule to [instance,
    module], and its ``signals``, signal to signal where the Verilog has another name. A path is
    followed from ``top`` on: each part but the last is an instance. Where Amaranth has several
    signals of one name in a module, all but one carry a number: ``ready$71``.

    Parameters
    ----------
    top : str
    texts : strings of Verilog
    renamed : mapping
        Name in Verilog to that in Amaranth, where they differ.
    """
    modules = {}
    bodies = {title: body for text in texts for title, body in re.findall(
        r"^module (\w+)\(.*?;\n(.*?)^endmodule", text, re.MULTILINE | re.DOTALL)}
    for title, body in bodies.items():
        instances = {renamed.get(name, name): [name, kind]
                     for kind, name in _INSTANCE.findall(body) if kind in bodies}
        found = (name for names in _SIGNAL.findall(body) for name in names.split(", "))
        signals = {renamed[name]: name for name in found
                   if name in renamed and not _MADE_UP.fullmatch(name)}
        modules[title] = {"instances": instances, "signals": dict(sorted(signals.items()))}
    lines = ",\n".join(f" {json.dumps(title)}: {json.dumps(module, separators=(',', ':'))}"
                       for title, module in modules.items())
    return f'{{"top": {json.dumps(top)}, "modules": {{\n{lines}\n}}}}\n'
