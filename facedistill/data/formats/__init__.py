"""Face sets on disk: opening, reading, writing, converting, verifying."""
