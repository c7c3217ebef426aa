"""Batches that several processes on a machine train on: made by the first that needs one, read by the others.

A batch is a function of the data, the seed, the epoch and its place in it, so it does not matter who makes it. Files in
memory (`/dev/shm`) carry it; the oldest make room for new ones, and who comes too late for one makes it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]

_MEMORY = Path("/dev/shm")
_SHARE = 0.25  # of what is free there
_LEAST = 256 * 2**20  # bytes, below which it is not worth it
_LOOK = 0.002  # seconds between two looks whether another process is done
_CLAIMING = 1.0  # seconds in which a process that has made a claim has written into it who it is


def make_folder() -> Path | None:
    """A folder in memory for the batches of this process and those that it starts; None where there is none, or no room.

    What processes left there that were killed is deleted.
    """
    try:
        for rest in _MEMORY.glob("yolo-cosine-*-*"):
            if not _is_running(rest.name.split("-")[2]):
                shutil.rmtree(rest, ignore_errors=True)
        if shutil.disk_usage(_MEMORY).free * _SHARE < _LEAST:
            return None
        return Path(tempfile.mkdtemp(prefix=f"yolo-cosine-{os.getpid()}-", dir=_MEMORY))
    except OSError:
        return None


def digest(**facts: Any) -> str:
    """What all batches of a run depend on, as a name."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class SharedBatches:
    """The batches in a folder.

    Args:
        folder: the same for all processes.
        name: `digest` of what the batches depend on: only where it is the same are they shared.
        most: bytes that may lie in the folder, of all names; by default a quarter of what is free there.
        patience: seconds to wait for another process that has begun to make a batch.
    """

    folder: Path
    name: str
    most: int | None = None
    patience: float = 30.0

    def get(self, key: str, make: Callable[[], Arrays]) -> Arrays:
        """The batch called `key`: read, if another process has made it, or made, and left for the others."""
        path = self.folder / f"{self.name}-{key}.batch"
        claim = path.with_suffix(".claim")
        found = _read(path)
        if found is not None:
            return found
        try:
            mine = _claim(claim)
            if not mine:
                found = self._wait(path, claim)
        except OSError:  # the folder is gone, or full
            mine = False
        if found is not None:
            return found
        batch = make()
        if mine:
            self._leave(path, claim, batch)
        return batch

    def _wait(self, path: Path, claim: Path) -> Arrays | None:
        until = time.monotonic() + self.patience
        while time.monotonic() < until and _is_alive(claim):
            time.sleep(_LOOK)
            found = _read(path)
            if found is not None:
                return found
        return _read(path)

    def _leave(self, path: Path, claim: Path, batch: Arrays) -> None:
        beside = path.with_suffix(f".{os.getpid()}")
        try:
            self._make_room(sum(array.nbytes for array in batch.values()))
            with open(beside, "wb") as file:
                for name, array in batch.items():
                    np.save(file, np.array(name))
                    np.save(file, array)
            os.replace(beside, path)
        except OSError:
            for rest in (beside, claim):
                with contextlib.suppress(OSError):
                    rest.unlink()

    def _make_room(self, size: int) -> None:
        files = [(entry.stat(), entry.path) for entry in os.scandir(self.folder) if entry.name.endswith(".batch")]
        total = sum(stat.st_size for stat, _ in files)
        most = self.most
        if most is None:
            most = int(_SHARE * (shutil.disk_usage(self.folder).free + total))
        for stat, name in sorted(files, key=lambda item: item[0].st_mtime_ns):
            if total + size <= most:
                return
            for rest in (name, f"{name.removesuffix('.batch')}.claim"):
                with contextlib.suppress(OSError):
                    os.unlink(rest)
            total -= stat.st_size


def _claim(path: Path) -> bool:
    """Whether nobody else has said that it makes the batch; now this process has."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, str(os.getpid()).encode())
    except OSError:  # no room: a claim of nobody would be waited for
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return True


def _is_alive(claim: Path) -> bool:
    """Whether the process that makes a batch is there; one that has just begun to claim counts."""
    try:
        process = claim.read_text()
        return _is_running(process) if process else time.time() - claim.stat().st_mtime < _CLAIMING
    except OSError:
        return False


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except PermissionError:  # it is somebody else's
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _read(path: Path) -> Arrays | None:
    found = {}
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            while file.tell() < size:
                name = str(np.load(file, allow_pickle=False))
                found[name] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found
