"""Scores to numbers: verification figures with their intervals, and what a network costs."""
