"""Benchmarks: their files and their rules."""
