"""An FPGA board as a device: frames, line, retries, and the device on top."""
