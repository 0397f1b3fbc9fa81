"""The commands of `facedistill`: the module of each, whose `main` runs it, and what it does."""

from __future__ import annotations

COMMANDS = {
    "train": ("facedistill.cli.train", "distil a student: group=choice and key=value overrides, -m to sweep"),
    "profile": (
        "facedistill.cli.profile",
        "where the time of a training step goes, and which settings make it shorter",
    ),
    "evaluate": (
        "facedistill.cli.evaluate",
        "measure a run, a student file or a teacher on the benchmarks that are found",
    ),
    "export": (
        "facedistill.cli.export",
        "write a student as ONNX (float32, float16, int8), torch.export or OpenVINO, and check it",
    ),
    "cost": (
        "facedistill.cli.cost",
        "params, macs, size, latency and memory of networks, students and runs in every runtime",
    ),
    "verify": ("facedistill.cli.verify", "whether two photographs show the same person"),
    "search": ("facedistill.cli.search", "which faces of a gallery are most similar to a photograph"),
    "demo": ("facedistill.cli.demo", "a local page that compares two photographs by file or camera"),
    "embed": ("facedistill.cli.embed", "embed face images with a student; --align takes photographs"),
    "report": ("facedistill.cli.report", "write the report and the model card of a run again"),
    "dashboard": (
        "facedistill.cli.dashboard",
        "one page on all runs of a folder: filter, sort, compare",
    ),
    "push": ("facedistill.cli.push", "upload a finished run's student and card to the Hugging Face hub"),
    "reproduce": ("facedistill.cli.reproduce", "run what a table of experiments/ lacks and render it"),
    "methods": (
        "facedistill.cli.methods",
        "the methods: papers, needs, defaults; --measure for their cost",
    ),
    "backbones": (
        "facedistill.cli.backbones",
        "the student networks: params, macs, weights",
    ),
    "data": (
        "facedistill.cli.data",
        "info, verify, convert, align, audit of face sets; preview of what a configuration shows",
    ),
    "generate": ("facedistill.cli.generate", "render labeled synthetic identities to shards"),
    "teacher": (
        "facedistill.cli.teacher",
        "add FILE: recognize a teacher and prove how it is fed; convert FILE: a pickle to tensors",
    ),
    "generator": (
        "facedistill.cli.generator",
        "convert FILE: a StyleGAN of your own; preview: what a generator renders; directions: what turns its faces",
    ),
    "assets": (
        "facedistill.cli.assets",
        "list, fetch, verify the pretrained weights and show their licences",
    ),
    "completion": ("facedistill.cli.completion", "print a script for tab-completion in bash or zsh"),
    "align": ("facedistill.cli.align", "short for data align"),
}
