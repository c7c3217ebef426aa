"""What the doctor says that training does, in the words of training itself."""

from __future__ import annotations

import pytest

from yolo_cosine import events
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.data.cache import UNREADABLE_IN_EVALUATION, UNREADABLE_IN_TRAINING
from yolo_cosine.doctor.report import examine
from yolo_cosine.doctor.snapshot import take_snapshot
from yolo_cosine.doctor.text import to_text
from yolo_cosine.engine.build import build_trainer
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.precision import resolve_device, resolve_precision
from yolo_cosine.errors import UserError


def notices_of_training(data: str) -> list[str]:
    """What a run says of its data; it ends there, because its batch is larger than the set."""
    config = RunConfig(data=data, model="yolo11n.yaml", device="cpu", precision="fp32", batch=1000)
    precision = resolve_precision(config.precision, resolve_device(config.device))
    emitted: list[events.Event] = []
    with pytest.raises(UserError, match="batch: 1000 is larger"):
        build_trainer(config, lambda: None, emitted.append, precision, World())
    return [event.text for event in emitted if isinstance(event, events.Notice)]


def test_every_notice_of_training_is_in_the_report(small_set):
    small_set.file("train", 0).unlink()
    small_set.file("val", 0).unlink()
    small_set.content["train"]["images"][3]["width"] = 0
    small_set.file("train", 3).write_text("no picture")
    small_set.add_box("train", 1, [20, 50, 0, 0])
    small_set.add_box("train", 1, [400, 50, 10, 10])
    small_set.add_box("train", 2, [100, 50, 60, 20])
    small_set.content["train"]["images"].append({**small_set.content["train"]["images"][1], "id": 77})
    small_set.content["val"]["categories"].pop(0)
    small_set.remove_boxes("val", category=1)
    small_set.content["val"]["annotations"][3]["id"] = small_set.content["val"]["annotations"][0]["id"]
    data = small_set.write()
    notices = notices_of_training(data)
    text = to_text(examine(take_snapshot(data, None, 128)))
    assert len(notices) == 8
    for notice in notices:
        assert notice in text


@pytest.mark.parametrize(("split", "words"), [("train", UNREADABLE_IN_TRAINING), ("val", UNREADABLE_IN_EVALUATION)])
def test_what_becomes_of_an_unreadable_image(small_set, split, words):
    small_set.file(split, 1).write_text("no picture")
    (finding,) = (f for f in examine(take_snapshot(small_set.write(), None, 128)).findings if f.severity == "error")
    assert finding.kind == "unreadable-image" and words in finding.training


def test_a_file_that_is_missing_is_told_in_the_split_that_it_is_missing_from(small_set):
    for split, fate in (("train", "left out"), ("val", "every object on them counts as not found")):
        small_set.file(split, 1).unlink()
        report = examine(take_snapshot(small_set.write(), None, 128))
        (finding,) = (f for f in report.findings if f.kind == "missing-file" and f.split == split)
        assert fate in finding.training
