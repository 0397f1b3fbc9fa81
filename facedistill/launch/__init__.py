"""Many runs: each a fresh process tree, started from its own complete list of overrides."""
