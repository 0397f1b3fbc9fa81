"""Converts a pickled network to named tensors in a process of its own.

The reader cannot import or call what a pickle names (`facedistill.assets.pickle.machine`). The process has limits on
processor time, memory and size of the output, so that a malicious file cannot exhaust the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from facedistill.assets.pickle.reader import Inert, module_tensors, read_inert
from facedistill.errors import AssetError

NESTED = ("state_dict", "model_state_dict", "state_dict_backbone", "backbone", "model", "net", "network")
"""Under which names a training script saves the network next to its optimizer and settings."""
_SECONDS = 600
_LARGEST_OUTPUT = 8 << 30
_SPARE = 2 << 30  # bytes of memory besides eight times the file


def convert_pickled(path: Path, target: Path) -> list[str]:
    """Writes the tensors of a pickle as safetensors by name, without running any of it.

    Args:
        path: A module, a checkpoint with Python objects next to its tensors, or a state dict.
        target: A new file; it does not exist after an error.

    Returns:
        What was left out: the class of every object that is not a tensor, with its count, most frequent first.

    Raises:
        AssetError: If the file cannot be read as data, has no network, or exceeds the limits.
    """
    kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH", "HOME", "LANG") if key in os.environ}
    command = [
        sys.executable,
        "-P",
        "-m",
        "facedistill.assets.pickle.convert",
        str(path.absolute()),
        str(target),
    ]
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**kept, "OMP_NUM_THREADS": "1"},
                capture_output=True,
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise AssetError(
                f"{path.name}: reading it took more than {_SECONDS} s; it is no ordinary checkpoint"
            ) from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        known = done.returncode == 2 and said
        raise AssetError(
            said[-1]
            if known
            else f"{path.name}: its reader ended with code {done.returncode}; fetch it again"
        )
    return list(json.loads(done.stdout))


def network_tensors(loaded: Any, name: str) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of the network in the result of `read_inert`, and the classes that were left out.

    Raises:
        AssetError: If there is no network.
    """
    if isinstance(loaded, Inert):
        return module_tensors(loaded), [str(loaded.what)]
    if not isinstance(loaded, Mapping):
        raise AssetError(
            f"{name} holds a {type(loaded).__name__} and no network; give a checkpoint of the network"
        )
    for key in NESTED:
        if isinstance(loaded.get(key), Mapping | Inert):
            tensors, left_out = network_tensors(loaded[key], name)
            other_kinds = [_kind(value) for other, value in loaded.items() if other != key]
            return tensors, left_out + [kind for kind in other_kinds if kind]
    tensors = {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        raise AssetError(
            f"{name} holds no tensors by name; its entries are {', '.join(map(str, list(loaded)[:3])) or 'none'}"
        )
    return tensors, [kind for value in loaded.values() if (kind := _kind(value))]


def _kind(value: Any) -> str | None:
    return str(value.what) if isinstance(value, Inert) else None


def _main(source: Path, target: Path) -> int:
    from safetensors.torch import save_file

    _limit(source)
    try:
        tensors, left_out = network_tensors(read_inert(source), source.name)
    except AssetError as error:
        print(error, file=sys.stderr)
        return 2
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, target)
    counted = Counter(left_out).most_common()
    print(json.dumps([f"{kind} ({count})" if count > 1 else kind for kind, count in counted]))
    return 0


def _limit(source: Path) -> None:
    """Limits processor time, size of written files and memory, if the system supports it."""
    try:
        import resource
    except ImportError:  # Windows has none
        return
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_OUTPUT, _LARGEST_OUTPUT))
    pages = Path("/proc/self/statm")
    if pages.is_file():  # Linux
        taken = int(pages.read_text().split()[0]) * resource.getpagesize()
        most = taken + 8 * source.stat().st_size + _SPARE
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2])))
