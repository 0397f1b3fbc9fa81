"""Protocols, and how a network is run through them."""
