"""Reading a run folder: curves that were logged twice, arrays that do not fit, files that are broken."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from facedistill.errors import DataError
from facedistill.metrics.operating import tars_at_fars
from facedistill.metrics.verification import roc
from facedistill.reporting.run.curves import smoothed
from facedistill.reporting.run.faces import face_cards, shown
from facedistill.reporting.run.files import Faces, read_curves, read_faces, read_run, read_scores
from facedistill.reporting.run.verification_figures import admitted


def _csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    return path


def test_sparse_rows_give_one_series_for_each_column(tmp_path: Path) -> None:
    curves = read_curves(
        _csv(tmp_path, "step,images_seen,train/loss,val/cosine\n9,100,0.5,\n9,100,,0.2\n19,200,0.4,nan\n")
    )
    assert_array_equal(curves["train/loss"].images_seen, [100, 200])
    assert_array_equal(curves["train/loss"].value, [0.5, 0.4])
    assert_array_equal(curves["val/cosine"].value, [0.2])
    assert set(curves) == {"train/loss", "val/cosine"}


def test_a_row_without_images_seen_gets_it_from_its_step(tmp_path: Path) -> None:
    curves = read_curves(_csv(tmp_path, "step,images_seen,lr\n0,64,1\n5,,2\n10,704,3\n"))
    assert_allclose(curves["lr"].images_seen, [64, 384, 704])


def test_what_a_resumed_run_logged_again_replaces_the_first(tmp_path: Path) -> None:
    rows = "step,images_seen,lr\n1,10,1\n2,20,2\n3,30,3\n2,20,7\n3,30,8\n4,40,9\n"
    series = read_curves(_csv(tmp_path, rows))["lr"]
    assert_array_equal(series.images_seen, [10, 20, 30, 40])
    assert_array_equal(series.value, [1, 7, 8, 9])


@pytest.mark.parametrize(
    "text", ["", "step,images_seen,lr\n", "step,lr\n1,0.1\n", "step,images_seen,lr\n1,,0.1\n"]
)
def test_no_progress_no_curves(tmp_path: Path, text: str) -> None:
    assert read_curves(_csv(tmp_path, text)) == {}


def test_a_cell_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = _csv(tmp_path, "step,images_seen,lr\n1,10,0.1\n2,20,fast\n")
    with pytest.raises(DataError) as caught:
        read_curves(path)
    assert str(caught.value) == f"{path}, line 3: 'fast' is not a number; correct or delete the line"


def test_curves_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(b"step,images_seen,lr\n1,10,\xff\n")
    with pytest.raises(DataError, match=r"metrics\.csv cannot be read as CSV"):
        read_curves(tmp_path / "metrics.csv")


def test_smoothing_is_the_mean_of_the_window() -> None:
    value = np.random.default_rng(0).normal(size=400)
    half = int(400 * 0.03 / 2)
    slow = [value[max(at - half, 0) : at + half + 1].mean() for at in range(400)]
    assert_allclose(smoothed(value), slow)
    assert_allclose(smoothed(value[:3]), value[:3])


Spoil = Callable[[dict[str, np.ndarray]], object]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a.update(score=a["score"][:-1]), "5999 scores but 6000 labels; evaluate the run again"),
        (lambda a: a["score"].__setitem__(3, np.nan), "1 scores are not finite; evaluate the run again"),
        (lambda a: a.update(same=a["same"] | True), "needs genuine and impostor pairs, has only one kind"),
    ],
)
def test_scores_that_do_not_fit_are_refused(run: Path, spoil: Spoil, message: str) -> None:
    path = run / "scores" / "lfw.student.npz"
    arrays = dict(np.load(path))
    spoil(arrays)
    np.savez(path, **arrays)
    with pytest.raises(DataError) as caught:
        read_scores(run, "lfw", "student")
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("name", ["scores/lfw.student.npz", "faces.npz"])
def test_arrays_of_texts_are_refused(run: Path, name: str) -> None:
    with np.load(run / name) as arrays:
        np.savez(run / name, **{key: array.astype(str) for key, array in arrays.items()})
    with pytest.raises(DataError, match=r"\w+ holds no numbers; "):
        read_run(run)


def test_pickles_are_never_loaded(run: Path) -> None:
    path = run / "scores" / "lfw.student.npz"
    np.savez(path, score=np.array([{}], dtype=object), same=[True], fold=[0])
    with pytest.raises(DataError, match="cannot be read"):
        read_scores(run, "lfw", "student")


def test_a_protocol_name_cannot_leave_the_folder(run: Path) -> None:
    with pytest.raises(DataError, match="is not a plain name; rename it"):
        read_scores(run, "../../secret", "student")


def test_a_missing_array_is_named(run: Path) -> None:
    np.savez(run / "faces.npz", base=np.zeros((1, 3, 4, 4), np.uint8))
    with pytest.raises(DataError) as caught:
        read_faces(run / "faces.npz")
    assert str(caught.value) == (
        f"{run / 'faces.npz'} has no array variation, base_cosine, variation_cosine, teacher_cosine; "
        "delete it and run the command that writes it"
    )


@pytest.mark.parametrize(("name", "text"), [("run.json", "{"), ("run.json", "[]"), ("config.yaml", "a: [")])
def test_broken_text_files_are_named(run: Path, name: str, text: str) -> None:
    (run / name).write_text(text)
    with pytest.raises(DataError, match=name):
        read_run(run)


def _faces(count: int) -> Faces:
    cosine = np.random.default_rng(0).permutation(np.linspace(-0.5, 0.9, count))
    images = np.zeros((count, 3, 8, 8), np.uint8)
    return Faces(images, images, cosine, cosine, cosine)


def test_faces_are_shown_from_least_to_most_agreement() -> None:
    assert_array_equal(np.diff(_faces(5).base_cosine[shown(_faces(5))]) > 0, True)
    many = _faces(100)
    chosen = many.base_cosine[shown(many)]
    assert len(chosen) == 16
    assert (chosen[0], chosen[-1]) == (-0.5, 0.9)


def test_the_coefficient_is_that_of_the_base_face() -> None:
    cards = face_cards(_faces(2))
    assert [(card.base_cosine, card.coefficient) for card in cards] == [("-0.50", "0.25"), ("0.90", "0.95")]


@pytest.mark.parametrize("decimals", [6, 1, 0])
def test_the_roc_is_the_tables_rule_at_every_rate(decimals: int) -> None:
    random = np.random.default_rng(1)
    genuine = random.normal(0.4, 0.2, 300).round(decimals)
    impostor = random.normal(0, 0.1, 200).round(decimals)
    far, tar = admitted(roc(genuine, impostor), 1 / 200)
    assert far[0] == 1 / 200
    assert (np.diff(far) > 0).all()
    for wanted in (1 / 200, 1 / 100, 0.033, 0.2, 0.9, 1.0):
        drawn = tar[np.searchsorted(far, wanted * (1 + 1e-9), side="right") - 1]
        assert drawn == tars_at_fars(genuine, impostor, [wanted])[0][0]
