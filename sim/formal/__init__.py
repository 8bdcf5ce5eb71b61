"""Proofs about the gateware, by Yosys alone."""
