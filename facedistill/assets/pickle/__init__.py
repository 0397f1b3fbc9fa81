"""Reads the tensors of a pickle without running code that it names."""
