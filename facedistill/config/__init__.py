"""Configuration: compose it, refuse it in the user's words, give it an identity."""

from facedistill.config.compose import compose
from facedistill.config.run_id import make_run_id, result_relevant
from facedistill.config.validate import validate

__all__ = ["compose", "make_run_id", "result_relevant", "validate"]
