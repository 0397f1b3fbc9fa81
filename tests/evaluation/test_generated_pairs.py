"""Generated pairs from a tiny generator and teacher: laws of the protocol, and what the cache keeps."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from facedistill.errors import ConfigError, DataError, UserError
from facedistill.evaluation.generated_pairs import (
    GeneratedPairs,
    generated_protocol,
    load_generated_pairs,
    make_generated_pairs,
)
from facedistill.models.latents import draw_latents

SMALL = GeneratedPairs(identities=20, seed=3, spread=0.5, min_teacher_cosine=0.6)


class TinyGenerator(nn.Module):
    """Eight numbers to a face of 8 gray bands."""

    latent_dim = 8
    cholesky_w: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cholesky_w", torch.diag(torch.linspace(0.5, 1.5, 8)))
        self.rendered = 0

    def map(self, z: Tensor) -> Tensor:
        return z * 0.5

    def render(self, w: Tensor) -> Tensor:
        self.rendered += len(w)
        return (w / 2).clamp(-1, 1)[:, None, :, None].repeat_interleave(14, dim=2).expand(-1, 3, -1, 112)


class TinyTeacher(nn.Module):
    """Reads the bands back."""

    embedding_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.ones(8))

    def forward(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images, (8, 1)).mean(dim=1).flatten(1) * self.gain


def test_a_cache_that_cannot_be_written_is_refused_before_anything_is_rendered(tmp_path: Path) -> None:
    generator, cache = TinyGenerator(), tmp_path / "cache"
    cache.write_text("a file, not a folder")
    with pytest.raises(
        UserError, match=r"cache: cannot be written .*; set FACEDISTILL_CACHE to a folder that you may"
    ):
        make_generated_pairs(generator, TinyTeacher(), cache, SMALL)
    assert generator.rendered == 0


def test_genuine_pairs_reach_the_teacher_cosine(tmp_path: Path) -> None:
    generator, teacher = TinyGenerator(), TinyTeacher()
    arrays = load_file(make_generated_pairs(generator, teacher, tmp_path, SMALL))
    assert arrays["base"].dtype == arrays["variation"].dtype == torch.uint8
    assert arrays["base"].shape == arrays["variation"].shape == (20, 3, 112, 112)
    base, variation = (teacher(arrays[name].float() / 127.5 - 1) for name in ("base", "variation"))
    cosine = F.cosine_similarity(base, variation)
    assert torch.allclose(cosine, arrays["teacher_cosine"], atol=1e-5)
    assert (cosine >= 0.6).all()
    redrawn = arrays["spread"] < 0.5
    assert redrawn.any()
    assert not redrawn.all()
    steps = torch.log(arrays["spread"] / 0.5) / torch.log(torch.tensor(0.75))
    assert torch.allclose(steps, steps.round(), atol=1e-4)
    assert generator.rendered == 20 + 20 + int(steps.round().sum())


def test_variation_is_a_covariance_shaped_step(tmp_path: Path) -> None:
    generator = TinyGenerator()
    free = replace(SMALL, min_teacher_cosine=-1.0, spread=0.2)
    arrays = load_file(make_generated_pairs(generator, TinyTeacher(), tmp_path, free))
    for i in range(20):
        index = torch.tensor([i])
        w = generator.map(draw_latents(3, "generated_pairs/base", index, 8))
        noise = draw_latents(3, "generated_pairs/variation/0", index, 8)
        moved = w + 0.2 * torch.einsum("ij,nj->ni", generator.cholesky_w, noise)
        wanted = ((generator.render(moved) + 1) * 127.5).round()
        assert (arrays["variation"][i].float() - wanted[0]).abs().max() <= 1


def test_pairs_and_folds_obey_the_protocol(tmp_path: Path) -> None:
    settings = GeneratedPairs(identities=40, seed=3, min_teacher_cosine=-1.0, impostors_per_identity=3)
    protocol = generated_protocol(TinyGenerator(), TinyTeacher(), tmp_path, settings)
    assert protocol.name == "generated"
    assert protocol.num_images == 80
    left, right = protocol.left, protocol.right - 40
    assert (protocol.left < 40).all()
    assert (right >= 0).all()
    assert torch.equal(left == right, protocol.same)
    assert (int(protocol.same.sum()), int((~protocol.same).sum())) == (40, 120)
    assert len(set(zip(left.tolist(), right.tolist(), strict=True))) == 160
    for fold in range(10):
        inside = protocol.fold == fold
        assert int((inside & protocol.same).sum()) == 4
        people = set(left[inside].tolist()) | set(right[inside].tolist())
        others = set(left[~inside].tolist()) | set(right[~inside].tolist())
        assert people == set(range(4 * fold, 4 * fold + 4))
        assert not people & others


def test_default_has_as_many_impostor_as_genuine_pairs(tmp_path: Path) -> None:
    protocol = generated_protocol(TinyGenerator(), TinyTeacher(), tmp_path, SMALL)
    assert int(protocol.same.sum()) == int((~protocol.same).sum()) == 20


def test_made_once_per_generator_teacher_and_settings(tmp_path: Path) -> None:
    generator, teacher = TinyGenerator(), TinyTeacher()
    first = make_generated_pairs(generator, teacher, tmp_path, SMALL)
    rendered = generator.rendered
    assert make_generated_pairs(generator, teacher, tmp_path, SMALL) == first
    assert generator.rendered == rendered
    teacher.gain[0] = 2
    second = make_generated_pairs(generator, teacher, tmp_path, SMALL)
    generator.cholesky_w *= 0.9
    third = make_generated_pairs(generator, teacher, tmp_path, SMALL)
    fourth = make_generated_pairs(generator, teacher, tmp_path, replace(SMALL, seed=4))
    assert len({first, second, third, fourth}) == 4


def test_an_identity_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few = load_file(make_generated_pairs(TinyGenerator(), TinyTeacher(), tmp_path, SMALL))
    many = load_file(
        make_generated_pairs(TinyGenerator(), TinyTeacher(), tmp_path, replace(SMALL, identities=50))
    )
    for name in ("base", "variation", "spread"):
        assert torch.equal(few[name], many[name][:20])


def test_unreachable_cosine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        make_generated_pairs(
            TinyGenerator(), TinyTeacher(), tmp_path, replace(SMALL, min_teacher_cosine=0.9999, spread=5)
        )
    assert str(caught.value).startswith(
        "evaluation.generated_pairs.min_teacher_cosine: 0.9999 is not reached by identity "
    )
    assert str(caught.value).endswith(" in 8 tries down to spread 0.667; lower one of the two")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identities": 25}, "identities: must be a multiple of 10 from 20, got 25"),
        ({"spread": 0.0}, "spread: must be above 0, got 0.0"),
        ({"min_teacher_cosine": 1.0}, "min_teacher_cosine: must be within [-1, 1), got 1.0"),
        (
            {"impostors_per_identity": 30},
            "impostors_per_identity: must be within 1 and 29 (identities per fold - 1), got 30",
        ),
    ],
)
def test_bad_settings_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(GeneratedPairs(), **change)  # type: ignore[arg-type]
    assert str(caught.value) == f"evaluation.generated_pairs.{message}"


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    path = make_generated_pairs(TinyGenerator(), TinyTeacher(), tmp_path, SMALL)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError) as caught:
        load_generated_pairs(path)
    assert (
        str(caught.value)
        == f"{path}: is not a complete file of generated pairs; delete it, and it is made again"
    )
