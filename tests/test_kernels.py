"""Kernels in C are compiled once, where there is a compiler, and a damaged one is no harm."""

from __future__ import annotations

import pytest

from yolo_cosine import kernels

pytestmark = pytest.mark.skipif(
    kernels.load("model/norm_silu") is None, reason="no C compiler, or PyTorch has other threads"
)


def test_a_damaged_library_is_made_anew(monkeypatch, tmp_path):
    try:
        for folder in ("whole", "damaged"):
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / folder))
            kernels.load.cache_clear()
            if folder == "damaged":
                name = next((tmp_path / "whole/yolo-cosine").iterdir()).name
                (tmp_path / "damaged/yolo-cosine").mkdir(parents=True)
                (tmp_path / "damaged/yolo-cosine" / name).write_bytes(b"\x7fELF and no more")
            assert hasattr(kernels.load("model/norm_silu"), "forward_bf16")
    finally:
        monkeypatch.undo()
        kernels.load.cache_clear()
