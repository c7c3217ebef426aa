"""Files that are written whole or not at all, whatever becomes of the disk or the process. Imports nothing of ours."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

IMAGE_INTERVALS = "image_intervals.json"  # in a run's folder, where `image_resamples` asked for it


def replace_file(path: Path, parts: Iterable[bytes]) -> None:
    """Put `parts`, one after the other, at `path`: a reader finds the old content or the new, also after a power cut.

    Raises:
        OSError: if it cannot be written; what was there stays.
    """
    # a name of its own: TensorBoard reads whatever has that of an event file in it
    beside = path.with_name(".unfinished")
    write_flushed(beside, parts)
    try:
        os.replace(beside, path)
    except BaseException:
        _remove(beside)
        raise
    sync_folder(path.parent)


def write_flushed(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file and have the disk confirm it; what fails leaves none, for a part of one is in the way of the next.

    Raises:
        OSError: if it cannot be written.
    """
    try:
        with open(path, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        _remove(path)
        raise


def sync_folder(folder: Path) -> None:
    """Make renames in a folder outlive a power cut, where the system can: not every one opens or confirms a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
