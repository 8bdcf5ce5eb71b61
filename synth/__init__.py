"""Synthesis flows and targets: boards and standard cells."""
