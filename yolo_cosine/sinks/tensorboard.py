"""A run in TensorBoard. The x axis of everything is the step; tags are the names of `yolo_cosine.events`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from tensorboard.compat.proto.event_pb2 import Event as EventProto
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import custom_scalars, hparams, pr_curve_raw, text

from yolo_cosine import events
from yolo_cosine.sinks.appended import News
from yolo_cosine.sinks.drawing import draw_pr_curves, draw_sample
from yolo_cosine.sinks.event_log import EventLog

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


# Tags of what a process tells once: where it begins, or where it ends.
_ONCE = ("config/", "facts/", "custom_scalars__config__", "_hparams_/")
# Tags of what comes of an evaluation.
_EVALUATED = ("metrics/", events.CLASS_AP, events.EVAL_SECONDS, BEST, "val/", "pr_curve/")
_TOLD = "incidents"
_CURVES = "val/pr_curves"


class TensorBoardSink:
    """Writes `<run_dir>/tensorboard`: scalars, images, precision over recall, configuration and hyperparameters.

    Events of steps that are taken again, because a run goes on from a checkpoint or went back, are dropped first, so that
    every tag has every step once.

    Raises:
        OSError: if the folder cannot be written.
    """

    def __init__(self, run_dir: Path) -> None:
        self.news: list[News] = []
        self._log = EventLog(Path(run_dir) / "tensorboard", self.news)
        self._start: events.RunStarted | None = None
        self._gap = 1  # least steps between two drawings
        self._back_at: int | None = None  # the step that the run went back to, until it is taken
        self._incidents: Counter[int] = Counter()  # texts of a step
        self._drawn: int | None = None  # step of the last drawing
        self._best: events.Evaluated | None = None  # the best, if it was not drawn yet
        self._last: events.Evaluated | None = None  # the same for the last

    def handle(self, event: events.Event) -> None:
        match event:
            case events.RunStarted():
                self._start = event
                self._gap = max(event.total_steps // _PICTURES, 1)
                self._go_on_from(event.start_step, event.evaluation_due)
            case events.StepDone():
                self._back_at = None
                self._scalars(event.scalars, event.step)
            case events.EpochDone():
                self._scalars(event.scalars, event.step)
                self._log.flush()
            case events.Evaluated():
                self._evaluated(event)
                self._log.flush()
            case events.Saving():
                self._log.sync()  # a run goes on from the checkpoint that follows, and the log must lead up to it
            case events.Incident():
                self._tell(f"**{event.kind}**, step {event.step}: {event.text}", event.step)
            case events.Replanned():
                self._start = replace(self._start, epochs=event.epochs)
                self._tell(f"**{event.epochs} epochs** from step {event.step} on: {event.text}", event.step)
            case events.Rewound():
                self._back_at = event.to_step
                self._go_on_from(event.to_step)
                self._tell(f"**back to step {event.to_step}** from step {event.step}: {event.text}", event.to_step)
                self._log.flush()
            case events.RunEnded():
                self._draw_rest()
                if event.reason in {"finished", "stopped early"}:
                    _, _, end = hparams({}, {})
                    self._log.write(end, event.step)
                self._log.sync()

    def close(self) -> None:
        self._log.close()

    def _scalars(self, scalars: Mapping[str, float], step: int) -> None:
        # one event for all of them: a fraction of the time and of the bytes of an `add_scalar` for each
        self._log.write(Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in scalars.items()]), step)

    def _tell(self, words: str, step: int) -> None:
        step = step if self._back_at is None else min(step, self._back_at)
        self._incidents[step] += 1
        again = f"-{self._incidents[step]}" if self._incidents[step] > 1 else ""
        self._log.write(text(_TOLD + again, words), step)

    def _go_on_from(self, first: int, evaluation_due: bool = False) -> None:
        """Drop what was logged of steps from `first` on and, if it is due again, of the evaluation before."""
        self._incidents.clear()
        self._drawn = None
        self._best, self._last = (e if e is not None and e.step < first else None for e in (self._best, self._last))
        taken = False  # whether the step before `first` has passed

        def keep(event: EventProto) -> bool:
            nonlocal taken
            tag = next((value.tag for value in event.summary.value), "")  # those of an event are of one kind
            told, evaluated, before = tag.startswith(_TOLD), tag.startswith(_EVALUATED), event.step == first - 1
            again = evaluation_due and before and (evaluated or (told and taken))
            if event.step >= first or again or tag.startswith(_ONCE):
                return False
            taken = taken or (before and not told and not evaluated)
            self._incidents[event.step] += told
            self._drawn = event.step if tag == _CURVES else self._drawn
            return True

        self._log.renew(first, self._about(), self._start.start_step, keep)

    def _about(self) -> list[Summary]:
        """What is known of the run when a process starts."""
        config = yaml.safe_dump(_plain(self._start.config), sort_keys=False, allow_unicode=True)
        rows = "".join(f"| {_cell(k)} | {_cell(v)} |\n" for k, v in self._start.facts.items())
        # Into this file, for `SummaryWriter.add_hparams` makes a second run of them. The metrics are tags that the
        # evaluations fill in.
        experiment, session, _ = hparams(hyperparameters(self._start.config), dict.fromkeys(_BEST.values(), 0.0))
        about = [
            text("config", f"```yaml\n{config}```"),
            text("facts", f"| fact | value |\n|---|---|\n{rows}"),
            session,
        ]
        # Of the columns of several runs TensorBoard shows those of any one, and it appends their layouts: for the runs of
        # an ablation its overview has them.
        if "ablation" in (self._start.config.get("labels") or {}):
            return about
        return [*about, custom_scalars(_LAYOUT), experiment]

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
        if event.step + 1 == self._start.total_steps:  # there will be none after it, not even if the run is resumed
            self._draw_rest()

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
            self._image(f"val/{sample.name}{again}", draw_sample(sample, self._start.names), event.step, *_JPEG)
        curves = draw_pr_curves(event.recall, event.precision, self._start.names)
        self._image(_CURVES, curves, event.step, ".png")
        for k, name in enumerate(self._start.names):
            if (event.precision[:, k] > -1).all():
                self._log.write(_pr_summary(name, event.recall, event.precision[:, k]), event.step)

    def _image(self, tag: str, image: np.ndarray, step: int, suffix: str, options: tuple[int, ...] = ()) -> None:
        _, data = cv2.imencode(suffix, image[..., ::-1], options)
        height, width = image.shape[:2]
        picture = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data.tobytes())
        self._log.write(Summary(value=[Summary.Value(tag=tag, image=picture)]), step)


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


def hyperparameters(config: Mapping[str, Any]) -> dict[str, float | str]:
    """A run's row in the HParams tab: its labels, and the keys that have one value each.

    Booleans go as words, for `hparams` would write 1.0 for true. A label that is called as a key is `label.NAME`.
    """
    labels = {f"label.{k}" if k in config else k: v for k, v in (config.get("labels") or {}).items()}
    words = {k: str(v).lower() if isinstance(v, bool) else v for k, v in {**labels, **config}.items()}
    return {k: v for k, v in words.items() if isinstance(v, int | float | str)}
