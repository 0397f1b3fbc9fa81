"""A face set in memory: drawn faces, one hue per identity."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


class DrawnSet:
    """K identities x M images of 112 px PNG noise around the identity's color; labels may be left out."""

    def __init__(self, identities: int = 4, images: int = 8, *, labeled: bool = True, size_px: int = 112):
        draw = np.random.default_rng(0)
        count = identities * images
        owner = np.arange(count) % identities
        hue = draw.integers(40, 216, (identities, 4, 4, 3))
        self._files = []
        for identity in owner:
            coarse = np.clip(hue[identity] + draw.integers(-30, 31, (4, 4, 3)), 0, 255).astype(np.uint8)
            whole = np.kron(coarse, np.ones((size_px // 4, size_px // 4, 1), dtype=np.uint8))
            file = io.BytesIO()
            Image.fromarray(whole).save(file, "PNG")
            self._files.append(file.getvalue())
        self.labels = owner.astype(np.int64) if labeled else None
        self.identities = [str(k) for k in range(identities)] if labeled else []
        self.fingerprint = f"{identities:04d}{images:04d}{labeled:01d}{size_px:07d}"

    def __len__(self) -> int:
        return len(self._files)

    def encoded(self, index: int) -> bytes:
        return self._files[index]

    def where(self, index: int) -> str:
        return f"drawn {index}"
