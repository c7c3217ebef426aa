"""What the figures depend on: `python -m bench.machine` prints hardware, versions and what is missing, as JSON."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bench import standin
from yolo_cosine.processor import available_cores, processor_name

_PACKAGES = ("torch", "torchvision", "ultralytics", "yolo-cosine", "numpy", "opencv-python", "hotcoco")


def describe() -> dict[str, Any]:
    """Hardware, software, and whether torchvision can be imported. Imports all that both trainers import."""
    import psutil
    import torch
    import ultralytics  # noqa: F401  also brings the files into the system's memory, for whoever is first

    from yolo_cosine.engine.precision import resolve_device, resolve_precision

    gpu = torch.cuda.is_available()
    device = resolve_device("cuda" if gpu else "cpu")
    hardware = {
        "cpu": processor_name(),
        "cores": available_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())] if gpu else [],
        "gpu_memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if gpu else None,
        "our_precision": resolve_precision("auto", device).name,
    }
    software = {
        "python": platform.python_version(),
        "system": platform.platform(),
        **{name: _version(name) for name in _PACKAGES},
        "cuda": torch.version.cuda if gpu else None,
        "cudnn": torch.backends.cudnn.version() if gpu else None,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }
    return {"hardware": hardware, "software": software, "torchvision": standin.importable()}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    print(json.dumps(describe()))
