from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.model import nms
from yolo_cosine.model.nms import box_iou, greedy_nms, suppress


def loop(boxes, classes, iou, max_det):
    """The definition: go through the boxes, best first, and keep what no kept one of its class overlaps."""
    kept = []
    for i in range(len(boxes)):
        rivals = [k for k in kept if classes[k] == classes[i]]
        if not rivals or (box_iou(boxes[i : i + 1], boxes[rivals]) <= iou).all():
            kept.append(i)
    return kept[:max_det]


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 700),
    seed=st.integers(0, 99),
    iou=st.sampled_from([0.1, 0.45, 0.7, 1.0]),
    most=st.sampled_from([5, 300, 10**6]),
)
def test_equals_the_greedy_loop(n, seed, iou, most):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(n, 2, generator=generator) * 100
    boxes = torch.cat((first, first + torch.rand(n, 2, generator=generator) * 60), 1)
    classes = torch.randint(0, 3, (n,), generator=generator)
    expected = loop(boxes, classes, iou, most)
    assert greedy_nms(boxes, classes, iou, most).tolist() == expected
    assert nms._in_chunks(boxes, classes, iou, most).tolist() == expected


@pytest.mark.parametrize("first", [50, 4096])
def test_what_a_gpu_does_comes_to_the_same(first):
    """There the best candidates alone leave the device; the others are asked for where they are needed."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(3, 400, 2, generator=generator) * torch.tensor([100.0, 1.0, 900.0])[:, None, None]
    boxes = torch.cat((corner, corner + 30), 2)
    predictions = torch.cat((boxes, torch.rand(3, 400, 2, generator=generator)), 2)
    best, whole = nms._best(predictions, first), nms.suppress(predictions, 0.3, 0.5, 40)()
    for rows, image, expected in zip(best, predictions, whole, strict=True):
        assert torch.equal(nms._settle(rows, lambda image=image: image, 0.3, 0.5, 40), expected)
    assert len({len(result) for result in whole}) > 1


@settings(max_examples=40, deadline=None)
@given(
    anchors=st.integers(0, 400), classes=st.sampled_from([1, 3, 80]), seed=st.integers(0, 99),
    conf=st.sampled_from([0.0, 0.001, 0.3, 0.99]), most=st.sampled_from([1, 20, 300]), candidates=st.sampled_from([7, 30000]),
)  # fmt: skip
def test_all_images_at_once_come_to_the_same(anchors, classes, seed, conf, most, candidates):
    """With scores that are equal, too, of which the first counts, and some that are no numbers."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(3, anchors, 2, generator=generator) * 60
    scores = torch.rand(3, anchors, classes, generator=generator) ** 3
    scores[0] = (scores[0] * 8).round() / 8
    scores[1][scores[1] > 0.95] = float("nan")
    predictions = torch.cat((corner, corner + torch.rand(corner.shape, generator=generator) * 40, scores), 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms, "_MAX_CANDIDATES", candidates)
        expected = nms._on_host(predictions, conf, 0.5, most)
        # as the head leaves them, too: anchors side by side in memory
        for laid in (predictions, predictions.transpose(1, 2).contiguous().transpose(1, 2)):
            found = suppress(laid, conf, 0.5, most)()
            assert [len(rows) for rows in found] == [len(rows) for rows in expected]
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_equals_ultralytics_non_max_suppression():
    from ultralytics.utils.nms import non_max_suppression

    generator = torch.Generator().manual_seed(0)
    center, side = torch.rand(2, 900, 2, generator=generator) * 320, torch.rand(2, 900, 2, generator=generator) * 80 + 4
    scores = torch.rand(2, 900, 4, generator=generator) ** 4
    peer = non_max_suppression(
        torch.cat((center, side, scores), -1).transpose(1, 2), 0.2, 0.6, multi_label=True, max_det=200, max_time_img=1e9
    )
    ours = suppress(torch.cat((center - side / 2, center + side / 2, scores), -1), 0.2, 0.6, 200)()
    for a, b in zip(ours, peer, strict=True):
        assert len(a) == len(b) > 50
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3)


def test_degenerate_boxes_and_empty_input():
    boxes = torch.tensor([[5.0, 5, 5, 5], [5.0, 5, 5, 5], [0, 0, 10, 10]])
    assert greedy_nms(boxes, torch.zeros(3), 0.5, 10).tolist() == [0, 1, 2]
    assert suppress(torch.zeros(2, 7, 6), 0.1, 0.5, 10)()[1].shape == (0, 6)


@pytest.mark.parametrize(
    ("a", "b", "expected"), [((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7), ((0, 0, 1, 1), (1, 1, 2, 2), 0.0)]
)
def test_iou(a, b, expected):
    assert box_iou(torch.tensor([a]).float(), torch.tensor([b]).float()).item() == pytest.approx(expected)
