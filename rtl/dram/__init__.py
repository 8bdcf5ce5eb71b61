"""DRAM in gateware, for boards that have none of the wanted kind."""
