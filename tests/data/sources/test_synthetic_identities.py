"""Synthetic identities: each image recomputed alone by hand, laws of the acceptance, and the on-the-fly stream."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.data.augment import Augment
from facedistill.data.sources.synthetic import SyntheticIdentityStream
from facedistill.errors import ConfigError
from facedistill.models.latents import draw_latents
from facedistill.models.synthetic_identities import (
    ChosenIdentities,
    IdentityImages,
    SyntheticIdentities,
    choose_identities,
    render_identity_images,
)
from tests.helpers.tiny_networks import TinyGenerator, TinyTeacher

SETTINGS = SyntheticIdentities(
    identities=12, seed=5, spread=0.6, min_teacher_cosine=0.7, max_identity_cosine=0.8
)
GENERATOR, TEACHER = TinyGenerator(), TinyTeacher()


def chosen(settings: SyntheticIdentities = SETTINGS) -> ChosenIdentities:
    return choose_identities(GENERATOR, TEACHER, settings)


def render(k: list[int], j: list[int], settings: SyntheticIdentities = SETTINGS) -> IdentityImages:
    return render_identity_images(
        GENERATOR, TEACHER, chosen(settings), torch.tensor(k), torch.tensor(j), settings
    )


def style(k: int, candidate: int) -> Tensor:
    number = torch.tensor([k * 2**40 + candidate])
    return GENERATOR.map(draw_latents(5, "synthetic_identities/base", number, 8))


def face(w: Tensor) -> Tensor:
    return ((GENERATOR.render(w) + 1) * 127.5).round()


def unit(pixels: Tensor) -> Tensor:
    embedding = TEACHER((pixels - 127.5) / 127.5)[0]
    return embedding / embedding.norm()


def test_identities_are_chosen_one_by_one() -> None:
    taken: list[Tensor] = []
    candidates = []
    for k in range(12):
        candidate = 0
        while any(float(base @ other) > 0.8 for base in [unit(face(style(k, candidate)))] for other in taken):
            candidate += 1
        taken.append(unit(face(style(k, candidate))))
        candidates.append(candidate)
    found = chosen()
    assert found.candidates.tolist() == candidates
    assert found.replaced == sum(candidate > 0 for candidate in candidates) > 0
    torch.testing.assert_close(found.embeddings, torch.stack(taken))


def test_the_first_identities_do_not_depend_on_how_many_there_are() -> None:
    few = chosen(replace(SETTINGS, identities=5))
    torch.testing.assert_close(few.embeddings, chosen().embeddings[:5])


def test_variations_follow_the_formula_and_shrink_until_accepted() -> None:
    known = chosen()
    pairs = [(k, j) for k in range(12) for j in (1, 2)]
    made = render([k for k, _ in pairs], [j for _, j in pairs])
    tries = []
    for i, (k, j) in enumerate(pairs):
        w, base = style(k, int(known.candidates[k])), known.embeddings[k]
        for attempt in range(8):
            number = torch.tensor([k * 2**40 + j])
            noise = draw_latents(5, f"synthetic_identities/variation/{attempt}", number, 8)
            moved = w + 0.6 * 0.75**attempt * torch.einsum("ij,nj->ni", GENERATOR.cholesky_w, noise)
            if float(unit(face(moved)) @ base) >= 0.7:
                break
        tries.append(attempt)
        assert (made.faces[i].float() - face(moved)[0]).abs().max() <= 1
        assert float(made.spread[i]) == pytest.approx(0.6 * 0.75**attempt)
        torch.testing.assert_close(made.styles[i], moved[0])
        assert float(made.teacher_cosine[i]) == pytest.approx(float(unit(face(moved)) @ base), abs=0.02)
    assert max(tries) > 0
    assert float(made.teacher_cosine.min()) >= 0.7


def test_image_0_is_the_base_face() -> None:
    made = render([3, 4], [0, 0])
    torch.testing.assert_close(made.teacher_cosine, torch.ones(2))
    assert made.spread.tolist() == [0, 0]
    torch.testing.assert_close(F.normalize(made.embeddings, dim=1), chosen().embeddings[3:5])


def test_an_image_does_not_depend_on_its_batch() -> None:
    together = render([0, 7, 7, 2, 11], [4, 1, 0, 9, 1])
    for i, (k, j) in enumerate(zip([0, 7, 7, 2, 11], [4, 1, 0, 9, 1], strict=True)):
        alone = render([k], [j])
        assert torch.equal(alone.faces[0], together.faces[i])
        assert float(alone.spread) == float(together.spread[i])


def test_no_stream_of_the_held_out_pairs_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(seed: int, stream: str, indices: Tensor, dim: int) -> Tensor:
        asked.append(stream)
        return draw_latents(seed, stream, indices, dim)

    monkeypatch.setattr("facedistill.models.synthetic_identities.draw_latents", spy)
    render([0, 1], [1, 2])
    assert asked
    assert all(stream.startswith("synthetic_identities/") for stream in asked)


def test_another_seed_gives_other_people() -> None:
    assert not torch.equal(render([0], [0]).faces, render([0], [0], replace(SETTINGS, seed=6)).faces)


def test_what_cannot_be_met_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        render([0], [1], replace(SETTINGS, spread=30.0, min_teacher_cosine=0.999, max_tries=2))
    assert str(caught.value) == (
        "synthetic.min_teacher_cosine: 0.999 is not reached by image 1 of identity 0 in 2 tries down to spread "
        "22.500; lower one of the two"
    )
    with pytest.raises(ConfigError) as caught:
        chosen(replace(SETTINGS, identities=40, max_identity_cosine=-0.5))
    assert str(caught.value).startswith("synthetic.max_identity_cosine: -0.5 is too low for identity ")
    assert str(caught.value).endswith(" of 40 in 64 latents; raise it or lower synthetic.identities")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identities": 1}, "identities: must be a whole number from 2, got 1"),
        ({"identities": "many"}, "identities: must be a whole number from 2, got many"),
        ({"seed": -1}, "seed: must be a whole number from 0, got -1"),
        ({"spread": 0.0}, "spread: must be above 0, got 0.0"),
        ({"min_teacher_cosine": 1.0}, "min_teacher_cosine: must be within [-1, 1), got 1.0"),
        ({"max_identity_cosine": -1.0}, "max_identity_cosine: must be within (-1, 1], got -1.0"),
        ({"shrink": 1.0}, "shrink: must be within (0, 1), got 1.0"),
        ({"max_tries": 0}, "max_tries: must be a whole number from 1, got 0"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(SETTINGS, **change)
    assert str(caught.value) == f"synthetic.{message}"


def stream(**changes: Any) -> SyntheticIdentityStream:
    arguments: dict[str, Any] = {"teacher": TEACHER, "seed": 5, "identities": 12}
    return SyntheticIdentityStream(GENERATOR, max_identity_cosine=0.8, **(arguments | changes))


def test_two_ranks_share_the_batch_of_one() -> None:
    source = stream()
    whole = source.raw(3, batch_size=10)
    for rank in (0, 1):
        part = source.raw(3, batch_size=10, rank=rank, world_size=2)
        assert torch.equal(part["labels"], whole["labels"][rank::2])
        assert torch.equal(part["image_numbers"], whole["image_numbers"][rank::2])
        torch.testing.assert_close(source.finish(part).images, source.finish(whole).images[rank::2])


def test_a_batch_is_what_it_says() -> None:
    source = stream(images_per_identity=3, spread=0.6, min_teacher_cosine=0.7)
    raw = source.raw(2, batch_size=16)
    batch = source.finish(raw)
    assert source.offers.labels
    assert source.num_identities == 12
    assert batch.labels is not None
    assert batch.latents is not None
    assert batch.teacher_embeddings is not None
    assert set(raw["image_numbers"].tolist()) <= {0, 1, 2}
    torch.testing.assert_close(batch.teacher_embeddings, TEACHER(batch.images))
    assert float((GENERATOR.render(batch.latents) - batch.images).abs().max()) <= 1 / 127
    cosine = torch.einsum(
        "nd,nd->n", F.normalize(batch.teacher_embeddings, dim=1), chosen().embeddings[batch.labels]
    )
    assert float(cosine.min()) >= 0.7
    again = stream(images_per_identity=3, spread=0.6, min_teacher_cosine=0.7)
    assert torch.equal(again.finish(again.raw(2, batch_size=16)).images, batch.images)


def test_labels_and_images_are_spread_evenly() -> None:
    source = stream(images_per_identity=4)
    raws = [source.raw(step, batch_size=100) for step in range(30)]
    for key, kinds in (("labels", 12), ("image_numbers", 4)):
        counts = torch.cat([raw[key] for raw in raws]).bincount(minlength=kinds)
        assert len(counts) == kinds
        expected = 3000 / kinds
        assert float(((counts - expected) ** 2 / expected).sum()) < 40  # chi-squared, 11 degrees of freedom


def test_without_a_number_no_image_comes_back() -> None:
    numbers = torch.cat([stream().raw(step, batch_size=7)["image_numbers"] for step in range(5)])
    assert sorted(numbers.tolist()) == list(range(1, 36))


def test_augmented_images_are_embedded_by_the_teacher_again() -> None:
    source = stream(augment=Augment(flip=1.0))
    assert source.finish(source.raw(0, batch_size=2)).teacher_embeddings is None


def test_a_number_of_images_below_one_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^data.source.images_per_identity: must be at least 1 or null, got 0$"
    ):
        stream(images_per_identity=0)
