"""Tables of experiments/: rows to runs to records."""
