"""Files that are written whole or not at all, whatever becomes of the disk or the process. Imports nothing of ours."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # no POSIX system; then nobody is kept out
    fcntl = None  # type: ignore[assignment]

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


class FileLock:
    """A lock that one process has at a time. The system lets it go when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    @property
    def held(self) -> bool:
        """Whether this has the lock."""
        return self._file is not None

    def take(self) -> bool:
        """Whether nobody else has the lock: it is this one's now, or there are no locks to be had here, and so no others."""
        if self.held or fcntl is None:
            return True
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        except OSError:  # a full disk, a folder of somebody else's, a file system without locks
            self.release()
        return True

    def release(self) -> None:
        """Let it go."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
