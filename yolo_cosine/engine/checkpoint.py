"""Files that a run can go on from: written beside, flushed, renamed, and marked as whole by a sidecar."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
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
