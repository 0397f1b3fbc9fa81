"""What the processes of one run exchange."""
