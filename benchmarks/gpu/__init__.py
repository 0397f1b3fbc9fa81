"""Comparisons of training speed on a GPU; see `python -m benchmarks.gpu --help`."""
