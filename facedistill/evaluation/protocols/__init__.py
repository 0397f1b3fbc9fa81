"""The benchmarks: their files and their rules."""
