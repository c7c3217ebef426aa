"""A run in TensorBoard. The x axis of everything is the step; tags are the names of `yolo_cosine.events`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from tensorboard.compat.proto.event_pb2 import Event as EventProto
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams, pr_curve_raw

from yolo_cosine import events
from yolo_cosine.sinks.drawing import draw_pr_curves, draw_sample

BEST = "best/"  # + mAP50-95, ...: the metrics of the best evaluation so far
_BEST = {name: BEST + name.removeprefix("metrics/") for name in (
    events.MAP, events.MAP50, events.MAP75, events.PRECISION, events.RECALL,
)}  # fmt: skip
_PICTURES = 20  # about how many times a run is drawn, so that the logs stay small
# a fifth of a PNG's bytes; with full resolution of colours, so that thin lines keep theirs
_JPEG = ".jpg", (
    cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)  # fmt: skip
_LAYOUT = {
    "training": {
        "learning rate": ["Multiline", [f"{events.LR}.*"]],
        "momentum": ["Multiline", [f"{events.MOMENTUM}$"]],
        "losses, mean over the logging interval": ["Multiline", [f"{events.LOSS}.*"]],
        "losses, mean over the epoch": ["Multiline", [f"{events.EPOCH_LOSS}.*_loss$"]],
    },
    "evaluation": {
        "mAP50-95 and mAP50": ["Multiline", [f"{events.MAP}$", f"{events.MAP50}$"]],
        "precision and recall": ["Multiline", [f"{events.PRECISION}$", f"{events.RECALL}$"]],
    },
}


class TensorBoardSink:
    """Writes `<run_dir>/tensorboard`: scalars, images, precision over recall, configuration and hyperparameters.

    Raises:
        OSError: if the folder cannot be written.
    """

    def __init__(self, run_dir: Path) -> None:
        # the queue is long so that a step never waits for the disk
        self._writer = SummaryWriter(str(Path(run_dir) / "tensorboard"), max_queue=1000, flush_secs=30)
        self._names: tuple[str, ...] = ()
        self._gap = 1  # least steps between two drawings
        self._drawn: int | None = None  # step of the last one
        self._best: events.Evaluated | None = None  # the best, if it was not drawn yet
        self._last: events.Evaluated | None = None  # the same for the last

    def handle(self, event: events.Event) -> None:
        match event:
            case events.RunStarted():
                self._start(event)
            case events.StepDone():
                self._scalars(event.scalars, event.step)
            case events.EpochDone():
                self._scalars(event.scalars, event.step)
                self._writer.flush()
            case events.Evaluated():
                self._evaluated(event)
                self._writer.flush()
            case events.RunEnded():
                self._draw_rest()
                if event.reason in {"finished", "stopped early"}:
                    _, _, end = hparams({}, {})
                    self._write(end, event.step)
                self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _write(self, summary: Summary, step: int) -> None:
        self._writer.file_writer.add_summary(summary, step)

    def _scalars(self, scalars: Mapping[str, float], step: int) -> None:
        # one event for all of them: a fraction of the time and of the bytes of an `add_scalar` for each
        self._write(Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in scalars.items()]), step)

    def _start(self, event: events.RunStarted) -> None:
        self._names = event.names
        self._gap = max(event.total_steps // _PICTURES, 1)
        if event.start_step > 0:  # TensorBoard then forgets what an earlier process logged from this step on
            start = EventProto(session_log=SessionLog(status=SessionLog.START))
            self._writer.file_writer.add_event(start, event.start_step)
        config = yaml.safe_dump(_plain(event.config), sort_keys=False, allow_unicode=True)
        self._writer.add_text("config", f"```yaml\n{config}```", event.start_step)
        rows = "".join(f"| {_cell(k)} | {_cell(v)} |\n" for k, v in event.facts.items())
        self._writer.add_text("facts", f"| fact | value |\n|---|---|\n{rows}", event.start_step)
        self._writer.add_custom_scalars(_LAYOUT)
        # Into this writer, for SummaryWriter.add_hparams makes a second run of them. The metrics are tags that the
        # evaluations fill in.
        experiment, session, _ = hparams(_hyperparameters(event.config), dict.fromkeys(_BEST.values(), 0.0))
        self._write(experiment, event.start_step)
        self._write(session, event.start_step)
        self._writer.flush()

    def _evaluated(self, event: events.Evaluated) -> None:
        # a class without boxes has no AP and gets no chart
        per_class = {events.CLASS_AP + name: ap for name, ap in event.per_class.items() if ap == ap}
        self._scalars({**event.scalars, **per_class}, event.step)
        if event.best:
            self._scalars({tag: event.scalars[k] for k, tag in _BEST.items() if k in event.scalars}, event.step)
            self._best = event
        self._last = event
        if self._drawn is None or (event.best and event.step - self._drawn >= self._gap):
            self._draw(event)

    def _draw_rest(self) -> None:
        for event in (self._best, self._last):
            if event is not None and event.step != self._drawn:
                self._draw(event)

    def _draw(self, event: events.Evaluated) -> None:
        self._drawn = event.step
        self._best = None if event.best else self._best
        self._last = None
        seen: Counter[str] = Counter()
        for sample in event.samples:
            seen[sample.name] += 1  # files of one name in two folders
            again = f"-{seen[sample.name]}" if seen[sample.name] > 1 else ""
            self._image(f"val/{sample.name}{again}", draw_sample(sample, self._names), event.step, *_JPEG)
        curves = draw_pr_curves(event.recall, event.precision, self._names)
        self._image("val/pr_curves", curves, event.step, ".png")
        for k, name in enumerate(self._names):
            if (event.precision[:, k] > -1).all():
                self._write(_pr_summary(name, event.recall, event.precision[:, k]), event.step)

    def _image(self, tag: str, image: np.ndarray, step: int, suffix: str, options: tuple[int, ...] = ()) -> None:
        _, data = cv2.imencode(suffix, image[..., ::-1], options)
        height, width = image.shape[:2]
        picture = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data.tobytes())
        self._write(Summary(value=[Summary.Value(tag=tag, image=picture)]), step)


def _pr_summary(name: str, recall: np.ndarray, precision: np.ndarray) -> Summary:
    """A class's curve for the PR-curves tab, from (R,) recall and precision.

    The plugin orders points by rising threshold, so by falling recall, and cuts off a tail in which nothing is counted.
    COCO's curve has no counts; here they are those of 1000 boxes with this precision and recall. Recalls that were not
    reached, with precision 0, repeat the last point that was.
    """
    reached = np.flatnonzero(precision > 0)
    last = reached[-1] if len(reached) else 0
    order = np.minimum(np.arange(len(recall)), last)[::-1]
    r, p = recall[order], precision[order]
    true = np.maximum(np.round(1000 * r), 1)
    false = np.round(true * (1 - p) / np.maximum(p, 1e-3))
    summary = pr_curve_raw(f"pr_curve/{name}", true, false, np.zeros_like(r), 1000 - true, p, r, num_thresholds=len(r))
    summary.value[0].metadata.summary_description = (
        "Precision over recall at IoU 0.5, COCO's 101 points. Counts are per 1000 boxes of the class; the threshold "
        "is the place on the curve, not a confidence."
    )
    return summary


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    known = bool | int | float | str | list | dict | None
    return {k: v if isinstance(v, known) else str(v) for k, v in config.items()}


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _hyperparameters(config: Mapping[str, Any]) -> dict[str, float | str]:
    """Keys with one value each. Booleans go as words, for `hparams` would write 1.0 for true."""
    words = {k: str(v).lower() if isinstance(v, bool) else v for k, v in config.items()}
    return {k: v for k, v in words.items() if isinstance(v, int | float | str)}
