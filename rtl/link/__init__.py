"""The serial link between a host and a channel on an FPGA board."""
