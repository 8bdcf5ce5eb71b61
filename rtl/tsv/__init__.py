"""The TSV interface: I/O buffer, gearbox and path switch."""
