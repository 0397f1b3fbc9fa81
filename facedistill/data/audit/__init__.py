"""Looks for a benchmark's people in a training set."""
