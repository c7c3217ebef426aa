"""What feeds the network: how many threads, and the images of a split."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch

from yolo_cosine.config.schema import DataConfig
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.index import Index
from yolo_cosine.errors import UserError, some_of

Notify = Callable[[str, bool], None]  # text, whether it is a warning

_TELL_EVERY = 10.0  # seconds between two words on how far the reading is


def resolve_workers(workers: int | str, device: torch.device) -> int:
    """`auto`: one thread beside a network that runs on the CPU, else as many as there are cores, 16 at most."""
    if workers != "auto":
        return max(int(workers), 1)
    return 1 if device.type == "cpu" else min(os.cpu_count() or 1, 16)


def open_store(index: Index, config: DataConfig, size: int, notify: Notify) -> ImageStore:
    """Decode a split into memory where it fits, at `size` pixels, and name what cannot be read.

    Raises:
        UserError: if not one image can be read.
    """
    told = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL_EVERY:
            told = time.monotonic()
            notify(f"{index.source}: {done:,} of {total:,} images read into memory", False)

    store = ImageStore(index, size, config.cache, os.cpu_count() or 1, progress)
    unreadable = store.untold()
    if unreadable:
        files = some_of(unreadable, lambda i: str(index.path(i)))
        if len(unreadable) == len(index):
            raise UserError(f"{index.source}: none of the {len(index)} images can be read ({files}); mend the files")
        notify(
            f"{index.source}: {len(unreadable)} image(s) cannot be read: {files}; training leaves them out, "
            "evaluation counts what is on them as not found",
            True,
        )
    return store
