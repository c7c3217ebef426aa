"""The metrics against pycocotools on the same detections."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from yolo_cosine import evaluate, events, image_bootstrap
from yolo_cosine.config.schema import EvalConfig
from yolo_cosine.data.cache import ImageStore, read_image
from yolo_cosine.data.index import Category, build_index
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.mishaps import EvaluationAbandoned
from yolo_cosine.engine.precision import Precision, resolve_precision
from yolo_cosine.evaluate import Detections, Evaluator, detect, ground_truth, image_intervals, score, write_predictions
from yolo_cosine.image_bootstrap import class_matches, mean_ap, resampled_ap
from yolo_cosine.model import detector

CATEGORIES = (Category(2, "a"), Category(7, "b"), Category(90, "never there"))


def random_case(seed):
    """Images with boxes, crowds and faults, and detections around them."""
    rng = np.random.default_rng(seed)
    images = [(int(i), f"{i}.jpg", 200, 150) for i in 10 * rng.permutation(30) + 3]  # ids in no order
    annotations = []
    for image_id, *_ in images:
        for _ in range(rng.integers(0, 12)):
            w, h = np.exp(rng.uniform(1, 5, 2))
            area = w * h * rng.uniform(0.3, 1)
            box = (float(rng.uniform(0, 150)), float(rng.uniform(0, 100)), float(w), float(h))
            annotations.append((image_id, int(rng.integers(0, 2)), box, float(area), bool(rng.random() < 0.1)))
    annotations.append((3, 0, (5.0, 5.0, 0.0, 0.0), 0.0, False))
    index = build_index("case", None, images, annotations, CATEGORIES)
    chosen = rng.integers(0, len(index.boxes), 900)
    boxes = index.boxes[chosen] + rng.normal(0, 6, (900, 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 0.5)
    labels = np.where(rng.random(900) < 0.85, index.classes[chosen], rng.integers(0, 3, 900))
    scores = np.round(rng.random(900), 2)  # with ties
    order = np.lexsort((-scores, index.image_of_box[chosen]))
    return index, Detections(index.image_of_box[chosen][order], boxes[order], scores[order], labels[order])


def pycocotools_figures(index, found, tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ids = [c.id for c in CATEGORIES]
    truth = {
        "images": [{"id": int(i), "width": 200, "height": 150} for i in index.image_ids],
        "categories": [{"id": c.id, "name": c.name} for c in CATEGORIES],
        "annotations": [
            {
                "id": k + 1, "image_id": int(index.image_ids[i]), "category_id": ids[c], "bbox": b.tolist(),
                "area": float(a), "iscrowd": int(crowd),
            }
            for k, (i, c, b, a, crowd) in enumerate(
                zip(index.image_of_box, index.classes, index.boxes, index.areas, index.crowd, strict=True)
            )
        ],
    }  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    write_predictions(tmp_path / "predictions.json", index, found)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "truth.json")
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "predictions.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    per_class = [p[p > -1].mean() if (p > -1).any() else np.nan for p in np.moveaxis(precision, 2, 0)]
    return evaluation.stats, per_class, precision[0]


@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools(seed, tmp_path):
    index, found = random_case(seed)
    report = score(index, ground_truth(index), found)
    stats, per_class, precision = pycocotools_figures(index, found, tmp_path)
    assert [report.scalars[name] for name in events.COCO_METRICS] == pytest.approx(stats, abs=1e-12)
    assert list(report.per_class.values()) == pytest.approx(per_class, abs=1e-12, nan_ok=True)
    np.testing.assert_allclose(report.precision, precision, atol=1e-12)


def test_huge_image_ids_are_no_trouble():
    index, _ = random_case(2)
    huge = [(10**18 + k, f"{k}.jpg", 200, 150) for k in range(5)]
    annotations = [(10**18 + k, 0, (10.0, 10.0, 50.0, 40.0), 2000.0, False) for k in range(5)]
    index = build_index("huge", None, huge, annotations, CATEGORIES)
    found = Detections(index.image_of_box, index.boxes, np.ones(5), index.classes)
    assert score(index, ground_truth(index), found).scalars[events.MAP] == pytest.approx(1.0)


def empty():
    return Detections(np.empty(0, np.int64), np.empty((0, 4)), np.empty(0), np.empty(0, np.int64))


def test_no_detections_at_all():
    index, _ = random_case(0)
    report = score(index, ground_truth(index), empty())
    assert report.scalars[events.MAP] == 0.0
    assert report.scalars[events.PRECISION] == report.scalars[events.RECALL] == 0.0


def test_perfect_detections():
    index, _ = random_case(1)
    real = ~index.crowd & (index.areas > 0)
    found = Detections(index.image_of_box[real], index.boxes[real], np.ones(real.sum()), index.classes[real])
    report = score(index, ground_truth(index), found)
    assert report.scalars[events.MAP] > 0.98  # one box of the file has no area and cannot be found
    assert report.scalars[events.PRECISION] == pytest.approx(1.0)
    assert report.scalars[events.RECALL] > 0.98


def test_precision_and_recall_are_those_at_the_best_f1():
    """One class, four objects, and detections whose precision and recall can be counted by hand."""
    images = [(1, "1.jpg", 100, 100)]
    boxes = [(10.0 * k, 0.0, 8.0, 8.0) for k in range(4)]
    index = build_index("hand", None, images, [(1, 0, b, 64.0, False) for b in boxes], CATEGORIES[:1])
    # three hits, then a miss, then eight more misses: the best F1 is at three of three, recall 3/4
    hits, misses = boxes[:3], [(10.0 * k, 50.0, 8.0, 8.0) for k in range(9)]
    scores = np.array([0.9, 0.8, 0.7, *np.linspace(0.5, 0.1, 9)])
    found = Detections(np.zeros(12, np.int64), np.array(hits + misses), scores, np.zeros(12, np.int64))
    report = score(index, ground_truth(index), found)
    assert report.scalars[events.PRECISION] == pytest.approx(1.0)
    assert report.scalars[events.RECALL] == pytest.approx(0.75)


@pytest.fixture(scope="module")
def untrained():
    """A network that sees something everywhere."""
    torch.manual_seed(0)
    return detector.build_detector("yolo11n.yaml", ("a", "b"))


def evaluator(tmp_path, cache, **more):
    """Of six images; the second is none."""
    for i in range(6):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.random.default_rng(i).integers(0, 255, (60, 50, 3), dtype=np.uint8))
    (tmp_path / "1.png").write_bytes(b"no image")
    boxes = [(i, 0, (5.0, 5.0, 40.0, 40.0), 1600.0, False) for i in range(6)]
    index = build_index("val", tmp_path, [(i, f"{i}.png", 50, 60) for i in range(6)], boxes, CATEGORIES[:2])
    config, precision = EvalConfig(conf=0.0, max_det=300), resolve_precision("fp32", torch.device("cpu"))
    return Evaluator(ImageStore(index, 64, cache, 1), config, batch=2, workers=1, precision=precision, **more)


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_nothing_is_found_on_an_image_that_cannot_be_read(tmp_path, untrained, cache):
    """What a network sees in plain grey may lie on an object, by chance."""
    _, found, _, _ = evaluator(tmp_path, cache)(untrained)
    assert set(found.image) == {0, 2, 3, 4, 5}


@pytest.mark.parametrize(("device", "pinned"), [("cuda:1", True), ("cpu", False)])
def test_a_gpu_is_sent_images_from_pinned_memory(monkeypatch, untrained, device, pinned):
    asked = []
    monkeypatch.setattr(evaluate, "eval_batches", lambda *args, pinned, **keys: asked.append(pinned) or ())
    store, fused = SimpleNamespace(index=(), unreadable=()), SimpleNamespace(of=lambda model: model)
    precision = Precision("fp32", torch.device(device))
    detect(untrained, store, EvalConfig(), batch=2, workers=1, precision=precision, fused=fused)
    assert asked == [pinned]


def test_an_evaluator_tells_of_a_thread_that_hangs(tmp_path, untrained, monkeypatch):
    release, hung, told = threading.Event(), [], []
    _, expected, _, _ = evaluator(tmp_path, "none")(untrained)

    def read(index, i, size):
        if i == 4 and not hung:
            hung.append(i)
            release.wait(60)
        return read_image(index, i, size)

    monkeypatch.setattr("yolo_cosine.data.cache.read_image", read)
    evaluate = evaluator(tmp_path, "none", timeout=0.5)
    evaluate.tell = told.append
    _, found, _, _ = evaluate(untrained)
    release.set()
    assert len(told) == 1 and "4.png" in told[0]
    np.testing.assert_array_equal(found.xywh, expected.xywh)


class Share(World):
    """One of two processes; the other one says this in turn, and what this one says is kept."""

    def __init__(self, rank, told):
        super().__init__(rank, 2)
        self.__dict__.update(told=list(told), said=[])

    def gather(self, value):
        self.said.append(value)
        return [value, self.told.pop(0)] if self.is_main else [self.told.pop(0), value]

    def from_main(self, value):
        self.said.append(value)
        return value if self.is_main else self.told.pop(0)


def test_the_main_process_scores_for_all(tmp_path, untrained, monkeypatch):
    nothing = np.empty((0, 7))
    main = Share(0, [nothing])
    report, _, shown, _ = evaluator(tmp_path, "ram", world=main)(untrained)
    assert main.said[1] is report and shown
    monkeypatch.setattr("yolo_cosine.evaluate.score", None)
    other = Share(1, [main.said[0], report])
    told, found, shown, _ = evaluator(tmp_path, "ram", world=other)(untrained)
    assert told is report and other.said[1] is None and shown == ()
    assert set(found.image) == {0, 2, 3, 4, 5}


def test_an_evaluation_that_one_process_abandons_is_abandoned_by_all(tmp_path, untrained):
    """Each after its share, for they wait for each other there."""
    abandoning = Share(0, [np.empty((0, 7))])
    evaluate = evaluator(tmp_path, "ram", world=abandoning)

    def stop():
        raise EvaluationAbandoned

    evaluate.between_batches = stop
    with pytest.raises(EvaluationAbandoned):
        evaluate(untrained)
    assert abandoning.said == [None]
    with pytest.raises(EvaluationAbandoned):
        evaluator(tmp_path, "ram", world=Share(1, [None]))(untrained)


# --- intervals over the images ----------------------------------------------------------------------------------------


def distinct(seed):
    """A random case without equal scores, in which the order of two detections would not be settled."""
    index, found = random_case(seed)
    scores = found.score + np.random.default_rng(seed).random(len(found.score)) * 1e-3
    order = np.lexsort((-scores, found.image))
    return index, Detections(found.image[order], found.xywh[order], scores[order], found.label[order])


def counted(index, found, counts):
    """The data set in which image n is there `counts[n]` times, with its detections."""
    images, annotations, rows = [], [], []
    for n, count in enumerate(counts):
        here = slice(index.offsets[n], index.offsets[n + 1])
        boxes = list(zip(index.classes[here], index.boxes[here], index.areas[here], index.crowd[here], strict=True))
        for _ in range(count):
            rows += [(len(images), k) for k in np.flatnonzero(found.image == n)]
            images.append((len(images), f"{len(images)}.jpg", 200, 150))
            annotations += [(images[-1][0], int(c), tuple(map(float, b)), float(a), bool(d)) for c, b, a, d in boxes]
    new = build_index("counted", None, images, annotations, CATEGORIES)
    image, k = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    return new, Detections(image, found.xywh[k], found.score[k], found.label[k])


def matches(index, found, monkeypatch):
    """What `image_intervals` looks at."""
    caught = []

    def catch(*arguments):
        caught.append(class_matches(*arguments))
        return caught[-1]

    monkeypatch.setattr("yolo_cosine.evaluate.class_matches", catch)
    image_intervals(index, ground_truth(index), found, 2)
    return caught[0]


def figures(index, found):
    scalars = score(index, ground_truth(index), found).scalars
    return np.array([scalars[events.MAP], scalars[events.MAP50]])


def by_id(index, counts):
    """Columns in the order of the images' ids, which is that of the metric."""
    return counts[:, np.argsort(index.image_ids)]


def both(ap):
    return np.stack((ap.mean(axis=1), ap[:, 0]), axis=1)


@pytest.mark.parametrize("seed", range(4))
def test_every_image_once_is_the_metric_itself(seed, monkeypatch):
    index, found = random_case(seed)
    ap = mean_ap(matches(index, found, monkeypatch), np.ones((1, len(index)), np.int64))
    assert both(ap)[0] == pytest.approx(figures(index, found), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_a_resample_is_the_evaluation_of_a_data_set_that_has_its_images_several_times(seed, monkeypatch):
    index, found = distinct(seed)
    classes = matches(index, found, monkeypatch)
    counts = np.random.default_rng(seed).multinomial(len(index), np.full(len(index), 1 / len(index)), 6)
    expected = [figures(*counted(index, found, row)) for row in counts]
    np.testing.assert_allclose(both(mean_ap(classes, by_id(index, counts))), expected, atol=1e-12)


def test_a_class_that_a_resample_has_no_box_of_is_left_out_of_its_mean(monkeypatch):
    index, found = distinct(0)
    classes = matches(index, found, monkeypatch)
    lacking = np.array([[int(not (index.classes[index.offsets[n] : index.offsets[n + 1]] == 1).any())
                         for n in range(len(index))]])  # fmt: skip
    assert lacking.any()
    expected = figures(*counted(index, found, lacking[0]))
    assert both(mean_ap(classes, by_id(index, lacking)))[0] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(mean_ap(classes, np.zeros((1, len(index)), np.int64))).all()


def test_the_spread_is_that_of_a_slow_bootstrap():
    index, found = random_case(5)
    rng = np.random.default_rng(1)
    draws = [np.bincount(rng.integers(0, len(index), len(index)), minlength=len(index)) for _ in range(300)]
    slow = np.std([figures(*counted(index, found, row)) for row in draws], axis=0, ddof=1)
    intervals = image_intervals(index, ground_truth(index), found, 2000)
    assert list(intervals) == [events.MAP, events.MAP50]
    half = [(high - low) / 2 / 1.959964 for low, high in intervals.values()]
    assert half == pytest.approx(slow, rel=0.15)  # 300 resamples tell it to 4 %
    middle = [(low + high) / 2 for low, high in intervals.values()]
    assert middle == pytest.approx(figures(index, found), abs=1e-12)


def test_the_same_seed_draws_the_same_images_however_many_at_a_time(monkeypatch):
    index, found = random_case(3)
    classes = matches(index, found, monkeypatch)
    first = resampled_ap(classes, len(index), 50, seed=7)
    monkeypatch.setattr(image_bootstrap, "_MOST", 1000)
    np.testing.assert_array_equal(resampled_ap(classes, len(index), 50, seed=7), first)
    assert (resampled_ap(classes, len(index), 50, seed=8) != first).any()


def test_intervals_of_what_found_nothing_and_of_what_there_is_nothing_to_find():
    index, _ = random_case(0)
    assert set(image_intervals(index, ground_truth(index), empty(), 20).values()) == {(0.0, 0.0)}
    bare = build_index("bare", None, [(1, "1.jpg", 200, 150), (2, "2.jpg", 200, 150)], [], CATEGORIES)
    assert image_intervals(bare, ground_truth(bare), empty(), 20) == {}


def test_intervals_stay_between_0_and_1_and_widen_with_confidence():
    index, found = random_case(1)
    narrow, wide = (image_intervals(index, ground_truth(index), found, 200, confidence=c) for c in (0.5, 0.99))
    for metric in narrow:
        assert 0 <= wide[metric][0] < narrow[metric][0] < narrow[metric][1] < wide[metric][1] <= 1
