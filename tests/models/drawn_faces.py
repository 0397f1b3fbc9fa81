"""The package's faces drawn by formula, under the name that the tests know."""

from facedistill.models.drawn_faces import draw_faces

__all__ = ["draw_faces"]
