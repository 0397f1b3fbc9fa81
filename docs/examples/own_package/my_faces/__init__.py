"""Networks of one's own for facedistill."""
