"""The gateware, in the order of the data path."""
