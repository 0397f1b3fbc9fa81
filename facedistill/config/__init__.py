"""Configuration: compose it, refuse what cannot work, compute its run id."""

from facedistill.config.compose import compose
from facedistill.config.run_id import make_run_id, result_relevant
from facedistill.config.validate import validate

__all__ = ["compose", "make_run_id", "result_relevant", "validate"]
