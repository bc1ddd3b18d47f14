"""Measures the engine alone and through HTTP, on the same workload: `scripts/bench --help`."""
