"""Compiles a C++ file of the package once for this machine, and keeps the library in the cache folder."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

from facedistill.assets.store import cache_dir
from facedistill.errors import UserError, reason
from facedistill.system.files import atomic_path
from facedistill.system.machine import cpu_instructions
from facedistill.system.messages import print_message

# Not -ffast-math, which makes the whole process flush denormal numbers.
OPTIONS = (
    "-std=gnu++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-shared",
    "-fPIC",
)


@cache
def native_library(source: Path) -> ctypes.CDLL | None:
    """The compiled library of a C++ file, or None without a C++ compiler that can build it (`CXX`, g++ or c++).

    It takes less than a second, and is kept by source, compiler and instructions of the CPU. If building fails, a message says why.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        return None
    made_for = "\n".join([source.read_text(), compiler, *OPTIONS, *sorted(cpu_instructions())])
    name = f"{source.stem}-{hashlib.sha256(made_for.encode()).hexdigest()[:16]}.so"
    path = cache_dir() / "compiled" / name
    for _ in range(2):
        try:
            if not path.exists():
                with atomic_path(path) as unfinished:
                    command = [*shlex.split(compiler), *OPTIONS, str(source), "-o", str(unfinished)]
                    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
            return ctypes.CDLL(str(path))
        except (subprocess.SubprocessError, UserError) as error:
            said = (getattr(error, "stderr", None) or reason(error)).splitlines()[0]
            print_message(f"{source.name} is not used, because {compiler} cannot build it ({said})")
            return None
        except OSError:  # a damaged file
            path.unlink(missing_ok=True)
    return None
