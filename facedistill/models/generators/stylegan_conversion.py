"""Converts StyleGAN files to the state of a `StyleGANGenerator`, in a separate process.

The reader cannot run what a pickle names (see `facedistill.assets.pickle.reader`). The process has no secrets in its
environment, and a malicious file that exhausts memory or the stack ends only that process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from facedistill.assets.pickle.reader import Inert, read_inert
from facedistill.errors import AssetError
from facedistill.models.generators import stylegan2_conversion, stylegan3_conversion
from facedistill.models.generators.conversion import measure_latents
from facedistill.models.generators.frozen import part_of
from facedistill.models.generators.pickled_module import PickledModule, attributes_of, class_of

_PASSED_VARIABLES = (
    "PATH",
    "HOME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "SYSTEMROOT",
    "VIRTUAL_ENV",
)


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Converts NVlabs' StyleGAN2, StyleGAN2-ADA or StyleGAN3 pickle (`G_ema`) or rosinality's checkpoint (`g_ema`).

    Args:
        members: One file and its path.

    Returns:
        float32 tensors `mapping.*`, `synthesis.*` and `w_avg` (L,); `mean_w` (L,) and `cholesky_w` (L, L), measured.

    Raises:
        AssetError: If the file is damaged, holds no such generator, or a tensor is missing, unknown or misshapen.
    """
    ((name, path),) = members.items()
    package = Path(__file__).parents[3]
    variables = {key: os.environ[key] for key in _PASSED_VARIABLES if key in os.environ}
    search_path = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables["PYTHONPATH"] = os.pathsep.join(search_path)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "converted.safetensors"
        command = [sys.executable, "-P", "-m", __name__, str(path.absolute()), name, str(target)]
        process = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
        if process.returncode == 2 and process.stdout.strip():
            raise AssetError(process.stdout.strip().splitlines()[-1])
        if process.returncode or not target.is_file():
            reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            raise AssetError(
                f"{name} could not be converted: the process that read it failed ({reason:.160})"
            )
        return load_file(target)


def convert_here(path: Path, name: str) -> dict[str, Tensor]:
    """Does what `convert` does, in this process."""
    state = read_network(path, name)
    plain = {
        key: tensor if key in ("synthesis.layout", "synthesis.input.rates") else tensor.float()
        for key, tensor in state.items()
    }
    plain |= measure_latents(part_of(plain, "mapping"))
    return {"w_avg": plain["mean_w"].clone()} | plain


def read_network(path: Path, name: str) -> dict[str, Tensor]:
    """The state of the averaged generator in a file of any known layout; float64.

    Raises:
        AssetError: If the file has none.
    """
    content = read_inert(path)
    if isinstance(content, tuple) and any("tflib" in str(getattr(part, "what", "")) for part in content):
        raise AssetError(
            f"{name} is a TensorFlow pickle; turn it into a PyTorch one first, with legacy.py of NVlabs' stylegan3"
        )
    if isinstance(content, dict) and isinstance(averaged := content.get("g_ema", content), dict):
        tensors = {str(key): tensor for key, tensor in averaged.items() if isinstance(tensor, Tensor)}
        if "input.input" in tensors or "style.1.weight" in tensors:
            w_avg = content.get("latent_avg")
            return stylegan2_conversion.from_rosinality(
                tensors, w_avg if isinstance(w_avg, Tensor) else None, name
            )
    network = content.get("G_ema") if isinstance(content, dict) else content
    if not isinstance(network, Inert):
        raise AssetError(f"{name} holds {_contents(content)} and no G_ema or g_ema; give a generator's file")
    pickled = PickledModule(network, name)
    synthesis = attributes_of((pickled.attributes.get("_modules") or {}).get("synthesis"))
    if "layer_names" in synthesis:
        return stylegan3_conversion.from_nvlabs(pickled)
    if "b4" in (synthesis.get("_modules") or {}):
        return stylegan2_conversion.from_nvlabs(pickled)
    raise pickled.problem(f"its G_ema is a {class_of(network)} of another architecture")


def _contents(content: Any) -> str:
    if isinstance(content, dict):
        return ", ".join(map(str, list(content)[:4])) or "nothing"
    return f"a {type(content).__name__}"


def main() -> int:
    """`python -m … FILE NAME OUT`: converts, or prints one sentence and exits with 2."""
    path, name, target = sys.argv[1:]
    try:
        with torch.no_grad():
            save_file({key: t.contiguous() for key, t in convert_here(Path(path), name).items()}, target)
    except AssetError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
