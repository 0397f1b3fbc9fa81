"""Configuration: compose it, refuse it in the user's words, give it an identity."""

from facedistill.config.compose import compose
from facedistill.config.identity import identity, result_relevant
from facedistill.config.validate import validate

__all__ = ["compose", "identity", "result_relevant", "validate"]
