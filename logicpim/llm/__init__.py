"""From a model folder to a graph of operations with their M, N, K and Op/B."""
