"""Work that waits for the disk, or for a network behind it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from yolo_cosine.processor import available_cores

T, R = TypeVar("T"), TypeVar("R")


def in_threads(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`work` of each item, in order; for work that waits for the disk."""
    items, threads = list(items), min(32, 4 * available_cores())
    # to hand over an item costs more than to ask for a file's size; enough parts for all threads to end at once, nearly
    size = min(max(len(items) // (16 * threads), 1), 1000)

    def work_through(start: int) -> list[R]:
        return [work(item) for item in items[start : start + size]]

    with ThreadPoolExecutor(threads, thread_name_prefix="files") as pool:
        return [result for part in pool.map(work_through, range(0, len(items), size)) for result in part]


def file_stamps(paths: Sequence[str]) -> np.ndarray:
    """(N, 3) int64: length in bytes, and the times of the last change of the content and of anything about each file,
    nanoseconds; -1 where there is none."""
    return np.array(in_threads(_stamp, paths), dtype=np.int64).reshape(-1, 3)


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # the latter: a name that no file system encodes
        return -1, -1, -1
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
