from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from yolo_cosine.data.image_files import check_images
from yolo_cosine.data.index import Category, build_index, trainable_boxes
from yolo_cosine.data.notes import Note


def test_a_note_is_text_with_facts():
    note = Note("set: odd", "kind", ["a.jpg"], np.array([3]))
    assert note == "set: odd" and f"{note}!" == "set: odd!"
    assert (note.kind, note.places, note.boxes) == ("kind", ("a.jpg",), (3,)) and type(note.boxes[0]) is int
    again = pickle.loads(pickle.dumps(note))
    assert again == note and again.places == note.places


@pytest.mark.parametrize(("box", "kind"), [((10, 5, 0, 20), "box-without-area"), ((90, 10, 30, 10), "box-over-edge")])
def test_a_note_knows_all_that_its_sentence_has_no_room_for(box, kind):
    rows = [(1, 0, b, 1.0, False) for b in ((1, 1, 5, 5), *[box] * 9)]
    index = build_index("set", Path("."), [(1, "a.jpg", 100, 50)], rows, (Category(1, "cat"),))
    (note,) = trainable_boxes(index).notes
    assert note.kind == kind and note.boxes == tuple(range(1, 10)) and note.places == ("a.jpg",) * 9
    assert note.count("a.jpg") == 3


def test_missing_files_are_all_in_the_note(tmp_path):
    files = [f"{k}.jpg" for k in range(8)]
    (tmp_path / files[0]).touch()
    (note,) = check_images("set", tmp_path, files, np.full((8, 2), 10), keep_missing=False).notes
    assert note.kind == "missing-file" and note.places == tuple(files[1:])
