"""Reads the tensors of a pickle without running what it names."""
