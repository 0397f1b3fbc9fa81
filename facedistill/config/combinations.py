"""Checks whether the chosen method, backbone, data, head and trainer fit each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facedistill.config import trainer_settings as trainer
from facedistill.config.plain import select
from facedistill.config.trust import find_class
from facedistill.errors import ConfigError
from facedistill.types import Requirements


def combination_problems(config: Mapping[str, Any]) -> list[str]:
    """A sentence for each part of a configuration, as plain containers, that another part cannot work with."""
    method, source, head = (_class(config, f"{key}._target_") for key in ("method", "data.source", "head"))
    settings, split = config["trainer"], is_split(head)
    if method is None or source is None:
        return trainer.problems(settings, split)
    if not isinstance(getattr(method, "requirements", None), Requirements):
        base = "facedistill.methods.base.DistillationMethod"
        return [f"method._target_: {method.__name__} is no distillation method; derive it from {base}"]
    name, required = method.__name__, method.requirements_with(config["method"])
    return [
        *_several_teachers(config, name, required),
        *_widths(config, name, required),
        *(_not_offered(method, source, need) for need in required.missing(source.offers)),
        *_resampling(config, name, required),
        *_clean_view(config, name, required),
        *_head(config, name, required, head),
        *_quantization(config, name, required, source),
        *_optimizer(config),
        *trainer.problems(settings, split, reads_maps=name if required.feature_maps else None),
    ]


def _several_teachers(config: Mapping[str, Any], method: str, required: Requirements) -> list[str]:
    """Checks that the method can learn from more than one teacher, and their weights."""
    others, weights = (select(config, f"teacher.{key}") for key in ("others", "weights"))
    if others is None and weights is None:
        return []
    if not required.several_teachers:
        return [
            f"teacher: {method} learns from one teacher; name one, or use a method that compares embeddings or relations, "
            "such as method=cosine or method=rkd"
        ]
    named = isinstance(weights, Mapping) and isinstance(others, Mapping)
    if not named or len(set(weights) - set(others)) != 1 or set(others) - set(weights):
        return [
            "teacher.weights: needs a weight for each teacher; write teacher=[a,b], and then teacher.weights.a=2"
        ]
    if not any(weights.values()):
        return ["teacher.weights: are all 0; give one teacher a weight above 0"]
    return []


def _widths(config: Mapping[str, Any], method: str, required: Requirements) -> list[str]:
    """Checks what student and teacher of different width cannot do."""
    student, teacher = (select(config, f"{network}.embedding_dim") for network in ("backbone", "teacher"))
    if (
        teacher is None or student is None or student == teacher
    ):  # a network of the user's says it when it is built
        return []
    several = (
        select(config, "teacher.others") is not None
    )  # each then has a projection of the student's embedding
    if required.equal_widths and several:
        return []
    if required.equal_widths:
        is_module = select(config, "backbone.fingerprint") is not None
        fix = f"give a student with {teacher} outputs" if is_module else "leave the key out"
        return [
            f"backbone.embedding_dim={student}: {method} compares the student's embeddings with the teacher's, which "
            f"have {teacher} dimensions; {fix}, or use a method that compares relations or logits, such as method=rkd"
        ]
    if required.reports_agreement and select(config, "data.source.resampling") == "dynamic":
        return [
            f"data.source.resampling=dynamic: {method} reports no agreement per image where student and teacher differ in "
            "width; use data.source.resampling=static"
        ]
    return []


def _not_offered(method: Any, source: Any, name: str) -> str:
    fix = "use data=synthetic_identities, or faces on disk"
    if name == "latents":
        fix = "use data=stylegan"
    elif name == "labels" and not method.requirements.labels:  # only the identity loss needs them
        fix = "use data=synthetic_identities, or leave the identity loss out with method.identity_weight=0"
    elif name == "labels":
        fix = "use data=synthetic_identities, or labeled faces of your own"
    return f"data: {method.__name__} needs {name}, and {source.__name__} offers none; {fix}"


def _resampling(config: Mapping[str, Any], method: str, required: Requirements) -> list[str]:
    if required.reports_agreement or select(config, "data.source.resampling") != "dynamic":
        return []
    return [
        f"data.source.resampling=dynamic: {method} reports no agreement per image; use data.source.resampling=static"
    ]


def _clean_view(config: Mapping[str, Any], method: str, required: Requirements) -> list[str]:
    if not required.clean_view or select(config, "data.source.teacher_view") == "clean":
        return []
    return [
        f"method: {method} compares two views of each face; set data.source.teacher_view=clean, and an augmentation"
    ]


def _quantization(config: Mapping[str, Any], method: str, required: Requirements, source: Any) -> list[str]:
    """Checks what a student in 8 bits cannot do."""
    scheme, student = (select(config, f"quantization.{key}") for key in ("scheme", "student"))
    if scheme is None:
        return [] if student is None else ["quantization.student: is only read by quantization=qat; add it"]
    if scheme != "int8":
        return [f"quantization.scheme={scheme}: must be int8, or null for a student in floating point"]
    if not isinstance(student, str) or not student.strip():
        return [f"quantization.student: expected a run folder or a student.safetensors, got {student!r}"]
    found, settings = [], config["trainer"]
    for key, allowed in (("precision", ("32-true",)), ("compile", (False, None))):
        if settings.get(key, allowed[0]) not in allowed:
            found.append(
                f"trainer.{key}={settings[key]}: a student in 8 bits is computed in float32, eagerly; set "
                f"trainer.{key}={str(allowed[0]).lower()}"
            )
    if settings["strategy"] == "fsdp":
        found.append("strategy=fsdp: a student in 8 bits is not split over processes; use strategy=ddp")
    if required.feature_maps:
        found.append(
            f"quantization=qat: {method} reads feature maps, which the quantized student has not; use method=cosine"
        )
    if source.stores_images and select(config, "data.synthetic") is None:
        found.append("quantization=qat: its ranges are found on rendered faces; use data=stylegan")
    return found


def _optimizer(config: Mapping[str, Any]) -> list[str]:
    optimizer, settings = _class(config, "optimizer._target_"), config["trainer"]
    if getattr(optimizer, "whole_matrices", False) and settings["strategy"] == "fsdp":
        return [
            "optimizer=muon: needs whole matrices, and fsdp splits them; use strategy=ddp, or optimizer=adamw"
        ]
    clips = settings["precision"] == "16-mixed" and settings.get("gradient_clip_val") is not None
    if clips and select(config, "optimizer.fused"):
        return [
            "optimizer.fused=true: with trainer.precision=16-mixed it removes the loss's scale after the gradients are clipped; "
            "leave it out, or use bf16-mixed"
        ]
    return []


def _head(config: Mapping[str, Any], method: str, required: Requirements, head: Any) -> list[str]:
    found = []
    sub_centers, sample_rate = select(config, "head.sub_centers") or 1, select(config, "head.sample_rate")
    if required.identity_loss and select(config, "method.identity_weight") == 0:
        found.append(f"method.identity_weight=0: {method} has no loss without the head's; set it above 0")
    if is_split(head) and required.unsplit_logits:
        found.append(
            f"head: {method} needs the logits of all identities in each process, and {head.__name__} splits them; "
            "use head=arcface or head=cosface"
        )
    elif required.all_logits and sample_rate is not None and sample_rate < 1:
        found.append(
            f"head.sample_rate={sample_rate}: {method} needs the logits of all identities; set it to 1"
        )
    if sub_centers > 1 and required.one_center:
        found.append(
            f"head.sub_centers={sub_centers}: {method} takes the teacher's centers, one per identity; set it to 1"
        )
    trained = required.class_centers and select(config, "data.centers") == "trained"
    if trained and (is_split(head) or sub_centers > 1):
        found.append(
            "data.centers=trained: needs a head that is not split, with 1 center per identity; set data.centers=mean"
        )
    return found


def is_split(head: Any) -> bool:
    """Whether a head's class splits the identities over the processes; a user's own head may leave that out."""
    return bool(getattr(head, "is_split", False))


def _class(config: Mapping[str, Any], key: str) -> Any:
    path = select(config, key)
    try:
        return find_class(path) if path else None
    except ConfigError:  # already reported among the arguments
        return None
