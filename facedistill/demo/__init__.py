"""`facedistill demo`: a local page that compares two photographs."""
