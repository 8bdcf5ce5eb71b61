# SPDX-License-Identifier: BSD-2-Clause
"""Benches on the generated Verilog, in every simulator that reads it."""
