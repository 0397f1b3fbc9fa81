"""The commands of `facedistill`: the module of each, whose `main` runs it, and what it does; what they parse alike."""

from __future__ import annotations

import argparse

COMMANDS = {
    "train": ("facedistill.train", "distil a student: group=choice and key=value overrides, -m to sweep"),
    "evaluate": (
        "facedistill.evaluate",
        "measure a run, a student file or a teacher on the benchmarks at hand",
    ),
    "embed": ("facedistill.embed", "embed aligned face images with a student file"),
    "report": ("facedistill.reporting.command", "write the report and the model card of a run again"),
    "dashboard": (
        "facedistill.reporting.dashboard_command",
        "one page on all runs of a folder: filter, sort, compare",
    ),
    "push": ("facedistill.push", "upload a finished run's student and card to the Hugging Face hub"),
    "reproduce": ("facedistill.reproduce", "run what a table of experiments/ lacks and render it"),
    "methods": (
        "facedistill.methods_table",
        "the methods: papers, needs, defaults; --measure for their cost",
    ),
    "backbones": (
        "facedistill.backbones_table",
        "the student networks: params, macs, weights; --measure for their time on this CPU",
    ),
    "data": ("facedistill.data.command", "info, verify, convert, align, audit of face sets"),
    "generate": ("facedistill.generate", "render labelled synthetic identities to shards"),
    "teacher": (
        "facedistill.teacher_command",
        "add FILE: recognize a teacher and prove how it is fed; convert FILE: a pickle to tensors",
    ),
    "generator": (
        "facedistill.generator_command",
        "convert FILE: a StyleGAN of your own; preview: what a generator renders",
    ),
    "assets": (
        "facedistill.assets.command",
        "list, fetch, verify the pretrained weights and show their licences",
    ),
    "completion": ("facedistill.completion", "print a script for tab-completion in bash or zsh"),
    "align": ("facedistill.data.align", "short for data align"),
}


def positive(text: str) -> int:
    """A number above 0 of a command line.

    Raises:
        argparse.ArgumentTypeError: If it is not above 0.
        ValueError: If it is no whole number.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number
