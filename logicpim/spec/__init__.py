"""Facts without behaviour: configurations, DRAM rows, instructions and the abstract device."""
