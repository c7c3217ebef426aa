"""Evaluation by the official COCO metrics: run a network over an index, match, and report."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hotcoco import COCO, COCOeval
from torch import nn

from yolo_cosine import events
from yolo_cosine.config.schema import EvalConfig
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.index import Index
from yolo_cosine.data.loader import EvalBatch, eval_batches, network_inputs
from yolo_cosine.data.workers import TIMEOUT, say_nothing
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.mishaps import EvaluationAbandoned
from yolo_cosine.engine.precision import Precision
from yolo_cosine.image_bootstrap import class_matches, mean_ap, resampled_ap
from yolo_cosine.model import detector, nms
from yolo_cosine.model.inference import InferenceCopy


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found on the images of an index, K boxes in all, in the annotations' pixels."""

    image: np.ndarray  # (K,) int64, position in the index
    xywh: np.ndarray  # (K, 4) float64
    score: np.ndarray  # (K,) float64
    label: np.ndarray  # (K,) int64, position in the index's categories


@dataclass(frozen=True, eq=False)
class Report:
    """An evaluation in figures."""

    scalars: dict[str, float]  # events.COCO_METRICS, PRECISION and RECALL
    per_class: dict[str, float]  # class name: AP50-95, NaN without boxes
    recall: np.ndarray  # (101,) float64
    precision: np.ndarray  # (101, C) float64 at IoU 0.5, -1 without boxes


def detect(
    model: nn.Module, store: ImageStore, config: EvalConfig, *, batch: int, workers: int, precision: Precision,
    world: World | None = None, timeout: float = TIMEOUT, tell: Callable[[str], None] = say_nothing,
    between: Callable[[], None] = lambda: None, fused: InferenceCopy | None = None,
) -> Detections:  # fmt: skip
    """Run a network over all images of a store. On one that cannot be read nothing is found.

    Args:
        model: the network, in any mode; it is copied, fused and left as it is.
        fused: what keeps the copy, where networks of one kind are evaluated again and again.
        batch: most images at a time.
        timeout: seconds that a thread may be at one batch.
        tell: told of threads that were at one for longer and are replaced.
        between: called before each batch; may raise EvaluationAbandoned.

    Raises:
        EvaluationAbandoned: in all processes, if it was raised in one.
        TrainingFailed: if a batch cannot be made.
    """
    world = world or World()
    fused = fused or InferenceCopy(config.max_det, config.nms)
    network = fused.of(model)
    mine = np.arange(len(store.index))[world.rank :: world.size]
    batches = eval_batches(
        store, batch=batch, stride=detector.stride(model), workers=workers, images=mine, timeout=timeout, tell=tell,
        pinned=precision.device.type == "cuda",
    )  # fmt: skip
    try:
        rows = _rows(network, batches, store.index, config, precision, between)
        # what a network sees in plain grey may lie on an object
        rows = rows[~np.isin(rows[:, 0], list(store.unreadable))]
    except EvaluationAbandoned:
        rows = None  # which the others wait for
    shares = world.gather(rows)
    if any(share is None for share in shares):
        raise EvaluationAbandoned
    rows = np.concatenate(shares)
    rows = rows[np.lexsort((-rows[:, 5], rows[:, 0]))]  # by image, best first: the order of batches leaves no trace
    return Detections(rows[:, 0].astype(np.int64), rows[:, 1:5], rows[:, 5], rows[:, 6].astype(np.int64))


def _rows(
    network: nn.Module, batches: Iterable[EvalBatch], index: Index, config: EvalConfig, precision: Precision,
    between: Callable[[], None],
) -> np.ndarray:  # fmt: skip
    """What is found in some batches, as `_in_image_pixels` has it."""
    found, begun = [], None
    with torch.inference_mode():
        for item in batches:
            between()
            images = network_inputs(item.images.to(precision.device, non_blocking=True))
            output = detector.predict(network, images, precision.autocast())
            if detector.is_end_to_end(network):
                results = nms.end_to_end(output, config.conf)
            else:
                results = nms.suppress(output, config.conf, config.iou, config.max_det)
            if begun is not None:  # one batch late: a GPU has the next one by then
                found.append(_in_image_pixels(begun[0](), begun[1], index))
            begun = results, item
        if begun is not None:
            found.append(_in_image_pixels(begun[0](), begun[1], index))
    return np.concatenate([np.empty((0, 7)), *found])


def _in_image_pixels(results: list[torch.Tensor], item: EvalBatch, index: Index) -> np.ndarray:
    """(K, 7) float64: image, x, y, width, height, score, label. Boxes are clipped to their image."""
    of = np.repeat(np.arange(len(results)), [len(result) for result in results])
    values = torch.cat(results).numpy().astype(np.float64)
    corners = (values[:, :4] - np.tile(item.pad[of], 2)) / np.tile(item.gain[of], 2)
    corners = np.clip(corners, 0, np.tile(index.sizes[item.indices[of]], 2))
    return np.hstack((item.indices[of, None], corners[:, :2], corners[:, 2:] - corners[:, :2], values[:, 4:6]))


def ground_truth(index: Index) -> COCO:
    """The index as the metric sees it: every annotation of the file, the faulty ones and the crowds too.

    Ids are small numbers in the order of the user's ids, which may be too large for the floats that detections are
    passed in; in that order because COCO breaks ties between scores by it.
    """
    ids = _image_ranks(index)
    return COCO.from_arrays(
        images=[
            {"id": int(i), "width": int(w), "height": int(h), "file_name": f}
            for i, (w, h), f in zip(ids, index.sizes, index.files, strict=True)
        ],
        categories=[{"id": k, "name": c.name} for k, c in enumerate(index.categories)],
        image_ids=ids[index.image_of_box],
        category_ids=index.classes,
        boxes=index.boxes,
        area=index.areas,
        iscrowd=index.crowd,
    )


def _image_ranks(index: Index) -> np.ndarray:
    """(N,) int64: the place of each image's id among all ids."""
    return np.argsort(np.argsort(index.image_ids, kind="stable"), kind="stable")


def score(index: Index, truth: COCO, found: Detections) -> Report:
    """COCO's twelve figures, AP of each class, and precision over recall at IoU 0.5.

    The figures equal those of pycocotools on the same detections, -1 for a size that no box has included. `metrics/precision` and `metrics/recall` are those
    at the one confidence at which the mean F1 over the classes is best, at IoU 0.5, read off COCO's 101-point curves.
    """
    evaluation = COCOeval(truth, _results(index, truth, found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summary_lines()  # fills in `stats` as summarize() does, without printing
    stats = evaluation.stats
    curves = evaluation.eval
    precision = np.asarray(curves["precision"])[:, :, :, 0, -1]  # IoU thresholds, recalls, classes
    scores = np.asarray(curves["scores"])[0, :, :, 0, -1]
    per_class = {
        name: float(values[values > -1].mean()) if (values > -1).any() else float("nan")
        for name, values in zip(index.names, np.moveaxis(precision, 2, 0), strict=True)
    }
    recall = np.linspace(0, 1, precision.shape[1])
    best_precision, best_recall = _best_f1(precision[0], scores, recall)
    scalars = dict(zip(events.COCO_METRICS, map(float, stats), strict=True))
    return Report(
        {**scalars, events.PRECISION: best_precision, events.RECALL: best_recall}, per_class, recall, precision[0]
    )


def _results(index: Index, truth: COCO, found: Detections) -> COCO:
    columns = (_image_ranks(index)[found.image], *found.xywh.T, found.score, found.label)
    return truth.load_res(np.stack(columns, 1).astype(np.float64))


def image_intervals(
    index: Index, truth: COCO, found: Detections, resamples: int, seed: int = 0, confidence: float = 0.95
) -> dict[str, tuple[float, float]]:
    """How far `events.MAP` and `events.MAP50` would be others on other images, as low and high of a bootstrap of the images.

    An interval reaches from the metric as far to both sides as a normal distribution with the resamples' standard
    deviation asks for. It does not take the resamples' percentiles: an image that is there twice makes mAP higher, so all
    of them lie too high, by as much as the interval is wide where classes have few boxes; their spread is right.

    Args:
        truth: `ground_truth(index)`.
        resamples: at least 2.
        seed: of the resamples; with the same one, all runs are looked at on the same images.

    Returns:
        The metrics' intervals, within 0 to 1; empty where there is no box.
    """
    evaluation = COCOeval(truth, _results(index, truth, found), "bbox")
    params = evaluation.params
    params.area_rng, params.area_rng_lbl = [params.area_rng[0]], [params.area_rng_lbl[0]]  # all sizes
    evaluation.params = params
    evaluation.evaluate()
    classes = class_matches(evaluation.eval_imgs, len(index), len(params.iou_thrs))
    if not any(each.boxes.any() for each in classes):
        return {}
    measured = mean_ap(classes, np.ones((1, len(index)), dtype=np.int64))[0]
    drawn = resampled_ap(classes, len(index), resamples, seed)
    reach = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    intervals = {}
    for metric, at in ((events.MAP, slice(None)), (events.MAP50, slice(1))):
        value, spread = measured[at].mean(), np.nanstd(drawn[:, at].mean(axis=1), ddof=1)
        intervals[metric] = (max(float(value - reach * spread), 0.0), min(float(value + reach * spread), 1.0))
    return intervals


def _best_f1(precision: np.ndarray, scores: np.ndarray, recall: np.ndarray) -> tuple[float, float]:
    """Mean precision and recall at the confidence with the best mean F1. (R, C) precision and scores, (R,) recall."""
    present = (precision > -1).all(0)
    precision, scores = precision[:, present], scores[:, present]
    if not (precision > 0).any():
        return 0.0, 0.0
    confidences = np.unique(scores[precision > 0])
    # of a class, the best score at a recall and beyond: it falls with recall, so where it meets a confidence can be searched
    beyond = np.maximum.accumulate(np.where(precision > 0, scores, -np.inf)[::-1])[::-1]
    last = np.stack([np.searchsorted(-column, -confidences, side="right") for column in beyond.T], 1) - 1
    p = np.where(last >= 0, precision[last, np.arange(precision.shape[1])], 0.0)
    r = np.where(last >= 0, recall[last], 0.0)
    f1 = np.divide(2 * p * r, p + r, out=np.zeros_like(p), where=p + r > 0).mean(1)
    best = f1.argmax()
    return float(p[best].mean()), float(r[best].mean())


def write_predictions(path: Path, index: Index, found: Detections) -> None:
    """Write COCO results: image ids and category ids as in the user's annotations, boxes as x, y, width, height."""
    rows = [
        {
            "image_id": int(index.image_ids[i]),
            "category_id": index.categories[c].id,
            "bbox": box.tolist(),
            "score": float(s),
        }
        for i, box, s, c in zip(found.image, found.xywh, found.score, found.label, strict=True)
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")


def samples(
    store: ImageStore, found: Detections, images: list[int], least_score: float = 0.25
) -> tuple[events.Sample, ...]:
    """Images with their ground truth and the detections over `least_score`, for people to look at."""
    index, result = store.index, []
    for i in images:
        image = store[i]
        gain = np.tile([image.shape[1], image.shape[0]] / np.maximum(index.sizes[i], 1), 2)
        boxes = slice(index.offsets[i], index.offsets[i + 1])
        chosen = (found.image == i) & (found.score >= least_score)
        result.append(
            events.Sample(
                name=Path(index.files[i]).stem,
                image=image,
                truth=(_xyxy(index.boxes[boxes]) * gain).astype(np.float32),
                truth_classes=index.classes[boxes],
                truth_crowd=index.crowd[boxes],
                found=(_xyxy(found.xywh[chosen]) * gain).astype(np.float32),
                found_classes=found.label[chosen],
                scores=found.score[chosen].astype(np.float32),
            )
        )
    return tuple(result)


def _xyxy(xywh: np.ndarray) -> np.ndarray:
    return np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), 1)


class Evaluator:
    """Evaluates networks on one split, again and again; the ground truth is prepared once.

    `tell` is told of threads that hang and are replaced; whoever wants to know sets it.
    """

    def __init__(
        self, store: ImageStore, config: EvalConfig, *, batch: int, workers: int, precision: Precision,
        world: World | None = None, shown: int = 8, timeout: float = TIMEOUT,
    ):  # fmt: skip
        self.store, self.config, self.world = store, config, world or World()
        self.between_batches: Callable[[], None] = lambda: None  # may raise EvaluationAbandoned
        self.tell: Callable[[str], None] = say_nothing
        self.batch = batch
        self._run = {
            "workers": workers, "precision": precision, "world": self.world, "timeout": timeout
        }  # fmt: skip
        self.truth = ground_truth(store.index)
        self._fused = InferenceCopy(config.max_det, config.nms)
        n = len(store.index)
        self._shown = sorted({round(k * (n - 1) / max(shown - 1, 1)) for k in range(min(shown, n))})

    def use_alone(self) -> None:
        """Evaluate all of the split in this process from now on."""
        self._run["world"] = World()

    def __call__(self, model: nn.Module) -> tuple[Report, Detections, tuple[events.Sample, ...], float]:
        """Evaluate a network: the figures, the detections, the pictures (in the main process), and the seconds that it took."""
        start = time.perf_counter()
        found = detect(
            model, self.store, self.config, tell=self.tell, between=self.between_batches, batch=self.batch, fused=self._fused,
            **self._run,
        )  # fmt: skip
        world: World = self._run["world"]
        # one process's figures are everybody's: a last digit that is another would make another network the best one
        report = world.from_main(score(self.store.index, self.truth, found) if world.is_main else None)
        seconds = time.perf_counter() - start
        return report, found, samples(self.store, found, self._shown if world.is_main else []), seconds
