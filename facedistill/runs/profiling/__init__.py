"""Where the time of a training step goes, against what the device can do, and which settings make it shorter."""
