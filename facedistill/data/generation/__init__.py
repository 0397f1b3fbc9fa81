"""Renders labelled synthetic identities to shards."""
