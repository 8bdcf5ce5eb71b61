"""LogicPIM: generate, verify and drive an open implementation of the Logic-PIM processing-in-memory device."""

__version__ = "0.1.0"
