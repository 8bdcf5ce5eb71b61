"""The GEMM module: operand decoding, processing units, accumulators and buffers."""
