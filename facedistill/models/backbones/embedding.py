"""Layers from the last feature map to the embedding."""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

from facedistill.errors import ConfigError

Head = Literal["gdc", "fc_bn", "linear", "gap_linear"]


def embedding_layers(head: Head, width: int, side: int, embedding_dim: int) -> nn.Sequential:
    """Layers from (N, C, S, S) maps to (N, D) un-normalized embeddings.

    Args:
        head: "gdc": one weight per position and channel (global depthwise convolution), Linear, batch norm
            (MobileFaceNet). "fc_bn": batch norm, Linear over all positions, batch norm (IResNet; ArcFace's option
            "E"). "linear": Linear over all positions. "gap_linear": mean over the positions, then Linear
            (SynthDistill's TinyFaR, most of timm).
        width: C.
        side: S.
        embedding_dim: D.

    Raises:
        ConfigError: If there is no such head.
    """
    if head == "gdc":
        return nn.Sequential(
            nn.Conv2d(width, width, side, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.Flatten(),
            nn.Linear(width, embedding_dim, bias=False),
            nn.BatchNorm1d(embedding_dim),
        )
    if head == "fc_bn":
        return nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Flatten(),
            nn.Linear(width * side * side, embedding_dim),
            nn.BatchNorm1d(embedding_dim),
        )
    if head == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(width * side * side, embedding_dim))
    if head == "gap_linear":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, embedding_dim))
    raise ConfigError(f"backbone.head: no head is named {head!r}; choose one of {', '.join(get_args(Head))}")
