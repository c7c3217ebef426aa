"""One process at a time trains a run: two would prune each other's checkpoints and write into one record."""

from __future__ import annotations

import os
from pathlib import Path

from yolo_cosine.errors import UserError

try:
    import fcntl
except ImportError:  # no POSIX system; then nobody is kept out
    fcntl = None  # type: ignore[assignment]


class RunLock:
    """A lock on a run's folder. The system lets it go when the process ends, however it ends."""

    def __init__(self) -> None:
        self._file: int | None = None

    def take(self, run_dir: Path) -> None:
        """Lock the folder, if this process has not done so already.

        Raises:
            UserError: if another process has it.
        """
        if self._file is not None or fcntl is None:
            return
        try:
            self._file = os.open(run_dir / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise UserError(
                f"{run_dir}: is being trained by another process; wait for it, stop it, or name another run"
            ) from None
        except OSError:  # a full disk, or a file system without locks: the run must not end for that
            self.release()

    def release(self) -> None:
        """Let it go."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
