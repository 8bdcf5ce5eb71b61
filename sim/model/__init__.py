"""The golden model: bit-exact arithmetic in numpy, independent of the gateware."""
