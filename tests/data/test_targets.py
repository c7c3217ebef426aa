from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.data.loader import TrainBatch
from yolo_cosine.data.targets import pad_targets

COUNTS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), min_size=1, max_size=5)


@settings(max_examples=50, deadline=None)
@given(COUNTS)
def test_padded_boxes_are_those_of_each_image_in_their_order(counts):
    owner, crowd_owner = (np.repeat(np.arange(len(counts)), n) for n in zip(*counts, strict=True))
    boxes, crowds = (np.arange(4 * len(o), dtype=np.float32).reshape(-1, 4) + 1 for o in (owner, crowd_owner))
    targets = pad_targets(len(counts), owner, np.arange(len(owner)) % 7, boxes, crowd_owner, crowds)
    places = targets.boxes.shape[1]
    assert places % 8 == 0 and places - max(max(n for n, _ in counts), 1) < 8
    assert targets.crowds.shape[1] % 8 == 0 and targets.crowds.shape[1] - max(n for _, n in counts) < 8
    for valid, padded, expected, who in (
        (targets.valid, targets.boxes, boxes, owner),
        (targets.valid, targets.classes, np.arange(len(owner)) % 7, owner),
        (targets.crowd_valid, targets.crowds, crowds, crowd_owner),
    ):
        for image in range(len(counts)):
            assert (padded[image][valid[image]].numpy() == expected[who == image]).all()
            assert not padded[image][~valid[image]].any()  # a number, and a class that there is
    assert targets.boxes.dtype == torch.float32 and targets.classes.dtype == torch.int64


def test_the_parts_of_a_batch_have_their_own_targets():
    boxes, none = np.arange(12, dtype=np.float32).reshape(3, 4), np.zeros(0, np.int64)
    targets = pad_targets(3, np.array([0, 2, 2]), np.array([5, 6, 7]), boxes, none, np.zeros((0, 4), np.float32))
    batch = TrainBatch(np.arange(3), torch.zeros(3, 3, 8, 8, dtype=torch.uint8), targets, 8)
    first, second = batch.parts(2)
    assert [part.targets.valid.sum(1).tolist() for part in (first, second)] == [[1, 0], [2]]
    assert second.targets.crowds.shape == (1, 0, 4) and first.size == second.size == 8
    assert second.targets.classes[0, :2].tolist() == [6, 7] and (second.targets.boxes[0, 1].numpy() == boxes[2]).all()
