"""Distil large face recognition networks into small ones."""

__version__ = "0.1.0"
