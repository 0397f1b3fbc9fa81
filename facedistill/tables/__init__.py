"""From rows.yaml to runs, and from runs to records that a table can be rendered from."""
