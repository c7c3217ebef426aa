"""One process at a time trains a run: two would prune each other's checkpoints and write into one record."""

from __future__ import annotations

from pathlib import Path

from yolo_cosine.errors import UserError
from yolo_cosine.files import FileLock


class RunLock:
    """A lock on a run's folder."""

    def __init__(self) -> None:
        self._lock: FileLock | None = None

    def take(self, run_dir: Path) -> None:
        """Lock the folder, if this has not done so already. Where there are no locks nobody is kept out.

        Raises:
            UserError: if another process has it.
        """
        if self._lock is not None and self._lock.held:
            return
        self._lock = FileLock(run_dir / ".lock")
        if not self._lock.take():
            raise UserError(
                f"{run_dir}: is being trained by another process; wait for it, stop it, or name another run"
            )

    def release(self) -> None:
        """Let it go."""
        if self._lock is not None:
            self._lock.release()
