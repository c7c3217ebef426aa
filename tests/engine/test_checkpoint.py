from __future__ import annotations

import os

import pytest
import torch

from yolo_cosine.engine.checkpoint import load_checkpoint, pack_state, write_atomically, write_checkpoint

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
    write_atomically(tmp_path / "f", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "f", b"new")
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
