"""The DRAM model with its back door, and the protocol checker over recorded traces."""
