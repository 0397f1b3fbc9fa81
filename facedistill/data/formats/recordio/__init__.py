"""RecordIO files (train.rec, train.idx), as InsightFace distributes them."""
