from __future__ import annotations

import os
from pathlib import Path

import pytest

TINY = Path(__file__).with_name("tiny.yaml")  # the network of most runs


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real photographs (bccd/, tiny_coco/); tests that need it are skipped where it is not set."""
    folder = os.environ.get("YOLO_COSINE_REAL_DATA")
    if not folder:
        pytest.skip("YOLO_COSINE_REAL_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def small_shapes(tmp_path_factory) -> Path:
    """A small embedded data set: 24 images to train on, 10 to evaluate."""
    from yolo_cosine.data.shapes import generate

    return generate(tmp_path_factory.mktemp("shapes") / "shapes", train=24, val=10)
