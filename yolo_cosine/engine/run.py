"""A whole training run: its folder, its sinks, its trainer, and what is written at its end."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_cosine import events
from yolo_cosine.config.load import dump_config
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.engine.build import build_trainer
from yolo_cosine.engine.checkpoint import write_atomically
from yolo_cosine.engine.distributed import join_world, leave_world
from yolo_cosine.engine.precision import resolve_device, resolve_precision
from yolo_cosine.engine.resume import copy_record
from yolo_cosine.engine.snapshot import restore
from yolo_cosine.engine.trainer import Trainer
from yolo_cosine.errors import UserError
from yolo_cosine.evaluate import write_predictions
from yolo_cosine.sinks import SinkHub
from yolo_cosine.sinks.console import ConsoleSink
from yolo_cosine.sinks.jsonl import JsonlSink, write_results_csv


@dataclass(frozen=True)
class Start:
    """Where a run begins, if not at its first step."""

    run_dir: Path | None = None  # the run's own folder, if it goes on there
    state: dict[str, Any] | None = None
    record_of: Path | None = None  # the folder of the run whose record comes before its own
    notes: tuple[str, ...] = ()


def train(config: RunConfig, start: Start | None = None) -> Path:
    """Train as `config` says; returns the run's folder.

    Args:
        start: the state that the run begins with, where it goes on with another one, or with its own.

    Raises:
        UserError: for a mistake in configuration or data, before anything is trained or written.
        TrainingFailed: if training cannot go on; what was saved stays.
    """
    start = start or Start()
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    world = join_world(device, config.batch)
    hub = SinkHub([("console", ConsoleSink())] if world.is_main else [])
    begun: Trainer | None = None
    try:
        _check_root(Path(config.runs))

        def make_run_dir() -> Path:
            if start.run_dir is not None:
                return start.run_dir
            return Path(world.from_main(str(_make_run_dir(config)) if world.is_main else ""))

        for note in start.notes:
            hub.emit(events.Notice(note))
        trainer = build_trainer(config, make_run_dir, hub.emit, precision, world)
        if start.state is not None:
            _restore(trainer, start.state)
        if world.is_main:
            if start.record_of is not None:
                copy_record(start.record_of, trainer.run_dir)
            _add_sinks(hub, trainer.run_dir, config, new=start.run_dir is None)
        begun = trainer
        trainer.fit()
    finally:
        hub.close()
        leave_world(world)
        if world.is_main and begun is not None:  # also after an interrupt: what was measured can be looked at
            _derive(begun)
    return trainer.run_dir


def _restore(trainer: Trainer, state: dict[str, Any]) -> None:
    try:
        restore(trainer, state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"the checkpoint does not fit the run that is to go on: {error}; begin the run anew") from None
    spe, step = trainer.steps_per_epoch, trainer.progress.step
    if step > trainer.schedule.steps:
        raise UserError(
            f"the checkpoint was made after {step} steps, and this run has {trainer.schedule.steps} ({spe} an epoch)"
        )


def _add_sinks(hub: SinkHub, run_dir: Path, config: RunConfig, new: bool) -> None:
    try:
        write_atomically(run_dir / "config.yaml", dump_config(config).encode())
        hub.add("metrics.jsonl", JsonlSink(run_dir / "metrics.jsonl"))
        if config.tensorboard:
            from yolo_cosine.sinks.tensorboard import TensorBoardSink  # only now: it takes a second to import

            hub.add("tensorboard", TensorBoardSink(run_dir))
    except OSError as error:
        if new:
            shutil.rmtree(run_dir, ignore_errors=True)  # made a moment ago, and never used
        raise UserError(
            f"{run_dir}: cannot be written: {error.strerror or error}; make room, or name other runs"
        ) from None


def _derive(trainer: Trainer) -> None:
    """Write what follows from the record and the best evaluation; one that fails leaves the others alone."""
    run_dir, config = trainer.run_dir, trainer.config

    def predictions() -> None:
        found = trainer.detections_of_best()
        if found is None:
            return
        if not len(found.score):
            print(f"predictions.json is empty: no score reaches conf={config.conf:g}; train longer, or lower conf")
        write_predictions(run_dir / "predictions.json", trainer.evaluator.store.index, found)

    def plots() -> None:
        from yolo_cosine.report.figures import write_figures  # only now: matplotlib takes a while to import

        write_figures(run_dir)

    tasks = {"results.csv": lambda: write_results_csv(run_dir / "metrics.jsonl", run_dir / "results.csv")}
    if config.predictions:
        tasks["predictions.json"] = predictions
    if config.plots:
        tasks["plots"] = plots
    for name, write in tasks.items():
        try:
            write()
        except (OSError, UserError) as error:
            print(f"warning: {run_dir / name} was not written: {error}", file=sys.stderr)


def _check_root(root: Path) -> None:
    """Refuse what no run could be written to, before the data is read."""
    there = next(path for path in (root, *root.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"runs: {there} is a file; name a folder for the runs")
    if not os.access(there, os.W_OK):
        raise UserError(f"runs: {there} cannot be written; name a folder that can be")


def _make_run_dir(config: RunConfig) -> Path:
    """A new folder `runs/<name>`, or `<name>-2`, `<name>-3`, ... where that is taken; nothing is overwritten."""
    root = Path(config.runs)
    number = 1
    while True:
        path = root / (str(config.name) if number == 1 else f"{config.name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        except OSError as error:
            raise UserError(
                f"runs: {path} cannot be made: {error.strerror}; name a folder that can be written"
            ) from None
        for part in ("checkpoints", "weights"):
            (path / part).mkdir()
        return path
