"""Facts without behaviour: configurations, DRAM rows, the instruction set and the abstract device."""
