from __future__ import annotations

import io
import os

import pytest
import torch

from yolo_cosine.engine.checkpoint import (
    CheckpointFolder,
    load_checkpoint,
    pack_state,
    write_checkpoint,
)
from yolo_cosine.files import replace_file

STATE = {"weights": {"a": torch.arange(6.0)}, "step": 3, "names": ["x"]}


def test_round_trip(tmp_path):
    write_checkpoint(tmp_path / "last.pt", pack_state(STATE), {"step": 3})
    state = load_checkpoint(tmp_path / "last.pt")
    assert torch.equal(state["weights"]["a"], STATE["weights"]["a"]) and state["step"] == 3
    assert sorted(os.listdir(tmp_path)) == ["last.json", "last.pt"]


@pytest.mark.parametrize("damage", ["cut", "flip", "no sidecar", "torn sidecar", "older sidecar"])
def test_a_damaged_checkpoint_is_not_believed(tmp_path, damage):
    path = tmp_path / "last.pt"
    write_checkpoint(path, pack_state(STATE), {})
    data, sidecar = path.read_bytes(), path.with_suffix(".json")
    if damage == "cut":
        path.write_bytes(data[:-7])
    elif damage == "flip":
        path.write_bytes(data[:99] + bytes([data[99] ^ 4]) + data[100:])
    elif damage == "no sidecar":
        sidecar.unlink()
    elif damage == "torn sidecar":
        sidecar.write_text(sidecar.read_text()[:20])
    else:
        old = sidecar.read_text()
        write_checkpoint(path, pack_state({**STATE, "step": 4}), {})
        sidecar.write_text(old)
    with pytest.raises(ValueError, match=r"last\.pt"):
        load_checkpoint(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    replace_file(tmp_path / "f", [b"old"])

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "f", [b"new"])
    assert (tmp_path / "f").read_bytes() == b"old"


def test_a_full_disk_leaves_the_old_checkpoint_valid(tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "last.pt", pack_state(STATE), {})
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:  # the sidecar
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(tmp_path / "last.pt", pack_state({**STATE, "step": 4}), {})
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 3


class Strange:
    """What only a pickle that may run code brings back."""


@pytest.mark.parametrize(
    ("data", "what"),
    [(pack_state({"a": Strange()}), "UnpicklingError"), (b"hello", "no state of a run"), (None, "a list")],
    ids=["an object", "text", "a list"],
)
def test_what_is_whole_and_yet_no_state_is_not_believed(tmp_path, data, what):
    if data is None:
        buffer = io.BytesIO()
        torch.save([1, 2], buffer)
        data = buffer.getvalue()
    write_checkpoint(tmp_path / "step-00000003.pt", data, {"step": 3, "best": False})
    with pytest.raises(ValueError, match=what):
        load_checkpoint(tmp_path / "step-00000003.pt")
    marked, _, problems = CheckpointFolder(tmp_path).newest()
    assert marked is None and "step-00000003.pt" in problems[0]


def test_what_is_kept(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    data = pack_state(STATE)

    def save(step, best=False, evaluated=True):
        write_checkpoint(folder.place(step, evaluated), data, {"step": step, "best": best})
        folder.prune(step)
        return [(m.step, m.evaluated) for m in folder.marked()]

    assert save(0) == [(0, True)]
    assert save(1, best=True) == [(1, True), (0, True)]
    assert save(2) == [(2, True), (1, True)]
    assert save(3) == [(3, True), (2, True), (1, True)]  # the best besides
    assert save(4, evaluated=False) == [(4, False), (3, True), (1, True)]
    assert save(4, best=True) == [(4, True), (4, False)]
    # back to an earlier one, as after damage: what was saved later is of a past that was given up
    assert save(3) == [(3, True)]
    (tmp_path / ".step-00000009.pt.tmp").write_bytes(b"half")
    assert save(5) == [(5, True), (3, True)]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"step-0000000{k}.{s}" for k in (3, 5) for s in ("json", "pt")
    ]
