"""What feeds the network: how many threads, the images of a split, and batches that runs have in common."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import torch

import yolo_cosine
from yolo_cosine.config.schema import AugmentConfig, DataConfig
from yolo_cosine.data.cache import ImageStore, decoded_bytes, free_memory
from yolo_cosine.data.index import Index
from yolo_cosine.data.loader import TrainLoader
from yolo_cosine.data.places import images_folder
from yolo_cosine.data.prints import Print
from yolo_cosine.data.shared_batches import SharedBatches, digest

Notify = Callable[[str, bool], None]  # text, whether it is a warning

_TELL_EVERY = 10.0  # seconds between two words on how far the reading is


def resolve_workers(workers: int | str, device: torch.device) -> int:
    """`auto`: one thread beside a network that runs on the CPU, else as many as there are cores, 16 at most."""
    if workers != "auto":
        return max(int(workers), 1)
    return 1 if device.type == "cpu" else min(os.cpu_count() or 1, 16)


def open_store(index: Index, config: DataConfig, size: int, notify: Notify, *, fate: str) -> ImageStore:
    """Decode a split at `size` pixels, into memory or a file as `config.cache` says, and name what cannot be read.

    Args:
        fate: what becomes of an image that cannot be read: UNREADABLE_IN_TRAINING or UNREADABLE_IN_EVALUATION.

    Raises:
        UserError: if not one image can be read, or the folder for the file cannot be made.
        TrainingFailed: if the disk does not answer, or fails for one image after another.
    """
    told, folder = time.monotonic(), images_folder(config)
    cache = config.cache
    if cache == "auto" and config.cache_dir is not None:  # what lies there is read through memory, by all runs together
        cache = "disk" if decoded_bytes(index, size) < free_memory() / 2 else "none"
    place = folder if cache == "disk" else "memory"

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL_EVERY:
            told = time.monotonic()
            notify(f"{index.source}: {done:,} of {total:,} images read into {place}", False)

    store = ImageStore(
        index, size, cache, os.cpu_count() or 1, progress, folder=folder, fate=fate, timeout=config.worker_timeout,
        tell=lambda text: notify(text, True), say=lambda text: notify(text, False),
    )  # fmt: skip
    store.readable(0)  # is there any image at all?
    if news := store.news():
        notify(news, True)
    return store


def share_batches(loader: TrainLoader, folder: Path, print_of_data: Print) -> None:
    """Let a loader read the batches that another run on this machine has made, and leave it those that it makes."""
    augment = {key: getattr(loader.augment, key) for key in AugmentConfig.model_fields}
    name = digest(
        data=print_of_data, folder=loader.store.index.root, size=loader.store.size, seed=loader.seed, batch=loader.batch, rank=loader.rank, ranks=loader.ranks,
        augment=augment, version=yolo_cosine.__version__, opencv=cv2.__version__,
    )  # fmt: skip
    loader.shared = SharedBatches(folder, name)
