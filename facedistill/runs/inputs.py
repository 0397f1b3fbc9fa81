"""What a run starts from: weights, faces, and the run id that follows from them and the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facedistill.assets import AssetCard, licence_record, read_card
from facedistill.assets.archive import sha256_of
from facedistill.assets.own_file import card_of
from facedistill.config import make_run_id, result_relevant
from facedistill.data.formats.face_set import FaceSet
from facedistill.errors import UserError
from facedistill.evaluation.protocols.find import Place, read_places
from facedistill.runs.checkpointing import Origin
from facedistill.runs.folder import RunFolder
from facedistill.runs.processes import is_main_process
from facedistill.runs.quantization import student_file
from facedistill.runs.sources import directions_file, open_set, source_class

GENERATED = "generated"
"""Name of the protocol on generated pairs."""


@dataclass(frozen=True)
class Inputs:
    """What a run starts from.

    Attributes:
        origin: What the result depends on: configuration, weights and faces.
        folder: The folder that the run id names.
        faces: The set at `data.path`; None if the configuration names none.
    """

    origin: Origin
    folder: RunFolder
    faces: FaceSet | None


def open_inputs(config: DictConfig) -> Inputs:
    """Opens the faces of a run, and computes its id from them, the weights and the configuration.

    Raises:
        UserError: If the faces cannot be used.
    """
    hashes = _asset_hashes(config)
    if (directions := directions_file(config)) is not None:
        hashes[f"{config.generator.get('asset') or config.generator.name}/directions"] = sha256_of(directions)
    if (student := student_file(config)) is not None:
        hashes["quantization/student"] = sha256_of(student)
    faces = open_set(config)
    if faces is not None:
        hashes["data"] = faces.fingerprint
    origin = Origin(make_run_id(config, hashes), result_relevant(config), hashes)
    return Inputs(origin, RunFolder(Path(config.runs_dir) / f"{config.name}-{origin.run_id}"), faces)


def _asset_hashes(config: DictConfig) -> dict[str, str]:
    """The sha256 of each file of weights; those of `teacher.others` under their own keys, since names of cards may repeat."""
    cards, others = asset_cards(config), list(other_teachers(config))
    names = [card.name for card in cards]
    names[1 : 1 + len(others)] = [f"others/{name}" for name in others]
    pairs = zip(names, cards, strict=True)
    return {f"{name}/{member.name}": member.sha256 for name, card in pairs for member in card.members}


def asset_cards(config: DictConfig) -> list[AssetCard]:
    """The weights that the configuration names; their hashes are part of the run id."""
    backbone = OmegaConf.select(config, "backbone.asset")
    cards = [*teacher_cards(config), card_of(config.generator, "generator")]
    return [*cards, read_card(backbone)] if backbone else cards


def other_teachers(config: DictConfig) -> dict[str, DictConfig]:
    """The nodes of `teacher.others`, sorted by name: the teachers next to the first, if there are several."""
    return dict(sorted((OmegaConf.select(config, "teacher.others") or {}).items()))


def teacher_cards(config: DictConfig) -> list[AssetCard]:
    """The cards of all teachers, the first in front."""
    others = other_teachers(config).items()
    return [
        card_of(config.teacher, "teacher"),
        *(card_of(node, f"teacher.others.{name}") for name, node in others),
    ]


def learned_from(config: DictConfig) -> list[AssetCard]:
    """The weights whose licences the student inherits; without the generator if it renders no training faces."""
    cards, teachers = asset_cards(config), len(teacher_cards(config))
    return cards if trains_on_generated_faces(config) else [*cards[:teachers], *cards[teachers + 1 :]]


def stored_faces(config: DictConfig, faces: FaceSet | None) -> dict[str, Any]:
    """What the record of a run says of its faces on disk: name, number, fingerprint; empty where it has none."""
    if faces is None:
        return {}
    name = Path(config.data.path).name if config.data.get("path") else "synthetic identities"
    return {"set": name, "images": len(faces), "fingerprint": faces.fingerprint}


def record_rendered_set(config: DictConfig, folder: RunFolder, faces: FaceSet, *, resume: bool) -> None:
    """Records the set of `data.synthetic` that a run learns from; a set rendered again has other bytes.

    Raises:
        UserError: If a resumed run began with another set.
    """
    now, before = stored_faces(config, faces), folder.record().stored_faces
    if resume and before and before.get("fingerprint") != now["fingerprint"]:
        raise UserError(
            f"{folder.path}: began with a rendered set of fingerprint {before.get('fingerprint')}, and the cache now holds "
            f"{now['fingerprint']}, rendered again; restore that set, or force=true starts the run over"
        )
    if is_main_process():
        folder.update_record(stored_faces=now)


def licences_learned_from(config: DictConfig, faces: FaceSet | None) -> list[dict[str, str]]:
    """The terms of the weights and of the faces on disk that the student learned from, for the run's record."""
    found = [licence_record(card) for card in learned_from(config)]
    if faces is not None:
        note = f"{len(faces):,} images on disk; their own terms apply to what learned from them."
        name = Path(config.data.path).name
        found.append({"asset": name, "licence": "not stated", "note": note, "origin": "data.path"})
    return found


def protocol_places(evaluation: DictConfig) -> dict[str, Place]:
    """The names of the files of known protocols, from the `evaluation` part of a configuration."""
    return read_places(OmegaConf.to_container(evaluation.places, resolve=True))  # type: ignore[arg-type]


def trains_on_generated_faces(config: DictConfig) -> bool:
    """Whether the generator makes the training faces; only stored faces other than `data.synthetic` need none."""
    return not source_class(config).stores_images or OmegaConf.select(config, "data.synthetic") is not None


def uses_generated_faces(config: DictConfig) -> bool:
    """Whether the run needs the generator, for training or for the `generated` protocol."""
    return trains_on_generated_faces(config) or GENERATED in config.evaluation.protocols


def evaluates_generated_pairs(config: DictConfig) -> bool:
    """Whether the run is measured on generated pairs: if named, or next to other protocols if it renders its faces."""
    protocols = config.evaluation.protocols
    return GENERATED in protocols or (bool(protocols) and trains_on_generated_faces(config))
