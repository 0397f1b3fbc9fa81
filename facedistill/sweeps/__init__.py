"""Many runs: grids, searches, launchers and tables."""
