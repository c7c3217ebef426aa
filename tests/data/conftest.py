"""A little data set of noise, for all who read, cache and batch."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from yolo_cosine.data.index import Category, build_index


@pytest.fixture
def index(tmp_path):
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(11):
        w, h = [(120, 80), (80, 120), (100, 100)][i % 3]
        cv2.imwrite(str(tmp_path / f"{i}.png"), rng.integers(0, 255, (h, w, 3), dtype=np.uint8))
        images.append((100 + i, f"{i}.png", w, h))
        annotations += [(100 + i, k % 2, (10.0 + k, 12.0, 30.0, 40.0), 1200.0, k == 2) for k in range(i % 4)]
    return build_index("test", tmp_path, images, annotations, (Category(1, "a"), Category(5, "b")))
