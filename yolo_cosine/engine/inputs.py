"""What feeds the network: how many threads, the images of a split, and batches that runs have in common."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import torch

import yolo_cosine
from yolo_cosine import events
from yolo_cosine.config.schema import AugmentConfig, DataConfig
from yolo_cosine.data.cache import ImageStore, decoded_bytes
from yolo_cosine.data.feeder import Feeder
from yolo_cosine.data.index import Index, TrainableBoxes
from yolo_cosine.data.loader import TrainLoader
from yolo_cosine.data.memory import free_memory
from yolo_cosine.data.places import images_folder
from yolo_cosine.data.prints import Print
from yolo_cosine.data.resident import make_resident, room_on
from yolo_cosine.data.shared import is_kept
from yolo_cosine.data.shared_batches import SharedBatches, digest
from yolo_cosine.engine.launch import local_size
from yolo_cosine.processor import available_cores

Notify = Callable[[str, bool], None]  # text, whether it is a warning

_SHOW_EVERY = 0.1  # seconds between two words on how far the reading is


def resolve_workers(workers: int | str, device: torch.device) -> int:
    """`auto`: one thread beside a network that runs on the CPU, else as many as this process has cores, 16 at most."""
    if workers != "auto":
        return max(int(workers), 1)
    return 1 if device.type == "cpu" else min(_cores(), 16)


def _cores() -> int:
    """This process's share of the cores that the run's processes on this machine may use."""
    return max(available_cores() // local_size(), 1)


def open_store(
    index: Index, config: DataConfig, size: int, notify: Notify, *, fate: str, brief: bool = False,
    show: Callable[[events.Reading], None] = lambda event: None,
) -> ImageStore:  # fmt: skip
    """Decode a split at `size` pixels, into memory or a file as `config.cache` says, and name what cannot be read.

    Args:
        fate: what becomes of an image that cannot be read: UNREADABLE_IN_TRAINING or UNREADABLE_IN_EVALUATION.
        brief: whether images are looked at about once, so that a file of them is not worth writing; one that is there is
            used.
        show: told how far the reading is.

    Raises:
        UserError: if not one image can be read, or the folder for the file cannot be made.
        TrainingFailed: if the disk does not answer, or fails for one image after another.
    """
    shown, folder = -math.inf, images_folder(config)
    cache = _cache(index, config, size, notify, brief) if config.cache == "auto" else config.cache
    place = folder if cache == "disk" else "memory"

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown >= _SHOW_EVERY or done == total:
            shown = time.monotonic()
            show(events.Reading(index.source, done, total, str(place)))

    store = ImageStore(
        index, size, cache, _cores(), progress, folder=folder, fate=fate, timeout=config.worker_timeout,
        tell=lambda text: notify(text, True), say=lambda text: notify(text, False),
    )  # fmt: skip
    store.readable(0)  # is there any image at all?
    if news := store.news():
        notify(news, True)
    return store


def _cache(index: Index, config: DataConfig, size: int, notify: Notify, brief: bool) -> str:
    """What `cache: auto` comes to, told where it is not memory: ram, disk or none."""
    folder, need, memory = images_folder(config), decoded_bytes(index, size), free_memory() * local_size()
    if need < memory / 2:
        # what lies in a file is read through memory, by all processes together
        return "disk" if config.cache_dir is not None or local_size() > 1 else "ram"
    kept = is_kept(index, size, folder)
    if brief and not kept:
        return "none"
    disk = _free_disk(folder)
    lack = f"{index.source}: its decoded images need {need / 1e9:.3g} GB, more than half of the memory's free {memory / 1e9:.3g} GB"
    if kept or need < disk / 2:
        notify(f"{lack}; they are kept in a file in {folder} (cache: none decodes them anew each time)", False)
        return "disk"
    notify(
        f"{lack} and of the free {disk / 1e9:.3g} GB of the disk of {folder}; they are decoded anew each time, often in an "
        "epoch: write a smaller imgsz, or a cache_dir where there is room, or train with more memory",
        True,
    )
    return "none"


def _free_disk(folder: Path) -> int:
    """Bytes that are free where a folder is or would be made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    return shutil.disk_usage(there).free


def augments(device: torch.device) -> bool:
    """Whether images are augmented by tensors on the device that trains. In C, or by OpenCV, it is cheaper on a CPU."""
    return device.type != "cpu"


def open_feeder(store: ImageStore, labels: TrainableBoxes, device: torch.device, notify: Notify) -> Feeder | None:
    """What makes the training batches on a device that augments, with all images there if they fit; None elsewhere."""
    if not augments(device):
        return None
    resident = make_resident(store, device, room_on(device))
    if resident is not None:
        size = len(resident.pixels) * 3
        notify(f"{store.index.source}: its decoded images, {size / 1e9:.3g} GB, are kept on {device}", False)
    return Feeder(store, labels, device, resident)


def share_batches(loader: TrainLoader, folder: Path, print_of_data: Print) -> None:
    """Let a loader read the batches that another run on this machine has made, and leave it those that it makes.

    Not where the device augments: it needs no help, and a run comes to the same whether others are trained beside it or not.
    """
    if loader.feeder is not None:
        return
    augment = {key: getattr(loader.augment, key) for key in AugmentConfig.model_fields}
    name = digest(
        data=print_of_data, folder=loader.store.index.root, size=loader.store.size, seed=loader.seed, batch=loader.batch, rank=loader.rank, ranks=loader.ranks,
        augment=augment, version=yolo_cosine.__version__, opencv=cv2.__version__, kernel=loader.kernel,
    )  # fmt: skip
    loader.shared = SharedBatches(folder, name)
