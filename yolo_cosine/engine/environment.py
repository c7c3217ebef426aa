"""What a run's numbers depend on besides configuration and data: versions, device, threads, processes."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version

import cv2
import torch

import yolo_cosine
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.precision import Precision
from yolo_cosine.processor import processor_name

_PACKAGES = ("torch", "ultralytics", "numpy", "hotcoco")


def describe_environment(
    precision: Precision, world: World, fused_norms: int = 0, compiled: str = "off", kernel: bool = False
) -> dict[str, str]:
    """Name and value of everything that can change a bit of the result.

    Args:
        fused_norms: how many norms are computed by the kernel that is compiled on this machine.
        compiled: by which mode of PyTorch's compiler network and loss are.
        kernel: whether a kernel that is compiled on this machine makes the training images, and not OpenCV.
    """
    device = precision.device
    on_gpu = device.type == "cuda"
    return {
        "yolo_cosine": yolo_cosine.__version__,
        **{name: version(name) for name in _PACKAGES},
        "opencv": cv2.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "device": torch.cuda.get_device_name(device) if on_gpu else f"{device.type}, {processor_name()}",
        "cuda": str(torch.version.cuda) if on_gpu else "none",
        "precision": precision.name,
        "fused norms": str(fused_norms),
        "compile": compiled,
        "augmentation": "kernel" if kernel else "OpenCV" if device.type == "cpu" else device.type,
        # sums are split among them, and so rounded in another order
        "threads": "any" if on_gpu else str(torch.get_num_threads()),
        "processes": str(world.size),
    }


_EFFECTS = {
    "processes": "every step has the same images, each process a share of them; sums are rounded in another order, and "
    "with sync_norms: false each process's norms see its own share",
    "threads": "sums are rounded in another order",
}


def environment_notes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """In words, what is another than it was when a checkpoint was made. None of it stops a run from going on."""
    return [
        f"{name} was {before[name]} and is {now.get(name, 'not there')} now: the run goes on, but not bit for bit"
        + (f" ({_EFFECTS[name]})" if name in _EFFECTS else "")
        for name in before
        if before[name] != now.get(name)
    ]
