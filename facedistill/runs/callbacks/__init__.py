"""Lightning callbacks of a run, other than those that save checkpoints."""
