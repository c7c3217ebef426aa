"""What feeds the network: how many threads, and the images of a split."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from yolo_cosine.config.schema import DataConfig, RunConfig
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.index import Index

Notify = Callable[[str, bool], None]  # text, whether it is a warning

_TELL_EVERY = 10.0  # seconds between two words on how far the reading is


def resolve_workers(workers: int | str, device: torch.device) -> int:
    """`auto`: one thread beside a network that runs on the CPU, else as many as there are cores, 16 at most."""
    if workers != "auto":
        return max(int(workers), 1)
    return 1 if device.type == "cpu" else min(os.cpu_count() or 1, 16)


def images_folder(config: DataConfig) -> Path:
    """Where the files of decoded images are: `cache_dir`, by default `.images` among the runs."""
    if config.cache_dir is not None:
        return Path(config.cache_dir)
    return Path(config.runs if isinstance(config, RunConfig) else "runs") / ".images"


def open_store(index: Index, config: DataConfig, size: int, notify: Notify, *, fate: str) -> ImageStore:
    """Decode a split at `size` pixels, into memory or a file as `config.cache` says, and name what cannot be read.

    Args:
        fate: what becomes of an image that cannot be read: UNREADABLE_IN_TRAINING or UNREADABLE_IN_EVALUATION.

    Raises:
        UserError: if not one image can be read, or the folder for the file cannot be made.
        TrainingFailed: if the disk does not answer, or fails for one image after another.
    """
    told, folder = time.monotonic(), images_folder(config)
    place = folder if config.cache == "disk" else "memory"

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL_EVERY:
            told = time.monotonic()
            notify(f"{index.source}: {done:,} of {total:,} images read into {place}", False)

    store = ImageStore(
        index, size, config.cache, os.cpu_count() or 1, progress, folder=folder, fate=fate, timeout=config.worker_timeout,
        tell=lambda text: notify(text, True), say=lambda text: notify(text, False),
    )  # fmt: skip
    store.readable(0)  # is there any image at all?
    if news := store.news():
        notify(news, True)
    return store
