"""Damage to checkpoints, and whether any of it is believed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.compare import unequal
from yolo_cosine.engine.checkpoint import CheckpointFolder

# Does it to the first of a folder's checkpoints (.pt, the newest first); returns those that are not whole then.
Damage = Callable[[Random, list[Path]], list[Path]]


def _rewrite(path: Path, data: bytes) -> None:
    """A new file in the place of the old one, which other folders may share."""
    beside = path.with_name("rewritten")
    beside.write_bytes(data)
    os.replace(beside, path)


def cut(data: bytes, rng: Random) -> bytes:
    """A file that ends too early."""
    return data[: rng.randrange(len(data))]


def flip(data: bytes, rng: Random) -> bytes:
    """A file with a bit that is another."""
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def hole(data: bytes, rng: Random) -> bytes:
    """A file of whose blocks some were never written."""
    block = max(min(4096, len(data) // 4), 1)
    filled = [k for k in range(0, len(data), block) if any(data[k : k + block])]
    start = rng.choice(filled)
    end = min(start + block * rng.randint(1, 8), len(data))
    return data[:start] + bytes(end - start) + data[end:]


def empty(data: bytes, rng: Random) -> bytes:
    """A file of which only the name was written."""
    return b""


def zeros(data: bytes, rng: Random) -> bytes:
    """A file of which only the name and the size were written."""
    return bytes(len(data))


def _of(change: Callable[[bytes, Random], bytes], suffix: str) -> Damage:
    def damage(rng: Random, checkpoints: list[Path]) -> list[Path]:
        path = checkpoints[0].with_suffix(suffix)
        _rewrite(path, change(path.read_bytes(), rng))
        return checkpoints[:1]

    return damage


def _swap(*suffixes: str) -> Damage:
    def damage(rng: Random, checkpoints: list[Path]) -> list[Path]:
        for suffix in suffixes:
            a, b = (path.with_suffix(suffix) for path in checkpoints[:2])
            a.rename(a.with_name("swapped"))
            b.rename(a)
            a.with_name("swapped").rename(b)
        return checkpoints[:2]

    return damage


def _older(rng: Random, checkpoints: list[Path]) -> list[Path]:
    _rewrite(checkpoints[0], checkpoints[1].read_bytes())
    return checkpoints[:1]


def _no_mark(rng: Random, checkpoints: list[Path]) -> list[Path]:
    checkpoints[0].with_suffix(".json").unlink()
    return checkpoints[:1]


def _temporary(rng: Random, checkpoints: list[Path]) -> list[Path]:
    """What a killed process leaves: parts under temporary names, of a checkpoint that never was and of one that is."""
    data = checkpoints[0].read_bytes()
    for step in (int(checkpoints[0].stem.split("-")[1]), 99999999):
        for suffix in (".pt", ".json"):
            name = f"step-{step:08d}{suffix}"
            for temporary in (f".{name}.tmp", f"{name}.tmp", f".{name}.part", f"{name}.part"):
                checkpoints[0].with_name(temporary).write_bytes(cut(data, rng))
    return []


DAMAGES: dict[str, Damage] = {
    **{f"{change.__name__} {suffix}": _of(change, suffix)
       for change in (cut, flip, hole, empty, zeros) for suffix in (".pt", ".json")},
    "swap .pt": _swap(".pt"), "swap .json": _swap(".json"), "swap both": _swap(".pt", ".json"),
    "an older .pt": _older, "no .json": _no_mark, "temporary files": _temporary,
}  # fmt: skip


@dataclass(frozen=True)
class Belief:
    """What was made of a damaged folder."""

    complaints: list[str]
    harmless: bool = False  # a bit of a sidecar that means nothing: what was loaded is the checkpoint, bit for bit


def copy_checkpoints(source: Path, target: Path) -> list[Path]:
    """A folder of the same checkpoints, the newest first; they share the bytes until one is damaged."""
    shutil.copytree(source, target, copy_function=os.link)
    return sorted(target.glob("step-*.pt"), reverse=True)


def damage_and_look(rng: Random, folder: Path, names: list[str], truth: Mapping[str, dict[str, Any]]) -> Belief:
    """Damage a folder's newest checkpoints, one damage each, and look for the newest that is whole.

    Args:
        names: of `DAMAGES`, for the newest, the one before, ...
        truth: the content of every checkpoint by its file's name.
    """
    checkpoints = sorted(folder.glob("step-*.pt"), reverse=True)
    damaged: dict[Path, list[str]] = {}
    for k, name in enumerate(names):
        for path in DAMAGES[name](rng, checkpoints[k:]):
            damaged.setdefault(path, []).append(name)
    whole = next(path for path in checkpoints if path not in damaged)
    try:
        marked, state, problems = CheckpointFolder(folder).newest()
    except Exception as error:
        return Belief([f"raises {type(error).__name__}: {error}"])
    if marked is None:
        return Belief([f"{whole.name} was not found"])
    same = not unequal(state, truth[marked.path.name], "state") and marked.step == state["progress"]["step"]
    if marked.path != whole:
        if same and damaged.get(marked.path) == ["flip .json"]:
            return Belief([], harmless=True)
        return Belief([f"{marked.path.name} was taken, and {whole.name} is the newest that is whole"])
    complaints = [] if same else [f"{whole.name} has another content or step"]
    told = " ".join(problems)
    complaints += [f"nothing was said of {path.name}" for path in damaged if path.stem not in told]
    if not damaged and problems:
        complaints.append(f"said without reason: {told}")
    return Belief(complaints)
