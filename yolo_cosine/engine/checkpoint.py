"""Files that a run can go on from: written beside, flushed, renamed, and marked as whole by a sidecar.

A run's folder `checkpoints` has one for every moment at which it was saved: `step-00001234.pt` after 1234 steps, or
`step-00001234-unevaluated.pt` where the evaluation that belongs to that step was still to come. The newest few and the
best are kept. A name stands for one state, so no whole checkpoint is ever written over.
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

from yolo_cosine.errors import first_line
from yolo_cosine.files import sync_folder, write_flushed


def pack_state(state: Mapping[str, Any]) -> bytes:
    """The bytes of a checkpoint. `state` holds tensors and plain values only, so that it loads with `weights_only=True`."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def write_checkpoint(path: Path, data: bytes, facts: Mapping[str, Any]) -> None:
    """Write a packed state and, last of all, its sidecar `<name>.json` with size, SHA-256 and `facts`.

    Both are on disk before either gets its name, so a full disk costs nothing that was saved.

    Raises:
        OSError: if it cannot be written; nothing is left of it then.
    """
    mark = {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **facts}
    sidecar = path.with_suffix(".json")
    beside, beside_sidecar = (p.with_name(f".{p.name}.tmp") for p in (path, sidecar))
    write_flushed(beside, [data])
    try:
        write_flushed(beside_sidecar, [json.dumps(mark, indent=1).encode()])
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    os.replace(beside, path)
    sync_folder(path.parent)  # the mark of validity must not be there before what it marks
    os.replace(beside_sidecar, sidecar)
    sync_folder(path.parent)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint that is whole; nothing in it can run code.

    Raises:
        ValueError: if it has no sidecar, is not the file that the sidecar describes, or holds what is no state.
    """
    data = _read_whole(path)
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whole by its sidecar, and yet nothing that a run has written
        reason = first_line(error)
        raise ValueError(f"{path}: holds no state of a run: {type(error).__name__}: {reason[:200]}") from None
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds no state of a run: a {type(state).__name__}")
    return state


def _read_whole(path: Path) -> bytes:
    try:
        mark = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: is not a whole checkpoint: {error}") from None
    described = isinstance(mark, dict) and (mark.get("file"), mark.get("bytes"), mark.get("sha256"))
    if described != (path.name, len(data), hashlib.sha256(data).hexdigest()):
        raise ValueError(f"{path}: differs from what its sidecar describes; it is torn or damaged")
    return data


_NAME = re.compile(r"step-(\d+)(-unevaluated)?\.pt")


@dataclass(frozen=True)
class Marked:
    """A checkpoint as its name and its sidecar describe it."""

    path: Path
    step: int  # steps done
    evaluated: bool  # False if the evaluation after the last of them was still to come
    best: bool  # better than all before


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of a run."""

    path: Path
    keep: int = 2  # newest ones; the best is kept besides

    def place(self, step: int, evaluated: bool) -> Path:
        """Where the checkpoint after `step` steps belongs."""
        return self.path / f"step-{step:08d}{'' if evaluated else '-unevaluated'}.pt"

    def has(self, path: Path) -> bool:
        """Whether a checkpoint is there, whole."""
        try:
            return bool(_read_whole(path))
        except ValueError:
            return False

    def marked(self) -> list[Marked]:
        """All with a readable sidecar, the newest first. Whether one is whole, `load_checkpoint` tells."""
        found = []
        for path, step, evaluated in self._names():
            try:
                mark = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
                found.append(Marked(path, step, evaluated, bool(mark["best"])))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found

    def prune(self, step: int, keep: int | None = None) -> None:
        """Delete all but the newest (`keep` of them) and the best, after a save at `step`; the mark of validity goes first.

        What stands for a later step is of a past that was given up, as after a damaged checkpoint, and goes too; so does
        what an interrupted write left.
        """
        current = [m for m in self.marked() if m.step <= step]
        kept = {m.path for m in current[: keep or self.keep]} | {m.path for m in [m for m in current if m.best][:1]}
        for path, _, _ in self._names():
            if path not in kept:
                path.with_suffix(".json").unlink(missing_ok=True)
                path.unlink(missing_ok=True)
        for rest in self.path.glob(".*.tmp"):
            rest.unlink(missing_ok=True)

    def newest(self) -> tuple[Marked | None, dict[str, Any], list[str]]:
        """The newest whole checkpoint, its content, and what is wrong with those after it. None if there is none."""
        problems = []
        for path, step, evaluated in self._names():
            try:
                state = load_checkpoint(path)
                best = next(m.best for m in self.marked() if m.path == path)
            except (ValueError, StopIteration) as error:
                problems.append(str(error) or f"{path}: its sidecar cannot be read")
                continue
            return Marked(path, step, evaluated, best), state, problems
        return None, {}, problems

    def best(self) -> tuple[Marked | None, dict[str, Any]]:
        """The best one and its content, if it is whole."""
        for m in self.marked():
            if m.best:
                try:
                    return m, load_checkpoint(m.path)
                except ValueError:
                    break
        return None, {}

    def best_after(self, step: int | None) -> Marked | None:
        """The best one, if it is that of the evaluation after `step`, the last one taken; None where that is not kept."""
        return next((m for m in self.marked() if step is not None and m.best and m.step == step + 1), None)

    def _names(self) -> list[tuple[Path, int, bool]]:
        """Path, steps done and whether evaluated of every file with the name of a checkpoint, the newest first."""
        matches = [(path, _NAME.fullmatch(path.name)) for path in self.path.glob("step-*.pt")]
        names = [(path, int(m[1]), m[2] is None) for path, m in matches if m is not None]
        return sorted(names, key=lambda name: name[1:], reverse=True)
