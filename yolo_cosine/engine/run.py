"""A whole training run: its folder, its sinks, its trainer, and what is written at its end."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from yolo_cosine import events
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.data.host_augment import can_augment
from yolo_cosine.data.prints import differences
from yolo_cosine.engine.alike import check_alike
from yolo_cosine.engine.auto_batch import with_known_batch
from yolo_cosine.engine.build import build_trainer
from yolo_cosine.engine.distributed import World, check_shares, ended_by_others, join_world, leave_world
from yolo_cosine.engine.environment import describe_environment, environment_notes
from yolo_cosine.engine.inputs import share_batches
from yolo_cosine.engine.launch import launched
from yolo_cosine.engine.lock import RunLock
from yolo_cosine.engine.precision import resolve_device, resolve_precision
from yolo_cosine.engine.resume import copy_past
from yolo_cosine.engine.snapshot import restore
from yolo_cosine.engine.start import Start, remember
from yolo_cosine.engine.stopping import StopSignals
from yolo_cosine.engine.trainer import Trainer
from yolo_cosine.errors import Interrupted, TrainingFailed, UserError, some_of
from yolo_cosine.evaluate import Detections, image_intervals, write_predictions
from yolo_cosine.files import IMAGE_INTERVALS, replace_file
from yolo_cosine.sinks import SinkHub
from yolo_cosine.sinks.console import ConsoleSink
from yolo_cosine.sinks.jsonl import JsonlSink, write_results_csv

_CONFIDENCE = 0.95  # of the intervals over the images


def train(config: RunConfig, start: Start | None = None) -> Path:
    """Train as `config` says; returns the run's folder.

    Args:
        start: the state that the run begins with, where it goes on with another one, or with its own.

    Raises:
        UserError: for a mistake in configuration or data, before anything is trained or written.
        TrainingFailed: if training cannot go on; what was saved stays.
        Interrupted: if a signal ended it, saying how to go on.
    """
    with StopSignals() as stops:
        return _train(config, start or Start(), stops)


def _train(config: RunConfig, start: Start, stops: StopSignals) -> Path:
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    launch, unlike = launched(), []
    config, batch_found = with_known_batch(config, precision, launch.size if launch is not None else 1)
    if launch is not None:
        check_shares(config.batch, launch.size)
        kernel = device.type == "cpu" and can_augment()
        environment = describe_environment(precision, World(launch.rank, launch.size), kernel=kernel)
        unlike = check_alike(launch, config, environment, device.type)
    world = join_world(launch, device, config.sync_norms, config.worker_timeout)
    hub = SinkHub([("console", ConsoleSink())] if world.is_main else [])
    begun: Trainer | None = None
    complete, began = False, time.monotonic()
    lock = RunLock()
    try:
        if world.is_main and start.run_dir is None:
            _check_root(Path(config.runs))
        elif world.is_main:
            lock.take(start.run_dir)  # before its state is believed: another process may be training it
        state = world.from_main(start.state)

        def make_run_dir() -> Path:
            if start.run_dir is not None:
                return start.run_dir
            return Path(world.from_main(str(_make_run_dir(config)) if world.is_main else ""))

        for note in (*unlike, *start.warnings):
            hub.emit(events.Notice(note, warning=True))
        for note in (*([batch_found] if batch_found else []), *start.notes):
            hub.emit(events.Notice(note))
        trainer = build_trainer(config, make_run_dir, hub.emit, precision, world, fresh=state is None)
        trainer.stops, trainer.began, trainer.forks = stops, began, start.forks
        if start.shared_batches is not None:
            share_batches(trainer.loader, start.shared_batches, trainer.data_prints["train"])
        if world.is_main:
            lock.take(trainer.run_dir)
        trainer.saver.behind = hub.behind
        if state is not None:
            for note in _restore(trainer, state, start.goes_on or start.same_data):
                hub.emit(events.Notice(note, warning=True))
        if world.is_main and start.record_of is not None:
            for note in copy_past(start.record_of, trainer):
                hub.emit(events.Notice(note))
        trainer.progress = world.from_main(trainer.progress)  # what came before may have lost its best weights
        if world.is_main:
            _add_sinks(hub, trainer, new=not start.goes_on)
        begun = trainer
        remember(trainer.run_dir)
        trainer.fit()
        complete = True
    except Interrupted as stop:
        if begun is None or stop.agreed:
            raise
        raise Interrupted(
            stop.code - 128, f"{stop}; go on with\n  python -m yolo_cosine.train --resume {begun.run_dir}"
        ) from None
    except RuntimeError as error:
        if world.watch is None or (said := ended_by_others(error, world.watch)) is None:
            raise
        go_on = f"\ngo on with --resume {begun.run_dir}" if begun is not None else ""
        raise TrainingFailed(f"{said}{go_on}") from None
    finally:
        hub.close()
        leave_world(world, sys.exc_info()[1])
        # also of a run that was cut short: what was measured can be looked at. But who asks twice, or by SIGTERM, is in
        # a hurry
        if world.is_main and begun is not None and (complete or stops.patient):
            _derive(begun, complete)
        lock.release()
    return trainer.run_dir


def _restore(trainer: Trainer, state: dict[str, Any], same_data: bool) -> list[str]:
    """Put the trainer into the state of a checkpoint; returns what is not as it was, in words.

    Args:
        same_data: whether other data is a mistake.

    Raises:
        UserError: if the state does not fit, or the data is not what the run was begun with.
    """
    notes = environment_notes(state.get("environment", {}), trainer.environment)
    changed = differences(state.get("data", {}), trainer.data_prints)
    if changed and same_data:
        raise UserError(
            f"{trainer.config.data}: is not the data that the run was begun with: {'; '.join(changed)}; put it back, or "
            f"begin a new run from its weights (weights={trainer.run_dir}/weights/last.pt)"
        )
    notes += [f"the data is not that of the run before: {change}" for change in changed]
    try:
        restore(trainer, state)
    except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in f"{type(error).__name__}: {error}".splitlines() if line.strip()]
        reason = some_of(lines, most=3, separator=" ")
        raise UserError(
            f"{trainer.run_dir}: the checkpoint does not fit the run that is to go on: {reason}; is its model or another "
            "file that its configuration names another one now? Put it back, or begin the run anew"
        ) from None
    spe, step = trainer.steps_per_epoch, trainer.progress.step
    if state.get("steps_per_epoch", spe) != spe:
        raise UserError(
            f"{trainer.run_dir}: an epoch had {state['steps_per_epoch']} steps, and among {trainer.world.size} process(es) it "
            f"has {spe}, for its last batch is too small for so many; take as many processes as before"
        )
    if step > trainer.schedule.steps:
        raise UserError(
            f"the checkpoint was made after {step} steps, and this run has {trainer.schedule.steps} ({spe} an epoch)"
        )
    return notes


def _add_sinks(hub: SinkHub, trainer: Trainer, new: bool) -> None:
    run_dir, config = trainer.run_dir, trainer.config
    try:
        hub.add("metrics.jsonl", JsonlSink(run_dir / "metrics.jsonl"))
        trainer.saver.write_config(config)
        if config.tensorboard:
            from yolo_cosine.sinks.tensorboard import TensorBoardSink  # only now: it takes a second to import

            hub.add("tensorboard", TensorBoardSink(run_dir))
    except OSError as error:
        if new:
            shutil.rmtree(run_dir, ignore_errors=True)  # made a moment ago, and never used
        raise UserError(
            f"{run_dir}: cannot be written: {error.strerror or error}; make room, or name other runs"
        ) from None


def _derive(trainer: Trainer, complete: bool) -> None:
    """Write what follows from the record and the best evaluation; one that fails leaves the others alone.

    Args:
        complete: whether the run came to its end; else nothing is evaluated anew for it.
    """
    run_dir, config = trainer.run_dir, trainer.config

    def predictions() -> None:
        found = _detections_of_best(trainer) if complete else trainer.best_detections
        if found is None:
            return
        if not len(found.score):
            print(f"predictions.json is empty: no score reaches conf={config.conf:g}; train longer, or lower conf")
        write_predictions(run_dir / "predictions.json", trainer.evaluator.store.index, found)

    def plots() -> None:
        from yolo_cosine.report.figures import write_figures  # only now: matplotlib takes a while to import

        write_figures(run_dir)

    tasks = {"results.csv": lambda: write_results_csv(run_dir / "metrics.jsonl", run_dir / "results.csv")}
    if config.image_resamples and complete:
        tasks[IMAGE_INTERVALS] = lambda: _write_image_intervals(trainer)  # first: it needs the last weights, too
    if config.predictions:
        tasks["predictions.json"] = predictions
    if config.plots:
        tasks["plots"] = plots
    for name, write in tasks.items():
        try:
            write()
        except Exception as error:  # the run is saved; nothing that is derived from it may make it a failed one
            print(f"warning: {run_dir / name} was not written: {type(error).__name__}: {error}", file=sys.stderr)


def _detections_of_best(trainer: Trainer) -> Detections | None:
    """What the best weights find on the validation images; they are run again if that was before a resume."""
    if trainer.best_detections is None and trainer.progress.best_epoch is not None:
        marked, state = trainer.saver.folder.best()
        if marked is not None:
            trainer.ema.model.load_state_dict(state["ema"])
            trainer.evaluator.use_alone()  # the other processes are gone
            trainer.best_detections = trainer.evaluator(trainer.ema.model)[1]
    return trainer.best_detections


def _write_image_intervals(trainer: Trainer) -> None:
    """Write how far the metrics of the last and of the best weights are a matter of the images, as `image_intervals.json`."""
    config, progress, evaluator = trainer.config, trainer.progress, trainer.evaluator
    if trainer.last_detections is None:  # the run was at its end already
        evaluator.use_alone()
        trainer.last_detections = evaluator(trainer.ema.model)[1]
    detections = {"last": (progress.last_step, trainer.last_detections)}
    if progress.best_step is not None:
        if progress.best_step == progress.last_step:
            trainer.best_detections = trainer.last_detections
        detections["best"] = (progress.best_step, _detections_of_best(trainer))
    index, content = evaluator.store.index, {}
    for name, (step, found) in detections.items():
        if found is not None:
            intervals = image_intervals(index, evaluator.truth, found, config.image_resamples, confidence=_CONFIDENCE)
            content[name] = {"step": step, "intervals": intervals}
    about = {"images": len(index), "resamples": config.image_resamples, "confidence": _CONFIDENCE}
    text = json.dumps({**about, **content}, indent=1)
    replace_file(trainer.run_dir / IMAGE_INTERVALS, [text.encode()])


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
