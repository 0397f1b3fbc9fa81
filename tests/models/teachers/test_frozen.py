"""A teacher never learns, never wakes, is never saved, and sees faces its own way."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facedistill.errors import AssetError, ConfigError
from facedistill.models.fingerprint import state_fingerprint
from facedistill.models.teachers import FrozenTeacher
from facedistill.models.teachers.frozen import adapt
from facedistill.models.teachers.golden import draw_faces
from facedistill.models.weights import write_weights
from facedistill.types import InputSpec


class Small(nn.Module):
    """Has everything that could wake up: batch norm, dropout, parameters."""

    embedding_dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(8, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.drop(self.norm(self.conv(images)).relu().mean((2, 3))))


class Method(nn.Module):
    """Stands for the parent that trains."""

    def __init__(self, teacher: FrozenTeacher) -> None:
        super().__init__()
        self.student = nn.Linear(2, 2)
        self.teacher = teacher


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    write_weights(tmp_path / "small.safetensors", Small().state_dict(), {})
    return tmp_path / "small.safetensors"


@pytest.fixture
def teacher(weights: Path) -> FrozenTeacher:
    return FrozenTeacher(Small(), weights, InputSpec())


def test_embeds_as_the_network_alone_in_eval_mode(teacher: FrozenTeacher, weights: Path) -> None:
    faces = draw_faces(3)
    expected = teacher.network.eval()(faces)
    assert teacher.embedding_dim == 6
    torch.testing.assert_close(teacher(faces), expected)
    assert torch.equal(teacher(faces), teacher(faces))


def test_a_parent_cannot_wake_it(teacher: FrozenTeacher) -> None:
    method = Method(teacher)
    method.train().requires_grad_(True)
    teacher.train()
    assert not any(module.training for module in (teacher, *teacher.network.modules()))
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    before = state_fingerprint(teacher.network)
    teacher(draw_faces(2))
    assert state_fingerprint(teacher.network) == before == teacher.fingerprint


def test_a_parent_neither_saves_nor_optimizes_nor_misses_it(teacher: FrozenTeacher) -> None:
    method = Method(teacher)
    assert sorted(method.state_dict()) == ["student.bias", "student.weight"]
    assert sorted(name for name, _ in method.named_parameters()) == ["student.bias", "student.weight"]
    method.load_state_dict(method.state_dict(), strict=True)
    assert teacher.state_dict() == {}


def test_no_gradient_reaches_it_or_passes_it(teacher: FrozenTeacher) -> None:
    faces = draw_faces(2).requires_grad_()
    assert not teacher(faces).requires_grad
    assert all(parameter.grad is None for parameter in teacher.network.parameters())


def test_follows_the_device_but_not_the_dtype_of_its_parent(teacher: FrozenTeacher) -> None:
    method = Method(teacher)
    expected = teacher(draw_faces(2))
    method.to(torch.bfloat16)
    assert method.student.weight.dtype == torch.bfloat16
    assert {p.dtype for p in teacher.network.parameters()} == {torch.float32}
    assert torch.equal(teacher(draw_faces(2)), expected)
    moved: list[torch.device] = []
    teacher.network.to = lambda device: moved.append(device)  # type: ignore[method-assign, assignment]
    method._apply(lambda tensor: tensor.to("cpu"))
    assert moved == [torch.device("cpu")]


def test_the_trainers_autocast_has_no_say(teacher: FrozenTeacher) -> None:
    faces = draw_faces(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = teacher(faces)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, teacher(faces))


def test_bf16_is_near_and_returns_float32(
    teacher: FrozenTeacher, weights: Path, cpu_with_bfloat16: None
) -> None:
    quick = FrozenTeacher(Small(), weights, InputSpec(), precision="bf16")
    faces = draw_faces(4)
    assert quick(faces).dtype == torch.float32
    assert not torch.equal(quick(faces), teacher(faces))
    assert torch.cosine_similarity(quick(faces), teacher(faces)).min() > 0.999


def test_a_copy_is_as_frozen(teacher: FrozenTeacher) -> None:
    again = copy.deepcopy(teacher).train()
    assert again.network is not teacher.network
    assert not again.network.training
    torch.testing.assert_close(again(draw_faces(2)), teacher(draw_faces(2)))


def test_adapts_color_scale_and_size_as_a_slow_loop_would() -> None:
    faces = draw_faces(2)
    spec = InputSpec(size_px=112, color="BGR", mean=100.0, std=64.0)
    adapted = adapt(faces, spec)
    for n, channel, row, column in ((0, 0, 5, 7), (1, 2, 60, 56), (0, 1, 111, 0)):
        byte = (float(faces[n, 2 - channel, row, column]) + 1) * 127.5
        assert float(adapted[n, channel, row, column]) == pytest.approx((byte - 100) / 64, abs=1e-5)


def test_adapts_nothing_where_nothing_is_to_do() -> None:
    faces = draw_faces(1)
    assert adapt(faces, InputSpec()) is faces


@pytest.mark.parametrize("size_px", [56, 150])
def test_resizes_to_the_networks_size(size_px: int) -> None:
    adapted = adapt(draw_faces(2), InputSpec(size_px=size_px))
    assert adapted.shape == (2, 3, size_px, size_px)
    flat = adapt(torch.full((1, 3, 112, 112), 0.25), InputSpec(size_px=size_px))
    torch.testing.assert_close(flat, torch.full_like(flat, 0.25))


def test_halving_averages_so_that_no_pixel_is_skipped() -> None:
    stripes = torch.ones(1, 3, 112, 112)
    stripes[..., ::2] = -1
    assert adapt(stripes, InputSpec(size_px=56))[..., 4:-4].abs().max() < 0.3


def test_another_network_s_weights_stop_the_run(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    write_weights(path, {"a": torch.zeros(1)}, {})
    with pytest.raises(AssetError) as caught:
        FrozenTeacher(Small(), path, InputSpec())
    assert str(caught.value) == (
        f"{path} does not fit Small: it lacks conv.bias and 8 more keys, has unknown a; "
        "give weights of this network"
    )


def test_unknown_precision(weights: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        FrozenTeacher(Small(), weights, InputSpec(), precision="fp8")  # type: ignore[arg-type]
    assert str(caught.value) == "teacher.precision: expected fp32 or bf16, got 'fp8'"


@pytest.mark.slow
def test_compiled_is_the_same_teacher(teacher: FrozenTeacher, weights: Path) -> None:
    compiled = FrozenTeacher(Small(), weights, InputSpec(), compile=True)
    for num_faces in (2, 3, 1):
        torch.testing.assert_close(
            compiled(draw_faces(num_faces)), teacher(draw_faces(num_faces)), rtol=1e-4, atol=1e-5
        )


def test_validation_compiles_nothing_again(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning validates in inference mode; on an H100 a second graph of a teacher takes about a minute."""
    graphs, compile = [], torch.compile

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda network: compile(network, backend=count))
    compiled = FrozenTeacher(Small(), weights, InputSpec(), compile=True)
    compiled(draw_faces(4))
    with torch.inference_mode():
        compiled(draw_faces(3))
    assert len(graphs) == 1


def test_the_batchs_own_images_are_not_marked_dynamic(teacher: FrozenTeacher) -> None:
    """Or the student, which sees them next, would be compiled for any batch size: slower, and longer to compile."""
    images = draw_faces(2).contiguous(memory_format=torch.channels_last)
    seen: list[Tensor] = []
    run = teacher._run
    object.__setattr__(teacher, "_run", lambda adapted: (seen.append(adapted), run(adapted))[1])
    teacher(images)
    assert seen[0].data_ptr() == images.data_ptr()
    assert not hasattr(images, "_dynamo_weak_dynamic_indices")
    assert seen[0]._dynamo_weak_dynamic_indices == {0}  # type: ignore[attr-defined]


def test_unknown_compile(weights: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        FrozenTeacher(Small(), weights, InputSpec(), compile="yes")  # type: ignore[arg-type]
    assert str(caught.value) == "teacher.compile: expected true, false or auto, got 'yes'"


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(images: Tensor) -> Tensor:
        raise RuntimeError("no C++ compiler\nsecond line")

    monkeypatch.setattr(torch, "compile", lambda network: fail)


@pytest.mark.usefixtures("no_compiler")
def test_compiling_may_fail_where_it_was_optional(
    teacher: FrozenTeacher, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eager = FrozenTeacher(Small(), weights, InputSpec(), compile="auto")
    for _ in range(2):
        assert torch.equal(eager(draw_faces(2)), teacher(draw_faces(2)))
    assert capsys.readouterr().out == (
        "teacher: runs uncompiled, at two thirds of its speed, because compiling failed (no C++ compiler)\n"
    )


@pytest.mark.usefixtures("no_compiler")
def test_compiling_must_not_fail_where_it_was_demanded(weights: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        FrozenTeacher(Small(), weights, InputSpec(), compile=True)(draw_faces(1))
    assert str(caught.value) == (
        "teacher.compile: true, but the teacher cannot be compiled here (no C++ compiler); "
        "install a C++ compiler or set it to false"
    )
