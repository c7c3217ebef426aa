"""How much memory there is to fill."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_GROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")

# of both versions of Linux's control groups: the limit, what is in use, and which of it are copies of files, which make room
_V2 = ("memory.max", "memory.current", ("inactive_file", "active_file"))
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))


def free_memory(groups: Path = _GROUPS, own: Path = _OWN) -> int:
    """Bytes that this process may fill: of the machine's, of its container's or job's, its share where torchrun started
    several.

    Args:
        groups: where the control groups are mounted.
        own: the file that names those of this process.
    """
    free = min([psutil.virtual_memory().available, *_left(groups, own)])
    return max(free, 0) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def _left(groups: Path, own: Path) -> Iterator[int]:
    """Bytes below each limit that holds for this process: those of its group, and of all that this one is in.

    A container may see its own group as the root while its name is told as from outside; then only the root is there.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:
            roots, files = (groups, groups / "unified"), _V2
        elif "memory" in controllers.split(","):
            roots, files = (groups / "memory",), _V1
        else:
            continue
        inner = Path(name.lstrip("/"))
        for root in roots:
            for group in (inner, *inner.parents):
                if (left := _left_in(root / group, *files)) is not None:
                    yield left


def _left_in(group: Path, limit: str, used: str, copies: tuple[str, ...]) -> int | None:
    """Bytes below the limit of a group; None if it has none, or does not say."""
    try:
        most = int((group / limit).read_text())  # "max" is no number
        held = int((group / used).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return most - held + sum(int(stat.get(name, 0)) for name in copies)
    except (OSError, ValueError):
        return None
