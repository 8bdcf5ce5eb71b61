"""AMBA ports of a channel or stack: AXI4 slaves for data, an AXI4-Lite slave for control."""
