"""A predictable network on a miniature LFW, against a slow loop."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facedistill.errors import DataError
from facedistill.evaluation.benchmark import run_protocols
from facedistill.evaluation.embedder import embed
from facedistill.evaluation.protocols.archives import FolderArchive
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import ArrayImages
from facedistill.evaluation.protocols.pairs import pairs_protocol, parse_lfw_pairs
from facedistill.metrics.verification import verification_summary
from facedistill.models.fingerprint import network_fingerprint
from tests.evaluation.protocols.miniature_benchmark import Averages, lfw_list, write_lfw


@pytest.fixture
def protocol(tmp_path: Path) -> PairsProtocol:
    return pairs_protocol("lfw", FolderArchive(write_lfw(tmp_path)), parse_lfw_pairs(lfw_list(), ""))


def test_embeddings_are_the_networks_in_order(protocol: PairsProtocol) -> None:
    network = Averages()
    embeddings = embed(network, protocol, batch_size=5, quiet=True)
    for face, row in zip(torch.cat(list(protocol.images(16))), embeddings, strict=True):
        assert torch.allclose(network(face[None].float() / 127.5 - 1)[0], row, atol=1e-6)
    assert network.calls == 4 + 16
    embeddings.requires_grad_()  # an ordinary tensor, no inference-mode one
    assert torch.allclose(embed(network, protocol, batch_size=16, quiet=True), embeddings, atol=1e-6)


def test_flip_adds_the_mirror_image(protocol: PairsProtocol) -> None:
    network = Averages()
    mirrored = ArrayImages(torch.cat(list(protocol.images(16))).flip(-1))
    other = PairsProtocol("m", mirrored, protocol.left, protocol.right, protocol.same, protocol.fold)
    both = embed(network, protocol, quiet=True) + embed(network, other, quiet=True)
    assert torch.allclose(embed(network, protocol, flip="sum", quiet=True), both, atol=1e-6)
    with pytest.raises(ValueError, match=r"^flip must be none, sum, unit_sum or both, got 'mean'$"):
        embed(network, protocol, flip="mean", quiet=True)  # type: ignore[arg-type]


def test_unit_sum_adds_unit_embeddings_and_both_keeps_them_apart(protocol: PairsProtocol) -> None:
    network = Averages()
    mirrored = ArrayImages(torch.cat(list(protocol.images(16))).flip(-1))
    other = PairsProtocol("m", mirrored, protocol.left, protocol.right, protocol.same, protocol.fold)
    plain, mirror = embed(network, protocol, quiet=True), embed(network, other, quiet=True)
    units = plain / plain.norm(dim=1, keepdim=True) + mirror / mirror.norm(dim=1, keepdim=True)
    assert torch.allclose(embed(network, protocol, flip="unit_sum", quiet=True), units, atol=1e-6)
    both = embed(network, protocol, flip="both", quiet=True)
    assert torch.allclose(both, torch.cat([plain, mirror], dim=1), atol=1e-6)


class RecordsMode(nn.Module):
    """Records the mode of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Dropout(0.5)
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.training or self.inner.training)
        return self.inner(images).flatten(1)[:, :7]


def test_the_mode_of_each_module_is_restored(protocol: PairsProtocol) -> None:
    network = RecordsMode()
    network.train()
    network.inner.eval()
    embed(network, protocol, quiet=True)
    assert network.modes == [False]
    assert network.training
    assert not network.inner.training


def test_figures_and_score_files(protocol: PairsProtocol, tmp_path: Path) -> None:
    network = Averages()
    embeddings = embed(network, protocol, quiet=True)
    wanted = []
    for left, right in zip(protocol.left, protocol.right, strict=True):
        a, b = embeddings[left].double(), embeddings[right].double()
        wanted.append((a @ b / (a.norm() * b.norm())).item())
    figures = run_protocols(
        network, [protocol], role="student", scores_dir=tmp_path / "scores", resamples=20, quiet=True
    )
    with np.load(tmp_path / "scores" / "lfw.student.npz") as arrays:
        assert sorted(arrays) == ["fold", "same", "score"]
        assert arrays["score"].dtype == np.float32
        assert arrays["same"].dtype == bool
        np.testing.assert_allclose(arrays["score"], wanted, atol=1e-6)
        again = verification_summary(arrays["score"], arrays["same"], arrays["fold"])
    assert figures == {"lfw": {**again, "flip": "none"}}
    assert figures["lfw"]["accuracy"] > 0.8  # the synthetic identities differ clearly


def test_a_cache_that_cannot_be_written_is_left_alone(protocol: PairsProtocol, tmp_path: Path) -> None:
    (cache := tmp_path / "cache").write_text("a file, not a folder")
    assert run_protocols(Averages(), [protocol], role="teacher", cache=cache, resamples=5, quiet=True)


def test_a_cached_network_is_not_run_again(protocol: PairsProtocol, tmp_path: Path) -> None:
    network, cache = Averages(), tmp_path / "cache"

    def run() -> int:
        before = network.calls
        run_protocols(network, [protocol], role="teacher", cache=cache, resamples=5, quiet=True)
        return network.calls - before

    assert (run(), run()) == (1, 0)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert (run(), run()) == (1, 0)  # a damaged file is replaced
    network.weight.data[3] = 2
    assert (run(), run()) == (1, 0)
    assert len(list(cache.iterdir())) == 2


def test_another_protocol_of_the_same_name_is_run(protocol: PairsProtocol, tmp_path: Path) -> None:
    network, cache = Averages(), tmp_path / "cache"
    run_protocols(network, [protocol], role="teacher", cache=cache, resamples=5, quiet=True)
    faces = ArrayImages(255 - torch.cat(list(protocol.images(16))))
    other = PairsProtocol("lfw", faces, protocol.left, protocol.right, protocol.same, protocol.fold)
    run_protocols(network, [other], role="teacher", cache=cache, resamples=5, quiet=True)
    run_protocols(network, [protocol], role="teacher", cache=cache, flip="sum", resamples=5, quiet=True)
    assert network.calls == 1 + 1 + 2


def test_networks_without_parameters_have_different_fingerprints() -> None:
    class Shell(nn.Module):
        def __init__(self, fingerprint: str) -> None:
            super().__init__()
            self.fingerprint = fingerprint

    assert network_fingerprint(Shell("a")) == network_fingerprint(Shell("a"))
    assert network_fingerprint(Shell("a")) != network_fingerprint(Shell("b"))
    hidden = [nn.Module(), nn.Module()]
    for value, module in enumerate(hidden):
        module.register_buffer("crop", torch.tensor(value), persistent=False)
    assert network_fingerprint(hidden[0]) != network_fingerprint(hidden[1])


def test_diverged_network_raises(protocol: PairsProtocol) -> None:
    network = Averages()
    network.weight.data.fill_(torch.nan)
    with pytest.raises(DataError) as caught:
        run_protocols(network, [protocol], role="student", quiet=True)
    assert str(caught.value) == (
        "lfw: 16 of 16 embeddings are not finite; the network has diverged, take an earlier checkpoint"
    )


def test_invalid_protocols_raise() -> None:
    faces = ArrayImages(torch.zeros(2, 3, 112, 112, dtype=torch.uint8))
    two = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"^left, right, same, fold must be of one length, got \[1, 2\]$"):
        PairsProtocol("x", faces, two, two, two > 0, two[:1])
    with pytest.raises(ValueError, match=r"^x: a pair names an image outside \[0, 2\)$"):
        PairsProtocol("x", faces, two, two + 1, two > 0, two)
    with pytest.raises(ValueError, match=r"^faces must be uint8"):
        ArrayImages(torch.zeros(2, 3, 112, 112))
