"""The runtime: lays a model out in the memory spaces and runs it over a device."""
