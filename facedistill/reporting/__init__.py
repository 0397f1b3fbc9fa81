"""The report and the model card of a run, tables, and the dashboard over many runs."""
