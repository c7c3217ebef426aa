"""Evaluation of a checkpoint by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from yolo_cosine import events
from yolo_cosine.config.schema import ValConfig
from yolo_cosine.data.cache import UNREADABLE_IN_EVALUATION
from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.data.index import Index
from yolo_cosine.data.places import images_folder
from yolo_cosine.engine.inputs import Notify, open_store, resolve_workers
from yolo_cosine.engine.precision import resolve_device, resolve_precision
from yolo_cosine.errors import UserError, some_of
from yolo_cosine.evaluate import Detections, Report, detect, ground_truth, score
from yolo_cosine.model import detector
from yolo_cosine.model.weights import read_checkpoint


def evaluate_checkpoint(
    weights: str,
    config: ValConfig,
    split: str,
    sized: bool,
    notify: Notify,
    show: Callable[[events.Reading], None],
) -> tuple[Index, Report, Detections]:
    """Evaluate the checkpoint `weights` on a split of `config.data`.

    Args:
        notify: told what is wrong with the data.
        show: told how far the reading of images is.
        sized: whether to take `config.imgsz`; else the size that the checkpoint was trained at.

    Raises:
        UserError: if the checkpoint or the data cannot be read, or the classes do not fit.
    """
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    workers = resolve_workers(config.workers, device)
    model, trained_size = read_checkpoint(weights, config.trust_weights)
    detector.check_head(model, weights)
    detector.check_nms(model, config.nms)
    data = open_dataset(config.data, (split,), images_folder(config))
    index = data.splits[split]
    for note in data.notes:
        notify(note, True)
    columns = class_columns(tuple(model.names.values()), data.names, weights)
    size = config.imgsz if sized or trained_size is None else trained_size
    store = open_store(index, config, size, notify, fate=UNREADABLE_IN_EVALUATION, brief=True, show=show)
    model = model.to(device)
    found = detect(
        model, store, config, batch=config.batch, workers=workers, precision=precision, timeout=config.worker_timeout,
        tell=lambda text: notify(text, True),
    )  # fmt: skip
    if news := store.news():  # those that were found on the way
        notify(news, True)
    label = columns[found.label]
    known = label >= 0
    found = replace(
        found, image=found.image[known], xywh=found.xywh[known], score=found.score[known], label=label[known]
    )  # fmt: skip
    return index, score(index, ground_truth(index), found), found


def class_columns(model_names: tuple[str, ...], data_names: tuple[str, ...], weights: str) -> np.ndarray:
    """(model classes,) int64: for each class of the network its position in the data set, -1 for none.

    Classes are matched by name, so a network with more classes than the data set can be evaluated on it.

    Raises:
        UserError: if the network lacks a class of the data set.
    """
    lacking = [name for name in data_names if name not in model_names]
    if lacking:
        raise UserError(
            f"{weights}: has {len(model_names)} classes and lacks {some_of(lacking, most=5)} of the data set's {len(data_names)}; "
            "evaluate it on data with classes that it was trained on, or train it on these"
        )
    positions = {name: k for k, name in enumerate(data_names)}
    return np.array([positions.get(name, -1) for name in model_names], dtype=np.int64)
