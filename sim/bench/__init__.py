"""Helpers shared by the Python-side benches."""
