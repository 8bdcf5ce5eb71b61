"""The DRAM controller: commands, refresh and bundle ownership."""
