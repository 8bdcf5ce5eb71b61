"""The generated Verilog as a device: C++ harness, build and binding."""
