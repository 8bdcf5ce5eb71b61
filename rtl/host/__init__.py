"""AMBA ports in front of a channel: an AXI4 slave for data, an AXI4-Lite slave for control."""
