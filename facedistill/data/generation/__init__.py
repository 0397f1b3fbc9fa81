"""Renders labeled synthetic identities to shards."""
