"""Opens or makes the faces that a configuration names, and what the teacher knows of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from facedistill.assets import AssetCard, cache_dir, cached_path
from facedistill.assets.own_file import card_of
from facedistill.config import signature
from facedistill.config.trust import find_class, refuse_foreign_classes, targets
from facedistill.data.formats.face_set import FaceSet
from facedistill.data.formats.open import format_of, open_faces
from facedistill.data.formats.sizes import demand_one_size
from facedistill.data.generation.synthetic_set import synthetic_set
from facedistill.data.sources.base import Source
from facedistill.data.sources.mixed import demand_some_left
from facedistill.errors import ConfigError, UserError
from facedistill.models.backbones import Backbone
from facedistill.models.generators import FrozenGenerator
from facedistill.models.generators.directions import Directions, read_directions
from facedistill.models.heads.centers import mean_centers, trained_centers
from facedistill.models.imported import ImportedBackbone
from facedistill.models.synthetic_identities import SyntheticIdentities
from facedistill.models.teachers import FrozenTeacher
from facedistill.models.teachers.team import Teacher, lead_of
from facedistill.types import Requirements


def instantiate(node: Any, **arguments: Any) -> Any:
    """Hydra's, for admitted classes only; a user's mistake inside a constructor stays a `UserError`.

    Raises:
        ConfigError: If the node names a class that is not admitted; see `facedistill.config.trust`.
    """
    refuse_foreign_classes(node)
    try:
        return hydra_instantiate(node, **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        raise


def instantiate_with(key: str, node: DictConfig, offered: Mapping[str, Callable[[], Any]]) -> Any:
    """Instantiates the node at `key` with those of the offered arguments that its constructor names."""
    assert offered.keys() == signature.provided(key), "validation must know what is passed"
    accepted = signature.accepted(find_class(node._target_))
    return instantiate(node, **{name: make() for name, make in offered.items() if name in accepted})


def build_backbone(node: DictConfig) -> Backbone:
    """The student of `config.backbone`, one of the user's own package as an `ImportedBackbone`.

    Raises:
        ConfigError: If it cannot be used or saved.
    """
    network: Any = instantiate(node)
    path = str(node._target_)
    if path.startswith("facedistill."):
        return network
    arguments: Any = OmegaConf.to_container(node, resolve=True)
    del arguments["_target_"]
    for key, value in arguments.items():
        if str(key).startswith("_") or any(targets(value)):
            raise ConfigError(
                f"backbone.{key}: a student's file cannot hold it; give plain values by name and build the rest inside {path}"
            )
    return ImportedBackbone(network, path, arguments)


def build_head(config: DictConfig, num_identities: int, embedding_dim: int) -> Any:
    """The margin head of `config.head`, with centers (num_identities, embedding_dim)."""
    sizes = {"num_identities": lambda: num_identities, "embedding_dim": lambda: embedding_dim}
    return instantiate_with("head", config.head, sizes)


def requirements(config: DictConfig) -> Requirements:
    """What the configured method requires."""
    required: Requirements = find_class(config.method._target_).requirements_with(config.method)
    return required


def source_class(config: DictConfig) -> type[Source]:
    """The class that `data.source._target_` names.

    Raises:
        ConfigError: If it is no source.
    """
    found = find_class(config.data.source._target_)
    if not (isinstance(found, type) and issubclass(found, Source)):
        raise ConfigError(
            f"data.source._target_={config.data.source._target_}: is no source; give a class that inherits from "
            "facedistill.data.sources.base.Source"
        )
    return found


def open_set(config: DictConfig) -> FaceSet | None:
    """The set at `data.path`, or None where the configuration names no path.

    Raises:
        DataError: If nothing readable lies there, or its faces have other sizes than 112 x 112.
        ConfigError: If it is of another format than `data.format`, lacks the labels that the method needs, or has no more
            photographs than are held out.
    """
    path = OmegaConf.select(config, "data.path")
    if path is None:
        return None
    found, wanted = format_of(path).config, OmegaConf.select(config, "data.format")
    if wanted not in (None, "auto", found):
        raise ConfigError(f"data.path={path}: holds faces as {found} and not as {wanted}; use data={found}")
    faces = open_faces(path)
    if faces.labels is None and requirements(config).labels:
        raise ConfigError(
            f"data.path={path}: these faces bear no labels, or one only, and the method needs identities; give a set "
            "with labels (a folder of one folder per identity), or choose a method without them"
        )
    demand_one_size(faces, path)
    held_out = OmegaConf.select(config, "data.source.held_out")
    if held_out is not None:
        demand_some_left(faces, held_out)
    return faces


def build_source(
    config: DictConfig,
    generator: FrozenGenerator | None,
    teacher: Teacher | None,
    faces: FaceSet | None = None,
) -> Source:
    """The source of `config.data.source`.

    Args:
        config: Composed training configuration.
        generator: For a source that renders.
        teacher: For a source that compares faces, where the first of several does, and for `data.teacher_cache`.
        faces: The set at `data.path`, where there is one.
    """

    lead = None if teacher is None else lead_of(teacher)

    def stored_faces() -> FaceSet:
        settings = OmegaConf.select(config, "data.synthetic")
        if settings is None:
            assert faces is not None
            return faces
        own: dict[str, Any] = dict(settings)
        images = own.pop("images_per_identity")
        assert generator is not None
        assert lead is not None
        return open_faces(synthetic_set(generator, lead, cache_dir(), SyntheticIdentities(**own), images))

    offered: dict[str, Callable[[], Any]] = {
        "generator": lambda: generator,
        "teacher": lambda: lead,
        "faces": stored_faces,
        "seed": lambda: config.seed,
        "directions": lambda: _directions(config, generator),
    }
    source: Source = instantiate_with("data.source", config.data.source, offered)
    if OmegaConf.select(config, "data.teacher_cache"):
        assert teacher is not None
        source.cache_teacher(teacher)
    return source


def directions_path(card: AssetCard) -> Path:
    """Where the directions of a generator lie: next to its weights, whose hash is in the name."""
    return cached_path(card).with_suffix(".directions.safetensors")


def directions_file(config: DictConfig) -> Path | None:
    """The file of the generator's directions; None where `data.source.yaw` turns no faces.

    Raises:
        ConfigError: If they have not been estimated.
    """
    yaw = OmegaConf.select(config, "data.source.yaw")
    if yaw is None:
        return None
    card = card_of(config.generator, "generator")
    path = directions_path(card)
    if not path.is_file():
        raise ConfigError(
            f"data.source.yaw={yaw}: the directions of {card.name} are not estimated yet; run `facedistill generator "
            "directions` once, with the same generator"
        )
    return path


def _directions(config: DictConfig, generator: FrozenGenerator | None) -> Directions | None:
    path = directions_file(config)
    return None if path is None or generator is None else read_directions(path, generator)


def teacher_centers(config: DictConfig, source: Source, teacher: FrozenTeacher) -> Tensor:
    """One unit center per identity, (K, D), for teachers that come without a classifier.

    `data.centers` says how: "mean" of the teacher's unit embeddings of each identity, or "trained", the weight of a margin
    head that learned to classify the teacher's embeddings.
    """
    embeddings, labels = source.embed_set(teacher)
    count = source.num_identities
    assert count is not None
    if config.data.centers == "mean":
        return mean_centers(embeddings, labels, count)
    head = build_head(config, count, embeddings.shape[1])
    return trained_centers(embeddings, labels, count, head)
