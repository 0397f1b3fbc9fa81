"""Sets of synthetic identities on disk: content, cache, interruption, refusal, and what is said of them."""

import json
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from facedistill.data.formats.open import open_faces
from facedistill.data.generation import shard as module
from facedistill.data.generation.plan import describe
from facedistill.data.generation.separation import Separation, measure_separation
from facedistill.data.generation.synthetic_set import make_synthetic_set as loud_make
from facedistill.data.generation.synthetic_set import synthetic_set
from facedistill.errors import ConfigError, DataError
from facedistill.images import decode_face
from facedistill.models.synthetic_identities import (
    SyntheticIdentities,
    choose_identities,
    render_identity_images,
)
from tests.helpers.tiny_networks import TinyGenerator, TinyTeacher

make_synthetic_set = partial(loud_make, quiet=True)
SETTINGS = SyntheticIdentities(
    identities=6, seed=5, spread=0.4, min_teacher_cosine=0.5, max_identity_cosine=0.9
)
GENERATOR, TEACHER = TinyGenerator(), TinyTeacher()


def test_the_set_holds_every_image_under_its_label(tmp_path: Path) -> None:
    made = make_synthetic_set(GENERATOR, TEACHER, tmp_path / "out", SETTINGS, 4, per_shard=10)
    faces = open_faces(made.folder)
    assert faces.labels is not None
    assert faces.labels.tolist() == [k for k in range(6) for _ in range(4)]
    assert faces.identities == [f"synthetic-5-{k}" for k in range(6)]
    assert sorted(path.name for path in made.folder.glob("*.tar")) == [
        "000000.tar",
        "000001.tar",
        "000002.tar",
    ]
    chosen = choose_identities(GENERATOR, TEACHER, SETTINGS)
    for number in (0, 5, 23):
        k, j = torch.tensor([number // 4]), torch.tensor([number % 4])
        wanted = render_identity_images(GENERATOR, TEACHER, chosen, k, j, SETTINGS).faces[0]
        pixels = decode_face(faces.encoded(number), faces.where(number))
        assert np.abs(pixels.astype(int) - wanted.permute(1, 2, 0).numpy()).mean() < 2
    assert list(tmp_path.iterdir()) == [made.folder]


def test_the_cache_keys_on_all_that_decides(tmp_path: Path) -> None:
    first = synthetic_set(GENERATOR, TEACHER, tmp_path, SETTINGS, 2)
    assert first.name.startswith("synthetic-6x2-")
    written = (first / "faces.json").stat().st_mtime_ns
    assert synthetic_set(GENERATOR, TEACHER, tmp_path, SETTINGS, 2) == first
    assert (first / "faces.json").stat().st_mtime_ns == written
    other = TinyTeacher()
    other.weight[0, 0] += 1
    paths = {
        first,
        synthetic_set(GENERATOR, TEACHER, tmp_path, SETTINGS, 3),
        synthetic_set(GENERATOR, TEACHER, tmp_path, replace(SETTINGS, spread=0.3), 2),
        synthetic_set(GENERATOR, other, tmp_path, SETTINGS, 2),
    }
    assert len(paths) == 4


def test_an_interrupted_generation_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PART", 4)
    rendered: list[int] = []

    def interrupted(*arguments: object) -> object:
        if len(rendered) == 3:
            raise KeyboardInterrupt
        rendered.append(1)
        return render_identity_images(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module, "render_identity_images", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_synthetic_set(GENERATOR, TEACHER, tmp_path / "out", SETTINGS, 4)
    assert not (tmp_path / "out").exists()
    rendered.clear()
    monkeypatch.setattr(
        module,
        "render_identity_images",
        lambda *arguments: (rendered.append(1), render_identity_images(*arguments))[1],
    )
    resumed = open_faces(make_synthetic_set(GENERATOR, TEACHER, tmp_path / "out", SETTINGS, 4).folder)
    assert len(rendered) == 3  # six parts, three of them finished before
    whole = open_faces(make_synthetic_set(GENERATOR, TEACHER, tmp_path / "at-once", SETTINGS, 4).folder)
    assert resumed.fingerprint == whole.fingerprint


def test_another_set_in_its_place_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert make_synthetic_set(GENERATOR, TEACHER, out, SETTINGS, 2).is_new
    assert not make_synthetic_set(GENERATOR, TEACHER, out, SETTINGS, 2).is_new
    with pytest.raises(DataError) as caught:
        make_synthetic_set(GENERATOR, TEACHER, out, replace(SETTINGS, seed=6), 3)
    assert str(caught.value) == (
        f"{out}: holds another set (images_per_identity 2 instead of 3, seed 5 instead of 6); "
        "name another folder or delete it"
    )
    (out / "faces.json").unlink()
    with pytest.raises(DataError) as caught:
        make_synthetic_set(GENERATOR, TEACHER, out, SETTINGS, 2)
    assert (
        str(caught.value)
        == f"{out}: is there and is no set of generated faces; name another folder or delete it"
    )


def test_begun_with_other_settings_is_refused(tmp_path: Path) -> None:
    work = tmp_path / ".out.parts"
    work.mkdir()
    begun = describe(GENERATOR, TEACHER, replace(SETTINGS, seed=6), 2) | {"per_shard": 10_000}
    (work / "faces.json").write_text(json.dumps({"unfinished": True, "meta": begun}))
    with pytest.raises(DataError) as caught:
        make_synthetic_set(GENERATOR, TEACHER, tmp_path / "out", SETTINGS, 2)
    assert str(caught.value) == (
        f"{work}: holds another set (seed 6 instead of 5); name another folder or delete it"
    )
    (work / "faces.json").write_text('{"unfinished": true, "meta": {}}')
    with pytest.raises(DataError) as caught:
        make_synthetic_set(GENERATOR, TEACHER, tmp_path / "out", SETTINGS, 2)
    assert str(caught.value) == f"{work}: is damaged; delete it, its images will be rendered again"


@pytest.mark.parametrize(("images", "quality"), [(0, 95), ("ten", 95), (2, 101)])
def test_bad_numbers_are_refused(tmp_path: Path, images: int, quality: int) -> None:
    with pytest.raises(ConfigError, match="must be a whole number within 1 and "):
        make_synthetic_set(GENERATOR, TEACHER, tmp_path / "out", SETTINGS, images, quality=quality)


def test_separation_by_loops() -> None:
    seeded = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 7
    embeddings = torch.randn(7, 5, generator=seeded)[labels] + 0.4 * torch.randn(60, 5, generator=seeded)
    genuine, impostor = [], []
    for a, b in combinations(range(60), 2):
        cosine = float(torch.cosine_similarity(embeddings[a], embeddings[b], dim=0))
        (genuine if labels[a] == labels[b] else impostor).append(cosine)
    bound = sorted(impostor)[-1 - len(impostor) // 1000]
    found = measure_separation(embeddings, labels)
    assert found.mean_genuine_cosine == pytest.approx(np.mean(genuine), abs=1e-6)
    assert found.mean_impostor_cosine == pytest.approx(np.mean(impostor), abs=1e-6)
    assert found.impostor_cosine_999 == pytest.approx(bound, abs=1e-6)
    assert found.genuine_above == pytest.approx(np.mean(np.array(genuine) > bound), abs=0.01)


def test_separation_says_what_cannot_be_measured() -> None:
    found = measure_separation(torch.eye(4), torch.arange(4))
    assert found == Separation(None, 0.0, None, None)
    assert found.sentence() == "mean impostor cosine 0.000"
