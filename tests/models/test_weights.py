"""Weights load whole and right, or not at all, and one sentence says why."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from facedistill.errors import AssetError, UserError
from facedistill.models.fingerprint import state_fingerprint
from facedistill.models.weights import load_strictly, read_weights, write_weights
from tests.helpers.errors import error_message


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.fixture
def path(network: nn.Sequential, tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    write_weights(path, network.state_dict(), {"who": "test"})
    return path


def message_of(network: nn.Module, path: Path) -> str:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    message = error_message(AssetError, load_strictly, network, path)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    return message


def test_round_trip(network: nn.Sequential, path: Path) -> None:
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    load_strictly(other, path)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in other.state_dict().items())
    assert read_weights(path)[1] == {"who": "test"}


def test_missing_file(network: nn.Sequential, tmp_path: Path) -> None:
    path = tmp_path / "absent.safetensors"
    assert message_of(network, path) == f"{path} does not exist; give the path of a safetensors file"


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_truncated_file(network: nn.Sequential, path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    message = message_of(network, path)
    assert message.startswith(f"{path} is truncated or not a safetensors file (")
    assert message.endswith("); fetch it again")
    assert "\n" not in message


def test_folder_instead_of_a_file(network: nn.Sequential, tmp_path: Path) -> None:
    assert message_of(network, tmp_path).startswith(f"{tmp_path} cannot be read (")


def test_missing_extra_and_misshapen_keys(network: nn.Sequential, path: Path) -> None:
    state = read_weights(path)[0]
    save_file({key: value for key, value in state.items() if key != "2.bias"}, path)
    assert message_of(network, path) == (
        f"{path} does not fit Sequential: it lacks 2.bias; give weights of this network"
    )
    save_file({**state, "3.weight": torch.zeros(1), "4.weight": torch.zeros(1)}, path)
    assert message_of(network, path) == (
        f"{path} does not fit Sequential: it has unknown 3.weight and 1 more keys; "
        "give weights of this network"
    )
    save_file({**state, "2.weight": torch.zeros(2, 5)}, path)
    assert message_of(network, path) == (
        f"{path} does not fit Sequential: it holds 2.weight of shape (2, 5) instead of (2, 4); "
        "give weights of this network"
    )


def test_fingerprint_tells_values_names_shapes_and_dtypes_apart() -> None:
    def of(**tensors: torch.Tensor) -> str:
        module = nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return state_fingerprint(module)

    base = of(a=torch.zeros(4))
    assert base == of(a=torch.zeros(4))
    others = [
        of(a=torch.ones(4)),
        of(b=torch.zeros(4)),
        of(a=torch.zeros(2, 2)),
        of(a=torch.zeros(2).double()),
    ]
    assert len({base, *others}) == 5


def test_fingerprint_ignores_memory_layout() -> None:
    conv = nn.Conv2d(4, 4, 3)
    before = state_fingerprint(conv)
    assert state_fingerprint(conv.to(memory_format=torch.channels_last)) == before


def test_a_file_in_place_of_the_folder(path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_weights(path / "inside.safetensors", {"a": torch.zeros(1)}, {})


def test_safetensors_itself_runs_out_of_space(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))  # stands in for a full disk
    try:
        with pytest.raises(UserError, match=r"big\.safetensors cannot be written \("):
            write_weights(tmp_path / "big.safetensors", {"a": torch.zeros(1 << 20)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_has_the_users_permissions(path: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
