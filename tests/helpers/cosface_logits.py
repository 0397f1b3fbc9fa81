"""CosFace's logits with a scale of 12, one center after another."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def cosface_logits(embeddings, centers, labels, margin):
    rows = []
    for embedding, label in zip(embeddings, labels.tolist(), strict=True):
        cosines = [F.cosine_similarity(embedding, center, dim=0) for center in centers]
        rows.append(torch.stack([12 * (c - margin * (j == label)) for j, c in enumerate(cosines)]))
    return torch.stack(rows)
