"""LogicPIM: an open Logic-PIM processing-in-memory device, generated, verified and driven."""

__version__ = "0.1.0"
