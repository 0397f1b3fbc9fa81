"""A synthetic IJB-C in both modes, against loops over templates and media that follow the released evaluators."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from facedistill.errors import DataError
from facedistill.evaluation.benchmark import run_protocols
from facedistill.evaluation.embedder import embed
from facedistill.evaluation.protocols.find import Place, find_protocol
from facedistill.evaluation.protocols.ijb import IjbProtocol, open_ijb
from facedistill.evaluation.protocols.images import decode_tensor
from facedistill.evaluation.protocols.templates import (
    N0D0F0,
    N1D1F1,
    TemplateMode,
    face_embeddings,
    pair_scores,
    pool_templates,
)
from tests.evaluation.protocols.miniature_benchmark import Averages, draw
from tests.evaluation.protocols.miniature_identification import write_ijbc


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ijbc(tmp_path_factory.mktemp("ijb"))


@pytest.fixture(scope="module")
def protocol(root: Path) -> IjbProtocol:
    return open_ijb(root, "ijbc")


def slow_templates(faces: np.ndarray, template: np.ndarray, media: np.ndarray) -> dict[int, np.ndarray]:
    """Template by template, media by media."""
    pooled = {}
    for wanted in sorted(set(template.tolist())):
        mine = np.where(template == wanted)[0]
        total = np.zeros(faces.shape[1])
        for medium in sorted(set(media[mine].tolist())):
            shots = [faces[i].astype(float) for i in mine if media[i] == medium]
            total += sum(shots) / len(shots)
        pooled[wanted] = total / np.sqrt((total**2).sum())
    return pooled


def slow_faces(plain: np.ndarray, mirrored: np.ndarray, detector: np.ndarray, mode: str) -> np.ndarray:
    rows = []
    for a, b, confidence in zip(plain.astype(float), mirrored.astype(float), detector, strict=True):
        row = a + b if "F1" in mode else a
        if "N0" in mode:
            row = row / np.sqrt((row**2).sum())
        rows.append(row * confidence if "D1" in mode else row)
    return np.array(rows)


@pytest.mark.parametrize("mode", [N0D0F0, N1D1F1, TemplateMode(norm=True, detector=False, flip=True)])
def test_pooling_is_that_of_the_loop(mode: TemplateMode) -> None:
    rng = np.random.default_rng(1)
    plain, mirrored = (
        rng.normal(size=(200, 7)).astype(np.float32),
        rng.normal(size=(200, 7)).astype(np.float32),
    )
    detector = rng.random(200).astype(np.float32)
    template, media = rng.choice([900, 3, 77, 12, 5000, 4], 200), rng.integers(1, 9, 200)
    faces = face_embeddings(*map(torch.from_numpy, (plain, mirrored, detector)), mode)
    found, unit = pool_templates(faces, torch.from_numpy(template), torch.from_numpy(media))
    wanted = slow_templates(slow_faces(plain, mirrored, detector, mode.name), template, media)
    assert found.tolist() == list(wanted)
    np.testing.assert_allclose(unit.numpy(), np.array(list(wanted.values())), atol=2e-6)


def test_mode_names() -> None:
    assert (N0D0F0.name, N1D1F1.name) == ("N0D0F0", "N1D1F1")


def test_pair_scores_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = torch.nn.functional.normalize(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)))
    left, right = torch.arange(50) % 9, torch.arange(50) * 4 % 9
    monkeypatch.setattr("facedistill.evaluation.protocols.templates._PAIRS_AT_ONCE", 7)
    for score, a, b in zip(pair_scores(unit, left, right), left, right, strict=True):
        assert score.item() == pytest.approx(
            sum(x * y for x, y in zip(unit[a], unit[b], strict=True)).item(), abs=1e-6
        )


def test_loose_crops_are_aligned_by_their_landmarks(protocol: IjbProtocol, root: Path) -> None:
    first = next(protocol.images(4))[0]
    person = int((1000 - int(protocol.template[0])) % 300 // 17)
    assert (first.float() - decode_tensor(draw(person, 1), "").float()).abs().mean() < 2


def test_figures_of_both_modes_are_those_of_the_loop(protocol: IjbProtocol) -> None:
    network = Averages()
    figures = run_protocols(network, [protocol], role="student", resamples=20, quiet=True)
    assert list(figures) == ["ijbc_n0d0f0", "ijbc_n1d1f1"]
    both = embed(network, protocol, flip="both", quiet=True).numpy()
    plain, mirrored = both[:, :48], both[:, 48:]
    pairs = list(zip(protocol.left.tolist(), protocol.right.tolist(), protocol.same.tolist(), strict=True))
    for name, entry in figures.items():
        faces = slow_faces(plain, mirrored, protocol.detector_score.numpy(), entry["mode"])
        assert name == f"ijbc_{entry['mode'].lower()}"
        unit = slow_templates(faces, protocol.template.numpy(), protocol.media.numpy())
        genuine = sorted(unit[a] @ unit[b] for a, b, same in pairs if same)
        impostor = sorted(unit[a] @ unit[b] for a, b, same in pairs if not same)
        assert (entry["pairs"], entry["genuine"]) == (len(pairs), len(genuine))
        highest = impostor[-1 - len(impostor) // 100]
        assert entry["tar"]["1e-2"]["tar"] == pytest.approx(np.mean([g > highest for g in genuine]))
        assert entry["tar"]["1e-6"] == "not measurable"
        check_identification(entry["identification"], protocol, unit)


def check_identification(found: dict, protocol: IjbProtocol, unit: dict[int, np.ndarray]) -> None:
    assert protocol.probes is not None
    probes = list(zip(protocol.probes.template, protocol.probes.subject, strict=True))
    galleries = [list(zip(g.template, g.subject, strict=True)) for g in protocol.galleries]
    ranks = []
    for template, subject in probes:
        scored = {s: unit[template] @ unit[t] for t, s in galleries[0] + galleries[1]}
        ranks.append(1 + sum(v >= scored[subject] for s, v in scored.items() if s != subject))
    assert (found["searches"], found["mated"], found["gallery"]) == (12, 12, 12)
    for k in (1, 5, 10):
        assert found["rank"][str(k)]["rate"] == pytest.approx(np.mean([rank <= k for rank in ranks]))
    assert found["tpir"] == {"1e-1": "not measurable", "1e-2": "not measurable"}  # six non-mated searches


def test_distinct_identities_are_found(protocol: IjbProtocol) -> None:
    """Synthetic identities differ clearly in every mode."""
    figures = run_protocols(Averages(), [protocol], role="student", resamples=5, quiet=True)
    assert all(entry["identification"]["rank"]["1"]["rate"] > 0.9 for entry in figures.values())
    assert all(entry["auc"] > 0.95 for entry in figures.values())


def test_score_files_are_written_by_mode(protocol: IjbProtocol, tmp_path: Path) -> None:
    run_protocols(Averages(), [protocol], role="teacher", scores_dir=tmp_path, resamples=5, quiet=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ijbc_n0d0f0.teacher.npz",
        "ijbc_n1d1f1.teacher.npz",
    ]


def test_the_layout_opens_it(root: Path) -> None:
    found = find_protocol("ijbc", [root.parent], {"ijbc": Place(("IJBC",), layout="ijb")})
    assert isinstance(found, IjbProtocol)
    assert torch.equal(found.template, open_ijb(root, "ijbc").template)


def changed(tmp_path: Path, file: str, change) -> str:
    root = write_ijbc(tmp_path)
    path = root / "meta" / file
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError) as caught:
        open_ijb(root, "ijbc")
    return str(caught.value).replace(str(root / "meta"), "META")


def test_files_that_disagree_are_named_with_counts(tmp_path: Path) -> None:
    message = changed(tmp_path, "ijbc_name_5pts_score.txt", lambda t: "".join(t.splitlines(True)[:-2]))
    assert message.startswith("META/ijbc_face_tid_mid.txt names ")
    assert message.endswith("both must name the same faces in the same order, so take them from one package")


def test_pairs_of_unknown_templates_are_counted(tmp_path: Path) -> None:
    message = changed(tmp_path, "ijbc_template_pair_label.txt", lambda t: t + "5 1000 1\n6 1000 0\n")
    assert message == (
        "META/ijbc_template_pair_label.txt: 2 of 278 entries name templates without a face in "
        "ijbc_face_tid_mid.txt, the first is 5; take all meta files from one package"
    )


def test_a_malformed_line_raises(tmp_path: Path) -> None:
    message = changed(tmp_path, "ijbc_template_pair_label.txt", lambda t: t + "7 x 1\n")
    assert message.startswith("META/ijbc_template_pair_label.txt: each line must hold int, int, int (")


def test_galleries_that_share_identities_raise(tmp_path: Path) -> None:
    message = changed(tmp_path, "ijbc_1N_gallery_G2.csv", lambda t: t + "1000,100,a.jpg,7\n")
    assert message == (
        "META: 1 identities are in both galleries, the first is 100; take all three files from one package"
    )


def test_a_part_of_the_1n_files_raises_and_none_does_not(tmp_path: Path) -> None:
    root = write_ijbc(tmp_path)
    meta = root / "meta"
    (meta / "ijbc_1N_gallery_G1.csv").unlink()
    with pytest.raises(
        DataError, match="found 1 galleries and the probe file; add what is missing or remove"
    ):
        open_ijb(root, "ijbc")
    (meta / "ijbc_1N_gallery_G2.csv").unlink()
    (meta / "ijbc_1N_probe_mixed.csv").unlink()
    figures = run_protocols(Averages(), [open_ijb(root, "x")], role="student", resamples=5, quiet=True)
    assert "identification" not in figures["x_n0d0f0"]


def test_a_missing_crop_is_named(tmp_path: Path) -> None:
    root = write_ijbc(tmp_path)
    (root / "loose_crop" / "3.jpg").unlink()
    with pytest.raises(DataError) as caught:
        list(open_ijb(root, "ijbc").images())
    assert str(caught.value) == (
        f"{root / 'loose_crop' / '3.jpg'}: is missing, and the meta files name it; unpack the images again"
    )


def test_no_meta_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_ijb(tmp_path, "ijbc")
    assert str(caught.value) == (
        f"{tmp_path}: holds 0 meta/*_face_tid_mid.txt where one is needed; unpack the package again"
    )


def test_embeddings_of_a_diverged_network_raise(protocol: IjbProtocol) -> None:
    broken: Tensor = torch.full((protocol.num_images, 4), torch.nan)
    with pytest.raises(
        DataError, match=r"^ijbc: \d+ of \d+ embeddings are not finite; the network has diverged"
    ):
        protocol.measure(broken, resamples=5)
