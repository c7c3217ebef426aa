from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_cosine.data.index import Category, Index, build_index, trainable_boxes
from yolo_cosine.errors import UserError

CATEGORIES = (Category(3, "cat"), Category(7, "dog"))


def index_of(*boxes: tuple[float, float, float, float], size: tuple[int, int] = (100, 50)) -> Index:
    """One image with the given boxes."""
    rows = [(1, 0, box, box[2] * box[3], False) for box in boxes]
    return build_index("set", Path("."), [(1, "a.jpg", *size)], rows, CATEGORIES)


def three_images() -> Index:
    images = [(5, "a.jpg", 10, 20), (9, "b.jpg", 30, 40), (2, "c.jpg", 50, 60)]
    annotations = [
        (2, 1, (1.0, 2.0, 3.0, 4.0), 12.0, False),
        (5, 0, (0.0, 0.0, 5.0, 5.0), 20.0, True),
        (2, 0, (2.0, 2.0, 2.0, 2.0), 4.0, False),
    ]
    return build_index("set", Path("root"), images, annotations, CATEGORIES, ("odd",))


def test_rows_become_columns_in_the_order_of_the_images():
    index = three_images()
    assert len(index) == 3 and index.names == ("cat", "dog") and index.notes == ("odd",)
    assert index.image_ids.tolist() == [5, 9, 2]
    assert index.offsets.tolist() == [0, 1, 1, 3]
    assert index.boxes.tolist() == [[0, 0, 5, 5], [1, 2, 3, 4], [2, 2, 2, 2]]
    assert index.classes.tolist() == [0, 1, 0] and index.crowd.tolist() == [True, False, False]
    assert index.areas.tolist() == [20, 12, 4] and index.image_of_box.tolist() == [0, 2, 2]
    assert index.path(1) == Path("root/b.jpg")


def test_the_columns_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        three_images().boxes[0, 0] = 7


@pytest.mark.parametrize(
    ("images", "annotations", "message"),
    [
        ([], [], "set: holds no images"),
        ([(1, "a.jpg", 1, 1), (1, "b.jpg", 1, 1)], [], "image id 1 stands twice, at a.jpg and b.jpg"),
        ([(1, "a.jpg", 1, 1)], [(4, 0, (0, 0, 1, 1), 1, False)], "names the image id 4, and there is no such image"),
    ],
)
def test_rows_that_make_no_index(images, annotations, message):
    with pytest.raises(UserError, match=message):
        build_index("set", Path("."), images, annotations, CATEGORIES)


@pytest.mark.parametrize("images", [[0], [2, 0], [1], [2, 1, 0], [0, 0]])
def test_a_subset_keeps_each_image_with_its_boxes(images):
    whole = three_images()
    part = whole.subset(np.array(images))
    assert part.files == tuple(whole.files[i] for i in images)
    for k, i in enumerate(images):
        mine, its = slice(*part.offsets[k : k + 2]), slice(*whole.offsets[i : i + 2])
        for column in ("boxes", "classes", "crowd", "areas"):
            np.testing.assert_array_equal(getattr(part, column)[mine], getattr(whole, column)[its])
    assert part.offsets[-1] == len(part.boxes) == len(part.classes)


@pytest.mark.parametrize(
    ("box", "expected", "note"),
    [
        ((10, 5, 30, 20), (0.1, 0.1, 0.4, 0.5), None),
        ((0, 0, 100, 50), (0, 0, 1, 1), None),
        ((-0.5, 0, 20, 50.8), (0, 0, 0.195, 1), None),  # rounding: clipped in silence
        ((90, 10, 30, 10), (0.9, 0.2, 1, 0.4), "over the image's edge"),
        ((-20, 10, 30, 10), (0, 0.2, 0.1, 0.4), "over the image's edge"),
        ((10, 10, 0, 20), None, "without area"),
        ((10, 10, 20, -5), None, "without area"),
        ((100, 10, 20, 20), None, "without area"),
        ((-30, 10, 30, 20), None, "without area"),
        ((float("nan"), 10, 30, 20), None, "without area"),
        ((10, 10, float("inf"), 20), None, "without area"),
    ],
)
def test_which_boxes_training_uses(box, expected, note):
    found = trainable_boxes(index_of(box))
    assert found.offsets.tolist() == [0, 0 if expected is None else 1]
    np.testing.assert_allclose(found.xyxy, np.reshape(expected if expected else [], (-1, 4)), atol=1e-6)
    assert len(found.notes) == (note is not None)
    assert note is None or (note in found.notes[0] and "a.jpg" in found.notes[0])


def test_a_note_names_three_boxes_and_counts_the_rest():
    (note,) = trainable_boxes(index_of(*[(1, 1, 0, k) for k in range(5)])).notes
    assert "5 box(es)" in note and note.count("a.jpg") == 3 and "and 2 more" in note


coordinate = st.floats(-200, 200) | st.sampled_from([0.0, 50.0, 100.0, float("nan"), float("inf")])


@given(st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=8))
def test_trainable_boxes_lie_in_the_image_and_have_an_area_before_rounding(boxes):
    index = index_of(*boxes)
    found = trainable_boxes(index)
    assert len(found.xyxy) == len(found.classes) == len(found.crowd) == found.offsets[-1] <= len(boxes)
    assert ((found.xyxy >= 0) & (found.xyxy <= 1)).all()
    assert (found.xyxy[:, 2:] >= found.xyxy[:, :2]).all()
    inside = [
        b for b in boxes if min(b[2:]) > 0 and b[0] >= 0 and b[0] + b[2] <= 100 and b[1] >= 0 and b[1] + b[3] <= 50
    ]
    inside = [b for b in inside if b[0] + b[2] > b[0] and b[1] + b[3] > b[1]]  # not lost to rounding
    assert len(found.xyxy) >= len(inside)
