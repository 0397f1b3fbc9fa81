"""A synthetic RFW against a loop over groups, and groups for any pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from facedistill.errors import DataError
from facedistill.evaluation.benchmark import run_protocols
from facedistill.evaluation.embedder import embed
from facedistill.evaluation.protocols.archives import FolderArchive
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.find import Place, find_protocol
from facedistill.evaluation.protocols.groups import group_figures, open_rfw, with_groups
from facedistill.evaluation.protocols.pairs import pairs_protocol, parse_lfw_pairs
from facedistill.metrics.verification import verification_summary
from tests.evaluation.protocols.miniature_benchmark import Averages, lfw_list, write_lfw
from tests.evaluation.protocols.miniature_identification import write_rfw


@pytest.fixture
def lfw(tmp_path: Path) -> PairsProtocol:
    return pairs_protocol("lfw", FolderArchive(write_lfw(tmp_path)), parse_lfw_pairs(lfw_list(), ""))


def test_group_figures_equal_those_of_the_group_alone(tmp_path: Path) -> None:
    root = write_rfw(tmp_path)
    protocol = open_rfw(root, "rfw")
    assert protocol.group_names == ("African", "Asian", "Indian")
    assert (len(protocol.same), int(protocol.same.sum()), protocol.num_images) == (120, 60, 54)
    network = Averages()
    entry = run_protocols(network, [protocol], role="student", resamples=20, quiet=True)["rfw"]
    groups = entry["groups"]
    accuracies = []
    for group in protocol.group_names:
        pairs = parse_lfw_pairs(f"10 2\n{(root / 'txts' / group / f'{group}_pairs.txt').read_text()}", "")
        alone = pairs_protocol(group, FolderArchive(root / "data" / group), pairs)
        figures = run_protocols(network, [alone], role="student", resamples=20, quiet=True)[group]
        score = alone.score(embed(network, alone, quiet=True)).numpy()
        mine = groups["by_group"][group]
        assert mine["accuracy"] == pytest.approx(figures["accuracy"])
        assert mine["auc"] == pytest.approx(figures["auc"])
        accepted = score >= groups["threshold"]
        assert mine["tar_at_threshold"] == pytest.approx(accepted[alone.same.numpy()].mean())
        assert mine["far_at_threshold"] == pytest.approx(accepted[~alone.same.numpy()].mean())
        accuracies.append(figures["accuracy"])
    assert groups["accuracy_mean"] == pytest.approx(np.mean(accuracies))
    assert groups["accuracy_std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert groups["accuracy_gap"] == pytest.approx(max(accuracies) - min(accuracies))
    assert groups["mixed"] == 0
    assert entry["pairs"] == 120


def test_gap_error_ratio_and_intervals() -> None:
    """Group a is always right, b wrong in one pair of each of five folds out of ten."""
    same = torch.tensor([True, False] * 20)
    score = same.float()
    group, fold = torch.arange(40) // 20, torch.arange(40) % 20 // 2
    score[20:30:2] = -1  # genuine pairs of b's first five folds score lowest
    found = group_figures(score, same, fold, group, ["a", "b"], 0.5, resamples=500)
    a, b = (found["by_group"][name]["accuracy"] for name in "ab")
    assert (a, b) == (1, 0.75)
    assert found["accuracy_gap"] == 0.25
    assert found["accuracy_gap_ci"][0] == pytest.approx(0.1, abs=0.051)
    assert found["accuracy_gap_ci"][1] == pytest.approx(0.4, abs=0.051)
    assert found["error_ratio"] is None
    assert found["by_group"]["b"]["tar_at_threshold"] == 0.5
    found = group_figures(score, same, fold, group, ["a", "b"], 1 + 1e-12, resamples=1)  # compared in float64
    assert found["by_group"]["a"]["tar_at_threshold"] == 0


def test_any_pairs_with_a_table(lfw: PairsProtocol) -> None:
    table = "# who\tgroup\n" + "".join(
        f"Person_{x}\t{'first' if x < 'E' else 'second'}\n" for x in "ABCDEFGH"
    )
    with pytest.raises(DataError) as caught:
        with_groups(lfw, table, "t.tsv")
    assert str(caught.value) == (
        "t.tsv: group first has 8 pairs with 2 of the two kinds in 1 folds; it needs genuine and impostor pairs in "
        "at least two folds"
    )
    # A, B, E, F against C, D, G, H: the impostor pairs B-C, D-A, F-G, H-E cross the groups
    table = "".join(f"Person_{x}\t{'second' if x in 'CDGH' else 'first'}\n" for x in "ABCDEFGH")
    grouped = with_groups(lfw, table, "t.tsv")
    assert grouped.group_names == ("first", "second")
    assert grouped.group.tolist() == [0, 0, 1, 1, 0, -1, 1, -1] * 2
    assert grouped.fingerprint != lfw.fingerprint
    entry = run_protocols(Averages(), [grouped], role="student", resamples=20, quiet=True)["lfw"]
    assert entry["groups"]["mixed"] == 4
    assert entry["groups"]["by_group"]["first"]["pairs"] == 6
    score = grouped.score(embed(Averages(), grouped, quiet=True))
    alone = verification_summary(*(x[grouped.group == 0] for x in (score, lfw.same, lfw.fold)))
    assert entry["groups"]["by_group"]["first"]["auc"] == alone["auc"]


def test_the_line_of_an_image_overrides_that_of_its_folder(lfw: PairsProtocol) -> None:
    table = "".join(f"Person_{x}\t{'second' if x in 'CDGH' else 'first'}\n" for x in "ABCDEFGH")
    grouped = with_groups(lfw, table + "Person_A/Person_A_0002.png\tsecond\n", "t.tsv")
    assert grouped.group.tolist()[0] == -1


def test_images_without_a_group_are_counted(lfw: PairsProtocol) -> None:
    with pytest.raises(DataError) as caught:
        with_groups(lfw, "Person_A\tx\nPerson_B\ty\n", "t.tsv")
    assert str(caught.value) == (
        "t.tsv: 12 of 16 images of lfw have no group, the first is Person_C/Person_C_0001; add a line for it or for "
        "its folder"
    )
    with pytest.raises(
        DataError, match=r"^t.tsv: line 1 must hold a name and a group, tab-separated; got 'a b'$"
    ):
        with_groups(lfw, "a b\n", "t.tsv")


def test_places_open_both(tmp_path: Path) -> None:
    write_rfw(tmp_path)
    write_lfw(tmp_path)
    places = {
        "rfw": Place(("rfw",), layout="rfw"),
        "lfw_groups": Place(("lfw112",), ("lfw_pairs.txt",), "lfw", groups=("lfw_groups.tsv",)),
    }
    assert find_protocol("rfw", [tmp_path], places).name == "rfw"
    absent = find_protocol("lfw_groups", [tmp_path], places)
    assert "with lfw_pairs.txt and lfw_groups.tsv into" in absent.reason  # type: ignore[union-attr]
    table = "".join(f"Person_{x}\t{'second' if x in 'CDGH' else 'first'}\n" for x in "ABCDEFGH")
    (tmp_path / "lfw_groups.tsv").write_text(table)
    assert find_protocol("lfw_groups", [tmp_path], places).group_names == ("first", "second")  # type: ignore[union-attr]


def test_fewer_than_two_groups_raise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds 0 lists txts/<Group>/<Group>_pairs.txt; at least two groups"):
        open_rfw(tmp_path, "rfw")


def test_missing_images_are_counted(tmp_path: Path) -> None:
    root = write_rfw(tmp_path)
    (root / "data" / "Asian" / "m.01w" / "m.01w_0001.jpg").unlink()
    with pytest.raises(DataError) as caught:
        open_rfw(root, "rfw")
    assert str(caught.value) == (
        f"rfw: 1 of 54 images are missing from {root / 'data'}, the first is Asian/m.01w/m.01w_0001; "
        "add them, or use the list that belongs to these images"
    )
