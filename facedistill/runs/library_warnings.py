"""Silences warnings of libraries that are expected in every command."""

import logging
import re
import warnings

_EXPECTED = (
    "does not have many workers",  # rendering needs no data workers: drawing the latents of a batch takes 0.1 ms
    "your dataloader is not resumable",  # FaceDataModule saves its position in the checkpoint itself
    "in eval mode at the start of training",  # the frozen teacher
    "sync_dist=True",  # validation: every process logs the same figures, computed from gathered embeddings
    "smaller than the logging interval",  # very short runs
    "`broadcast_buffers` is deprecated",  # torch 2.9, which is supported, does not have the new argument
    "isinstance(treespec, LeafSpec)",  # Lightning calls a deprecated function of torch
)


def silence_expected_warnings() -> None:
    """Hides expected warnings, and informational messages of Lightning if it is imported already."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # torch.compile and ONNX's quantization warn about a missing CUDA runtime, also on a machine without a GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    for text in _EXPECTED:
        warnings.filterwarnings("ignore", message=f".*{re.escape(text)}")
