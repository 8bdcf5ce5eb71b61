# SPDX-License-Identifier: BSD-2-Clause
"""The host agent: conventional accesses to single banks, in order."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from logicpim.rtl.signatures import host_access
from logicpim.rtl.stream import Queue, connect
from logicpim.spec.config import Config

from .access import Access

WAITING = 4  # enough to see the next access to a row while the one before is issued


class HostAgent(wiring.Component):
    """Queues host accesses and asks for the bank, row and column of the oldest.

    Parameters
    ----------
    config : Config

    Members
    -------
    host : In, stream of :func:`~logicpim.rtl.signatures.host_access`
    access : Out(Access), the oldest access
    data, mask : Out, what it writes
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({"host": In(stream.Signature(host_access(config))),
                          "access": Out(Access(config)),
                          "data": Out(config.granule_bits), "mask": Out(config.granule_bytes)})

    def elaborate(self, platform):
        m = Module()
        org = self.config.dram
        m.submodules.queue = queue = Queue(host_access(self.config), depth=WAITING)
        connect(m, wiring.flipped(self.host), queue.i)

        # As Organisation.locate and bank_of: from the top bundle, row, column, lane, where the
        # lane's low part is the bank group.
        sizes = (("group", org.bank_groups), ("low", org.bundle_banks // org.bank_groups),
                 ("column", org.columns), ("row", org.rows), ("high", org.bundles_per_rank),
                 ("rank", org.ranks))
        part, at = {}, 0
        for name, size in sizes:
            part[name] = queue.o.payload.address[at:at + ceil_log2(size)]
            at += ceil_log2(size)
        page = self.access.page
        m.d.comb += [
            self.access.valid.eq(queue.o.valid), self.access.go.eq(queue.o.valid),
            self.access.write.eq(queue.o.payload.write), self.access.column.eq(part["column"]),
            page.rank.eq(part["rank"]), page.bank_group.eq(part["group"]),
            page.bank.eq((part["high"] << len(part["low"])) | part["low"]),
            page.row.eq(part["row"]),
            self.data.eq(queue.o.payload.data), self.mask.eq(queue.o.payload.mask),
            queue.o.ready.eq(self.access.advance),
        ]
        return m
