"""Disks that fill and get room again while a run writes to them."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.forks import Process
from tests.faults.runs import Moment

MB = 1 << 20


class Tmpfs:
    """A small file system in memory, with a file of ballast on it; a context manager. Only root can mount one.

    Raises:
        PermissionError: on entering, if it cannot be mounted.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self._size = folder, size

    def __enter__(self) -> Tmpfs:
        self.folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._size}", "tmpfs", str(self.folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise PermissionError("there is no command `mount`") from None
        if done.returncode:
            raise PermissionError(done.stderr.strip())
        self._ballast = os.open(self.folder / "ballast", os.O_CREAT | os.O_RDWR)
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._ballast)
        subprocess.run(["umount", str(self.folder)], check=True)

    def fill(self, process: Process | None, leave: int) -> None:
        """Make the ballast so large that `leave` bytes are free."""
        room = os.fstatvfs(self._ballast)
        more = room.f_bavail * room.f_frsize - leave
        if more > 0:
            try:
                os.posix_fallocate(self._ballast, os.fstat(self._ballast).st_size, more)
            except OSError as error:  # somebody was quicker
                if error.errno != errno.ENOSPC:
                    raise

    def release(self, process: Process | None) -> None:
        """Let the ballast go."""
        os.ftruncate(self._ballast, 0)


class SizeLimit:
    """A limit to the size of every file that a process writes: no disk is full, and yet nothing large can be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> SizeLimit:
        self.folder.mkdir(parents=True)
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def fill(self, process: Process | None, leave: int) -> None:
        """No file grows beyond `leave` bytes, but at least 1 MB: the record is a file of the same disk, and small."""
        self._limit(process, max(leave, MB))

    def release(self, process: Process | None) -> None:
        """No limit any more."""
        self._limit(process, resource.RLIM_INFINITY)

    @staticmethod
    def _limit(process: Process | None, size: int) -> None:
        if process is not None and not process.wait(0):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


Disk = Tmpfs | SizeLimit


def small_disk(folder: Path, size: int, stack: ExitStack) -> Disk:
    """A file system of its own where that can be had, else a limit to the size of files."""
    try:
        return stack.enter_context(Tmpfs(folder, size))
    except PermissionError:
        return stack.enter_context(SizeLimit(folder / "limited"))


@dataclass
class Filling:
    """A disk that is full for a while; called with a running command."""

    disk: Disk
    leave: int  # bytes
    moment: Moment | None  # None for full from the start
    steps: float | None  # how long, in the time of so many steps; None for as long as the command runs
    greedy: bool  # room that is made is taken at once
    happened: bool = field(default=False, init=False)
    released: float | None = field(default=None, init=False)  # when there was room again, seconds since 1970

    def __call__(self, process: Process) -> None:
        pace = self.moment.wait(process) if self.moment else 1.0
        if pace is None:
            return
        self.happened = True
        self.disk.fill(process, self.leave)
        until = time.monotonic() + (300 if self.steps is None else self.steps * pace)
        while not process.wait(0.002 if self.greedy else 0.02) and time.monotonic() < until:
            if self.greedy:
                self.disk.fill(process, self.leave)
        if self.steps is not None:
            self.disk.release(process)
            self.released = time.time()

    def __str__(self) -> str:
        since = f"after step {self.moment.step}" if self.moment else "from the start"
        until = "to the end" if self.steps is None else f"for {self.steps:.1f} steps' time"
        return f"{type(self.disk).__name__}, {self.leave / MB:.2g} MB left {since} {until}{', greedy' * self.greedy}"
