"""One run: its folder, assembly, training, resume, evaluation and export."""
