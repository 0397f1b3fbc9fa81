"""Which images a step trains on: laws that hold for any seed, set and number of processes."""

from __future__ import annotations

import numpy as np
import pytest

from facedistill.data.sources.sampling import Balanced, BatchPlan, ShuffledOrder
from facedistill.errors import ConfigError


def test_every_epoch_holds_every_image_once_in_another_order():
    order = ShuffledOrder(37, seed=5)
    stream = order.take(np.arange(3 * 37)).reshape(3, 37)
    assert (np.sort(stream, axis=1) == np.arange(37)).all()
    assert len({tuple(epoch) for epoch in stream}) == 3
    assert not (stream == ShuffledOrder(37, seed=6).take(np.arange(3 * 37)).reshape(3, 37)).all(axis=1).any()


def test_a_position_has_one_answer_whatever_was_asked_before():
    stream = ShuffledOrder(10, seed=1).take(np.arange(60))
    jumping = ShuffledOrder(10, seed=1)
    for position in (55, 3, 31, 30, 29, 0, 59):
        assert jumping.take(np.array([position]))[0] == stream[position]
    straddling = ShuffledOrder(10, seed=1).take(np.arange(8, 23))
    assert (straddling == stream[8:23]).all()


def test_the_order_is_pinned():
    """Another order after an upgrade would break the exact resume of runs that are under way."""
    assert ShuffledOrder(8, seed=2021).take(np.arange(8)).tolist() == [7, 3, 0, 1, 6, 5, 4, 2]


def test_balanced_batches_hold_p_distinct_identities_with_k_images_each():
    labels = np.repeat(np.arange(11), [5, 4, 4, 9, 1, 4, 4, 2, 6, 4, 4])
    plan = BatchPlan(len(labels), labels, seed=0, balanced=Balanced(identities=3, images=4))
    seen = []
    for step in range(30):
        indices, balanced = plan.batch(step, 20)
        assert balanced.tolist() == [False] * 8 + [True] * 12
        part = indices[8:].reshape(3, 4)
        owners = labels[part]
        assert (owners == owners[:, :1]).all()
        assert len(set(owners[:, 0])) == 3
        for row, owner in zip(part, owners[:, 0], strict=True):
            own = (labels == owner).sum()
            assert len(set(row)) == min(4, own)  # repeated only where the identity has too few
        seen += owners[:, 0].tolist()
    for start in range(0, 90, 9):  # nine of eleven identities per round: none twice
        assert len(set(seen[start : start + 9])) == 9


def test_general_images_still_come_once_per_epoch_next_to_a_balanced_part():
    labels = np.repeat(np.arange(6), 4)
    plan = BatchPlan(24, labels, seed=0, balanced=Balanced(2, 2))
    general = np.concatenate([plan.batch(step, 10)[0][:6] for step in range(4)])
    assert sorted(general) == list(range(24))


def test_a_wholly_balanced_batch_is_marked_as_an_ordinary_one():
    labels = np.repeat(np.arange(6), 4)
    indices, balanced = BatchPlan(24, labels, seed=0, balanced=Balanced(2, 2)).batch(0, 4)
    assert len(indices) == 4
    assert balanced is None


def test_what_cannot_be_drawn_is_refused():
    labels = np.repeat(np.arange(6), 4)
    with pytest.raises(ConfigError) as error:
        BatchPlan(24, labels, seed=0, balanced=Balanced(7, 2))
    assert str(error.value) == ("data.source.balanced.identities=7: the set has 6 identities; ask for fewer")
    with pytest.raises(ConfigError) as error:
        BatchPlan(24, None, seed=0, balanced=Balanced(2, 2))
    assert str(error.value) == (
        "data.source.balanced: needs identity labels, and these faces have none; set it to null"
    )
    with pytest.raises(ConfigError) as error:
        BatchPlan(24, labels, seed=0, balanced=Balanced(4, 4)).batch(0, 12)
    assert str(error.value) == (
        "data.batch_size=12: is smaller than the balanced part of 4 x 4 images; raise it to 16 or more"
    )
