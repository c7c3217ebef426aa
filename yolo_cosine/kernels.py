"""Kernels in C, compiled on the user's machine for its processor, where there is a compiler."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from yolo_cosine.processor import cpu_facts

# No -ffast-math: a NaN has to stay one, and sums have to be the same ones on every run.
_FLAGS = (
    "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fPIC", "-std=gnu11"
)  # fmt: skip


@functools.cache
def load(name: str, *flags: str) -> ctypes.CDLL | None:
    """The library made of the package's `name`.c, as `model/nms`; None where it cannot be made, or would not share PyTorch's threads.

    It is kept in the user's cache folder, under a name that tells source, flags, compiler and processor.

    Args:
        flags: more of the compiler's.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or platform.system() != "Linux" or not _threads_are_shared():
        return None
    source = Path(__file__).parent / f"{name}.c"
    try:
        flags = (*_FLAGS, *(["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []), *flags)
        content = repr((source.read_bytes(), flags, _version(compiler), cpu_facts()))
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yolo-cosine"
        library = folder / f"{source.stem}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.so"
        if library.exists():
            with contextlib.suppress(OSError):  # damaged: made anew
                return ctypes.CDLL(str(library))
        _compile([compiler, *flags], source, library)
        return ctypes.CDLL(str(library))
    except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: there is no home folder
        return None


@functools.cache
def _version(compiler: str) -> bytes:
    return subprocess.run([compiler, "--version"], capture_output=True, timeout=20, check=True).stdout


def _compile(command: list[str], source: Path, library: Path) -> None:
    """Compile beside and rename: several processes may be at it."""
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        compiled, linked = Path(folder) / "a.o", Path(folder) / "a.so"
        subprocess.run([*command, "-c", str(source), "-o", str(compiled)], capture_output=True, timeout=120, check=True)
        # not linked with an OpenMP of its own: the names are PyTorch's, whose threads would wait spinning beside others
        subprocess.run(
            [command[0], "-shared", str(compiled), "-o", str(linked)], capture_output=True, timeout=60, check=True
        )
        os.replace(linked, library)


def _threads_are_shared() -> bool:
    """Whether PyTorch's threads are GCC's OpenMP, whose names are then there for all libraries of the process."""
    return "backend: OpenMP" in torch.__config__.parallel_info() and hasattr(ctypes.CDLL(None), "GOMP_parallel")
