"""From a configuration to Verilog and its companions, equal modules emitted once."""
