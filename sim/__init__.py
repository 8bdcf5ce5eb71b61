"""Simulation: the golden model, the DRAM and its checker, benches and harnesses."""
