"""What is wrong with the `trainer` settings whatever the machine."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "16-mixed")
STRATEGIES = ("auto", "ddp", "fsdp")
# Options and the value at which a run is the run it was before there was the option; the identity leaves these out.
WITHOUT_EFFECT = {
    "accumulate_grad_batches": 1,
    "gradient_clip_val": None,
    "compile": False,
    "channels_last": True,
}
_KNOWN = (
    "accelerator", "devices", "num_nodes", "strategy", "precision", "sync_batchnorm", "benchmark", "deterministic",
    *WITHOUT_EFFECT,
)  # fmt: skip


def problems(config: Mapping[str, Any], method: Any) -> list[str]:
    """Lists them, a sentence each.

    Args:
        config: Resolved training configuration.
        method: Class of the method, or None where it cannot be imported.
    """
    settings = config["trainer"]
    found = [_unknown(key) for key in settings if key not in _KNOWN]
    found += _choices(settings)
    return found or [
        *_with_fsdp(config, settings),
        *_with_head(config, settings),
        *_with_method(settings, method),
    ]


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, _KNOWN, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_KNOWN)}"
    return f"trainer.{key}: there is no such setting; {hint}"


def _choices(settings: Mapping[str, Any]) -> list[str]:
    found = []
    for key, choices in (
        ("precision", PRECISIONS),
        ("strategy", STRATEGIES),
        ("compile", (False, True, "auto")),
    ):
        value = settings.get(key, choices[0])
        if value not in choices or type(value) not in {type(choice) for choice in choices}:
            told = " | ".join(
                str(choice).lower() if isinstance(choice, bool) else choice for choice in choices
            )
            found.append(f"trainer.{key}: expected {told}, got {value!r}")
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


def _with_fsdp(config: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
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
        if settings.get(key, WITHOUT_EFFECT[key]) != WITHOUT_EFFECT[key]:
            found.append(
                f"trainer.{key}={settings[key]}: is not offered with fsdp; leave it out or choose strategy=ddp"
            )
    if _has_sharded_head(config):
        found.append(
            "head: fsdp splits every weight already, and a sharded head splits its own; choose a plain head"
        )
    return found


def _with_head(config: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    if (
        not _has_sharded_head(config)
        or settings.get("precision") != "16-mixed"
        or settings.get("strategy") == "auto"
    ):
        return []
    return [
        "trainer.precision=16-mixed: a process whose share of the centers overflows would skip a step that the others "
        "take; choose bf16-mixed, or a plain head"
    ]


def _has_sharded_head(config: Mapping[str, Any]) -> bool:
    return "ShardedHead" in str((config.get("head") or {}).get("_target_"))


def _with_method(settings: Mapping[str, Any], method: Any) -> list[str]:
    if not getattr(method, "reads_feature_maps", False):
        return []
    return [
        f"trainer.{key}={settings[key]}: {method.__name__} reads a feature map inside the student, which does not work "
        "so; leave it out"
        for key in ("compile", "accumulate_grad_batches")
        if settings.get(key, WITHOUT_EFFECT[key]) != WITHOUT_EFFECT[key]
    ]
