"""How a run ends that gets no better."""

from __future__ import annotations

import pytest

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.engine.patience import end_early
from yolo_cosine.engine.progress import Progress


@pytest.mark.parametrize(
    ("keys", "stopped"),
    [({}, False), ({"mosaic": 0.0}, True), ({"mosaic": 0.0, "mixup": 0.1}, False), ({"mosaic": 0.0, "cutmix": 0.1}, False)],
    ids=str,
)  # fmt: skip
def test_there_is_an_end_to_skip_to_where_images_are_made_of_several(keys, stopped):
    progress = Progress(last_improved=3)
    end_early(progress, RunConfig(epochs=40, close_mosaic=5, patience=10, **keys), 13, 7)
    assert progress.stopped is stopped
    assert (progress.step, progress.ending) == ((0, False) if stopped else (35 * 7, True))
