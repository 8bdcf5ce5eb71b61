# SPDX-License-Identifier: BSD-2-Clause
"""A liberty file of four cells, made up."""

import pytest

_TABLE = 'index_1 ("0.01, 0.1"); index_2 ("0.001, 0.01"); values ("0.01, 0.02", "0.02, 0.03");'
_ARC = """
      timing () {{ related_pin : "{pin}"; timing_sense : {sense};
        cell_rise (t) {{ {table} }} cell_fall (t) {{ {table} }}
        rise_transition (t) {{ {table} }} fall_transition (t) {{ {table} }} }}"""
_GATE = """
  cell ({name}) {{
    area : {area};{inputs}
    pin (Y) {{ direction : output; function : "{function}"; max_capacitance : 1;{arcs}
    }}
  }}"""
_HEAD = """library (made_up) {
  delay_model : table_lookup; time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1mA";
  capacitive_load_unit (1, pf); nom_voltage : 1;
  lu_table_template (t) { variable_1 : input_net_transition;
    variable_2 : total_output_net_capacitance; index_1 ("0.01, 0.1"); index_2 ("0.001, 0.01"); }"""
_FLIP_FLOP = """
  cell (DFF) {
    area : 5.0;
    ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }
    pin (CK) { direction : input; clock : true; capacitance : 0.001; }
    pin (D) { direction : input; capacitance : 0.001; }
    pin (Q) { direction : output; function : "IQ"; }
  }"""


def _gate(name, area, function, inputs):
    pins = "".join(f"\n    pin ({pin}) {{ direction : input; capacitance : 0.001; }}"
                   for pin in inputs)
    sense = "positive_unate" if name == "BUF" else "negative_unate"
    arcs = "".join(_ARC.format(pin=pin, table=_TABLE, sense=sense) for pin in inputs)
    return _GATE.format(name=name, area=area, function=function, inputs=pins, arcs=arcs)


GATES = "".join([_gate("INV", 1.0, "!A", "A"), _gate("BUF", 1.5, "A", "A"),
                 _gate("NAND2", 2.0, "!(A * B)", "AB")])


def library(*cells):
    """Text of a liberty file."""
    return _HEAD + "".join(cells) + "\n}\n"


@pytest.fixture
def gates(tmp_path):
    path = tmp_path / "gates.lib"
    path.write_text(library(GATES))
    return path


@pytest.fixture
def flip_flops(tmp_path):
    path = tmp_path / "flip_flops.lib"
    path.write_text(library(_FLIP_FLOP))
    return path
