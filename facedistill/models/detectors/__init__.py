"""Finds faces in photographs, and brings them to the template that every network here was trained on."""

from facedistill.models.detectors.scrfd import Faces, Scrfd, nms
from facedistill.models.detectors.similarity import ARCFACE_TEMPLATE, align_face, fit_similarity, warp

__all__ = ["ARCFACE_TEMPLATE", "Faces", "Scrfd", "align_face", "fit_similarity", "nms", "warp"]
