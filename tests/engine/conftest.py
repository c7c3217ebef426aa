from __future__ import annotations

import json

import pytest

KEYS = {
    "model": "yolo11n.yaml", "imgsz": 64, "batch": 8, "nominal_batch": 8, "epochs": 3, "warmup_epochs": 1, "log_every": 2,
    "close_mosaic": 1, "plots": False, "tensorboard": False, "predictions": False, "workers": 1,
    "checkpoint": {"every": "1it", "keep": 99},
}  # fmt: skip


@pytest.fixture
def write_run(tmp_path, small_shapes):
    """A function that writes a configuration with these keys; its run (nine steps by default) goes to `runs/run`."""

    def write(**keys):
        config = tmp_path / "run.yaml"
        config.write_text(json.dumps({**KEYS, "runs": str(tmp_path / "runs"), "data": str(small_shapes), **keys}))
        return config

    return write
