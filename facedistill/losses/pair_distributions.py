"""DDL: the distribution of hard pairs' similarities follows that of easy pairs (ECCV 2020)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.losses.precision import at_least_float32, outside_autocast

EPSILON = 1e-9  # TFace


class PairSimilarities(NamedTuple):
    """Cosines of one genuine and one impostor pair per image, with weights 0 where an image has no such pair.

    All (N,), in [-1, 1] and {0, 1}.
    """

    genuine: Tensor
    genuine_weights: Tensor
    impostor: Tensor
    impostor_weights: Tensor


@outside_autocast
def labeled_pairs(embeddings: Tensor, labels: Tensor) -> PairSimilarities:
    """Pairs of a labeled batch: each image with the next of its identity, and with its hardest other identity.

    "Next" is in batch order, from the last image to the first again: two images of an identity are one pair counted twice.

    >>> pairs = labeled_pairs(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.6, 0.8]]), torch.tensor([0, 0, 1]))
    >>> pairs.genuine.tolist(), pairs.genuine_weights.tolist(), [round(s, 1) for s in pairs.impostor.tolist()]
    ([0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.6, 0.8, 0.8])

    Args:
        embeddings: (N, D) of any norm > 0.
        labels: (N,) identities.
    """
    unit = F.normalize(at_least_float32(embeddings))
    count = len(unit)
    places = torch.arange(count, device=unit.device)
    same = labels[:, None] == labels[None, :]
    ahead = ((places[None, :] - places[:, None]) % count).masked_fill(~same, 0)
    ahead = torch.where(ahead > 0, ahead, count).amin(
        1
    )  # count where there is no other image of the identity
    genuine = (unit * unit[(places + ahead) % count]).sum(1)
    impostor, found = _hardest(unit @ unit.T, ~same)
    return PairSimilarities(genuine, (ahead < count).to(unit), impostor, found)


@outside_autocast
def pairs_with_anchors(embeddings: Tensor, anchors: Tensor) -> PairSimilarities:
    """Pairs without labels: each image with its own anchor, and with the hardest other image of the batch.

    Args:
        embeddings: (N, D) of any norm > 0.
        anchors: (N, D) embeddings of the same faces; receive no gradient.
    """
    unit, theirs = F.normalize(at_least_float32(embeddings)), F.normalize(at_least_float32(anchors.detach()))
    others = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    impostor, found = _hardest(unit @ unit.T, others)
    return PairSimilarities((unit * theirs).sum(1), torch.ones_like(found), impostor, found)


def soft_histogram(similarities: Tensor, weights: Tensor, *, nodes: int = 201, width: float = 0.1) -> Tensor:
    """Distribution of similarities over nodes t_r that divide [-1, 1] evenly.

    h_r = sum over pairs p of w_p · exp(-(s_p - t_r)² / (2·width²)), divided by its sum over r: the histogram of the
    paper with soft assignment (after Ustinova, Lempitsky; NeurIPS 2016). All 0 where no pair has a weight.

    Args:
        similarities: (P,) in [-1, 1].
        weights: (P,) >= 0.
        nodes: R >= 2.
        width: Standard deviation of a pair's mass, in cosine, > 0; 0.1 in TFace.

    Returns:
        (R,) >= 0, of sum 1.
    """
    places = torch.linspace(-1, 1, nodes, dtype=similarities.dtype, device=similarities.device)
    mass = (-0.5 * ((similarities[:, None] - places) / width).square()).exp() * weights[:, None]
    histogram = mass.sum(0)
    return histogram / histogram.sum().clamp_min(EPSILON)


def distribution_divergence(easy: Tensor, hard: Tensor) -> Tensor:
    """KL(easy ‖ hard) = sum over r of easy_r · log(easy_r / hard_r), 1e-9 added to both as in TFace.

    The easy distribution is the target and gets no gradient; TFace's code lets it move too.

    Args:
        easy: (R,) histogram.
        hard: (R,) histogram.
    """
    target = easy.detach() + EPSILON
    return (target * (target.log() - (hard + EPSILON).log())).sum()


def order_loss(easy: PairSimilarities, hard: PairSimilarities) -> Tensor:
    """Sum over p, q in (easy, hard) of E[impostor similarity of p] - E[genuine similarity of q], in [-8, 8].

    0 where there are no genuine or no impostor pairs.
    """
    expectations = [
        _mean(side.impostor, side.impostor_weights) - _mean(side.genuine, side.genuine_weights)
        for side in (easy, hard)
    ]
    known = (hard.genuine_weights.amax() * hard.impostor_weights.amax()).sign()
    return 2 * known * torch.stack(expectations).sum()


def ddl_terms(
    easy: PairSimilarities, hard: PairSimilarities, *, nodes: int = 201, width: float = 0.1
) -> dict[str, Tensor]:
    """The three terms of DDL (Huang et al., ECCV 2020), each () and unweighted.

    genuine = KL(P⁺ ‖ Q⁺), impostor = KL(P⁻ ‖ Q⁻), order = sum of E[S⁻] - E[S⁺], where P is the distribution of the
    easy pairs and Q that of the hard ones; see `soft_histogram`, `distribution_divergence` and `order_loss`.

    The paper's text was read in part (abstract, introduction). The formulas are those of the authors' code in TFace
    (`ddl.py`), with four differences: nodes divide [-1, 1] and not [0, 1); negative similarities count as they are (there: genuine
    pairs below 0 are dropped, impostor ones become 0); the hardest impostor of an image is looked for among all images (there: among
    those that follow it in the batch); and the easy distribution is constant in the divergence.
    """
    settings = {"nodes": nodes, "width": width}
    genuine = [soft_histogram(side.genuine, side.genuine_weights, **settings) for side in (easy, hard)]  # type: ignore[arg-type]
    impostor = [soft_histogram(side.impostor, side.impostor_weights, **settings) for side in (easy, hard)]  # type: ignore[arg-type]
    return {
        "genuine": distribution_divergence(*genuine),
        "impostor": distribution_divergence(*impostor),
        "order": order_loss(easy, hard),
    }


def _hardest(cosines: Tensor, impostors: Tensor) -> tuple[Tensor, Tensor]:
    """Highest cosine (N,) of each row among `impostors` (N, N), and 1 where there is one; 0 and 0 elsewhere."""
    found = impostors.any(1)
    highest = cosines.masked_fill(~impostors, -2).amax(1)
    return torch.where(found, highest, 0), found.to(cosines)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp_min(1)
