"""Where the jobs of a sweep run: this machine or SLURM."""
