"""Finds faces in photographs and aligns them to the template that every network here was trained on."""
