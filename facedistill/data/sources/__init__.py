"""Where batches come from: rendered faces, stored faces, synthetic identities."""
