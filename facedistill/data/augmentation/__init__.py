"""Changes of aligned faces that make them look like photographs."""

from facedistill.data.augmentation.photo import PhotoAugment

__all__ = ["PhotoAugment"]
