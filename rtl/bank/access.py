# SPDX-License-Identifier: BSD-2-Clause
"""What an agent of the DRAM controller asks for: a column of a row, and whether it can go."""

from amaranth.lib import data
from amaranth.lib.wiring import In, Out, Signature

from logicpim.rtl.signatures import column_command, row_command
from logicpim.spec.config import Config


def page(config: Config) -> data.StructLayout:
    """A row of one bank, or of one bundle: ``bank`` is then its index, ``bank_group`` 0."""
    members = dict(row_command(config).members)
    del members["command"]
    return data.StructLayout(members)


class Access(Signature):
    """The next access of an agent (Out is the agent).

    ``valid`` says that the agent wants ``page`` open, ``go`` that the column command may be
    issued now as far as the agent is concerned. The controller pulses ``advance`` when it issues
    it; the next access stands there one clock later.
    """

    def __init__(self, config: Config):
        super().__init__({
            "valid": Out(1), "go": Out(1), "write": Out(1), "page": Out(page(config)),
            "column": Out(column_command(config).members["column"]), "advance": In(1),
        })
