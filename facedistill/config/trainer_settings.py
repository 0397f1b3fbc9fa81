"""Checks of the `trainer` settings that hold on any machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from facedistill.config.known_keys import hint

PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "16-mixed")
STRATEGIES = ("auto", "ddp", "fsdp")
# Options that were added later, with the values that change nothing; the run id leaves them out at these values.
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "accumulate_grad_batches": (1,),
    "gradient_clip_val": (None,),
    "compile": (
        None,
        False,
    ),  # null compiles where that is worth its time, and the result is equal up to rounding
    "channels_last": (True,),
}
_KNOWN = (
    "accelerator", "devices", "num_nodes", "strategy", "precision", "sync_batchnorm", "benchmark", "deterministic",
    *_WITHOUT_EFFECT,
)  # fmt: skip


def has_effect(key: str, value: Any) -> bool:
    """Whether a setting of the `trainer` node can change the trained student by more than rounding."""
    return value not in _WITHOUT_EFFECT.get(key, ())


def problems(settings: Mapping[str, Any], split: bool, reads_maps: str | None = None) -> list[str]:
    """Lists what is wrong with the settings on any machine, a sentence each.

    Args:
        settings: The resolved `trainer` node.
        split: Whether the head splits the identities over the processes.
        reads_maps: Name of the method's class if it reads feature maps inside the student.
    """
    found = [_unknown(key) for key in settings if key not in _KNOWN]
    found += _choices(settings)
    return found or [
        *_with_fsdp(settings, split),
        *_with_split_head(settings, split),
        *_with_feature_maps(settings, reads_maps),
    ]


def _unknown(key: str) -> str:
    return f"trainer.{key}: no such setting{hint(f'trainer.{key}', {'trainer': dict.fromkeys(_KNOWN)})}"


def _choices(settings: Mapping[str, Any]) -> list[str]:
    found = []
    for key, choices in (
        ("precision", PRECISIONS),
        ("strategy", STRATEGIES),
        ("compile", (None, False, True, "auto", "reduce-overhead")),
    ):
        value = settings.get(key, choices[0])
        if value not in choices or type(value) not in {type(choice) for choice in choices}:
            allowed = (choice if isinstance(choice, str) else json.dumps(choice) for choice in choices)
            found.append(f"trainer.{key}: expected {' | '.join(allowed)}, got {value!r}")
    for key in ("channels_last", "sync_batchnorm"):
        if not isinstance(settings.get(key, True), bool):
            found.append(f"trainer.{key}: expected true or false, got {settings[key]!r}")
    devices = settings.get("devices", 1)
    if devices not in ("auto", -1, "-1") and not _is_count(devices):
        found.append(f"trainer.devices: expected a number of devices or auto, got {devices!r}")
    for key in ("accumulate_grad_batches", "num_nodes"):
        if settings.get(key) is not None and not _is_count(settings[key]):
            found.append(f"trainer.{key}: expected a whole number > 0, got {settings[key]!r}")
    clip = settings.get("gradient_clip_val")
    if clip is not None and (isinstance(clip, bool) or not isinstance(clip, int | float) or clip <= 0):
        found.append(f"trainer.gradient_clip_val: expected a norm > 0, or null for none, got {clip!r}")
    if settings.get("strategy") == "auto" and devices != 1 and not found:
        found.append(
            f"trainer.devices={devices}: strategy auto is for one device; choose strategy=ddp or ddp_cpu"
        )
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _with_fsdp(settings: Mapping[str, Any], split: bool) -> list[str]:
    if settings.get("strategy") != "fsdp":
        return []
    found = []
    if settings.get("accelerator") not in ("gpu", "cuda"):
        found.append(
            f"trainer.strategy=fsdp: needs GPUs, and trainer.accelerator is {settings.get('accelerator')}; set it to gpu, "
            "or choose strategy=ddp_cpu"
        )
    if settings.get("precision") == "bf16-true":
        found.append("trainer.precision=bf16-true: fsdp keeps all weights in one type; choose bf16-mixed")
    for key in ("compile", "accumulate_grad_batches"):
        if key in settings and has_effect(key, settings[key]):
            found.append(
                f"trainer.{key}={settings[key]}: is not offered with fsdp; leave it out or choose strategy=ddp"
            )
    if split:
        found.append(
            "head: fsdp splits every weight already, and a sharded head splits its own; choose a plain head"
        )
    return found


def _with_split_head(settings: Mapping[str, Any], split: bool) -> list[str]:
    if not split or settings.get("precision") != "16-mixed" or settings.get("strategy") == "auto":
        return []
    return [
        "trainer.precision=16-mixed: a process whose centers overflow would skip a step that the others take; "
        "choose bf16-mixed, or a head that is not split"
    ]


def _with_feature_maps(settings: Mapping[str, Any], method: str | None) -> list[str]:
    return [
        f"trainer.{key}={settings[key]}: {method} reads a feature map inside the student, which this setting does not "
        "support; leave it out"
        for key in ("compile", "accumulate_grad_batches")
        if method and key in settings and has_effect(key, settings[key])
    ]
