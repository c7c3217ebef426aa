"""Files that a run can go on from: written beside, flushed, renamed, and marked as whole by a sidecar.

A run's folder `checkpoints` has one for every step at which it was saved, `step-00001234.pt` after 1234 steps, of which
the newest few and the best are kept.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a reader finds the old file or the new one, and never a part of one."""
    os.replace(_write_beside(path, data), path)


def _write_beside(path: Path, data: bytes) -> Path:
    beside = path.with_name(f".{path.name}.tmp")
    with open(beside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return beside


def save_checkpoint(path: Path, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint and, last of all, its sidecar `<name>.json` with size, SHA-256 and `facts`.

    Both are on disk before either takes the place of the old one, so a full disk costs nothing that was saved.

    Args:
        state: tensors and plain values only, so that it loads with `weights_only=True`.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    data = buffer.getvalue()
    mark = {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **facts}
    sidecar = path.with_suffix(".json")
    beside = _write_beside(path, data), _write_beside(sidecar, json.dumps(mark, indent=1).encode())
    os.replace(beside[0], path)
    os.replace(beside[1], sidecar)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint that is whole; nothing in it can run code.

    Raises:
        ValueError: if it has no sidecar, or is not the file that the sidecar describes.
    """
    try:
        mark = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: is not a whole checkpoint: {error}") from None
    if len(data) != mark.get("bytes") or hashlib.sha256(data).hexdigest() != mark.get("sha256"):
        raise ValueError(f"{path}: differs from what its sidecar describes; it is torn or damaged")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


_NAME = re.compile(r"step-(\d+)\.pt")


@dataclass(frozen=True)
class Marked:
    """A checkpoint as its sidecar describes it."""

    path: Path
    step: int  # steps done
    best: bool  # better than all before


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of a run."""

    path: Path
    keep: int = 2  # newest ones; the best is kept besides

    def save(self, state: Mapping[str, Any], step: int, best: bool, facts: Mapping[str, Any]) -> Path:
        """Write the checkpoint after `step` steps, and delete those that are not kept.

        Raises:
            OSError: if it cannot be written; nothing that was saved is lost then.
        """
        path = self.path / f"step-{step:08d}.pt"
        save_checkpoint(path, state, {"step": step, "best": best, **facts})
        self.prune(self.keep)
        return path

    def marked(self) -> list[Marked]:
        """All with a readable sidecar, the newest first. Whether one is whole, `load_checkpoint` tells."""
        found = []
        for path in self.path.glob("step-*.pt"):
            match = _NAME.fullmatch(path.name)
            try:
                mark = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
                found.append(Marked(path, int(match[1]), bool(mark["best"])))  # type: ignore[index]
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return sorted(found, key=lambda m: m.step, reverse=True)

    def prune(self, keep: int) -> None:
        """Delete all but the `keep` newest and the best. The mark of validity goes first."""
        marked = self.marked()
        best = next((m for m in marked if m.best), None)
        for m in marked[keep:]:
            if m != best:
                m.path.with_suffix(".json").unlink(missing_ok=True)
                m.path.unlink(missing_ok=True)

    def newest(self) -> tuple[Marked | None, dict[str, Any], list[str]]:
        """The newest whole checkpoint, its content, and what is wrong with those after it. None if there is none."""
        problems = []
        for path in sorted(self.path.glob("step-*.pt"), reverse=True):
            try:
                state = load_checkpoint(path)
            except ValueError as error:
                problems.append(str(error))
                continue
            return next(m for m in self.marked() if m.path == path), state, problems
        return None, {}, problems

    def best(self) -> dict[str, Any] | None:
        """The content of the best one, if it is whole."""
        for m in self.marked():
            if m.best:
                try:
                    return load_checkpoint(m.path)
                except ValueError:
                    return None
        return None
