from __future__ import annotations

import os
from pathlib import Path

import pytest

TINY = Path(__file__).with_name("tiny.yaml")  # the network of most runs

# The files that take longest, as --durations=0 has it. They come first: a long one that is begun last would keep one worker
# busy while the other has nothing to do.
LONGEST = (
    "test_train.py", "ablation/test_ablate.py", "engine/test_distributed.py", "faults/test_faults.py",
    "ablation/test_loop.py", "ablation/test_ray.py", "ablation/test_sharing.py", "engine/test_saving.py",
    "engine/test_ranks.py", "engine/test_mishaps.py", "engine/test_resume.py", "engine/test_horizon.py",
    "integrations/test_ultralytics_callback.py", "test_ecosystem.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


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
