"""The state of a run after some step, put aside for other runs to begin from: what they share is trained once.

A fork is a folder with what a run's folder had at that moment: the record, TensorBoard's log, the state and the best
checkpoint until then. A run that begins from it is, from its next step on, what it would have been by itself, bit for bit:
same weights, averages, optimizer, pending gradients, best so far. The run that is forked is not changed by it. (A run that
goes back for losses that are no numbers goes to its newest checkpoint, and one that was forked has one more, where it began.)
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_cosine import events
from yolo_cosine.engine.checkpoint import CheckpointFolder, load_checkpoint, pack_state, write_checkpoint
from yolo_cosine.engine.snapshot import snapshot
from yolo_cosine.files import sync_folder

if TYPE_CHECKING:
    from yolo_cosine.engine.trainer import Trainer


def fork_folder(run_dir: Path, step: int) -> Path:
    """Where the fork of a run after `step` steps belongs."""
    return Path(run_dir) / "forks" / f"step-{step:08d}"


def load_fork(folder: Path) -> dict[str, Any] | None:
    """The state that a fork holds; None where there is none, or one that is not whole."""
    step = int(folder.name.rpartition("-")[2])
    try:
        return load_checkpoint(CheckpointFolder(folder / "checkpoints").place(step, True))
    except ValueError:
        return None


def write_fork(trainer: Trainer) -> None:
    """Put the present state aside, if it is not there already. Where there is no room it is not, and the run goes on."""
    progress = trainer.progress
    folder = fork_folder(trainer.run_dir, progress.step)
    if load_fork(folder) is not None:
        return
    beside = folder.with_name(f".{folder.name}.tmp")
    trainer.learner.collect()
    trainer.tick()
    trainer.emit(events.Saving(progress.last_step))  # the copies below must lead up to this step
    try:
        if trainer.saver.behind():
            raise OSError(errno.ENOSPC, "the record of the run cannot be written")
        for rest in (beside, folder):
            shutil.rmtree(rest, ignore_errors=True)
        checkpoints = CheckpointFolder(beside / "checkpoints")
        checkpoints.path.mkdir(parents=True)
        copy_told(trainer.run_dir, beside)
        best = trainer.saver.folder.best_after(progress.best_step)
        if best is not None and best.step < progress.step:
            for file in (best.path, best.path.with_suffix(".json")):
                _link(file, checkpoints.path / file.name)
        facts = {"step": progress.step, "epoch": max(progress.last_step, 0) // trainer.steps_per_epoch, "best": False}
        write_checkpoint(checkpoints.place(progress.step, True), pack_state(snapshot(trainer)), facts)
        os.replace(beside, folder)
        sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        text = f"{folder}: cannot be written: {error.strerror or error}; runs that would begin from it train those steps themselves"
        trainer.emit(events.Notice(text, warning=True, step=progress.last_step))


def copy_told(run_dir: Path, folder: Path) -> None:
    """Copy what a run has told: its record and TensorBoard's log, as far as they are there.

    Raises:
        OSError: if there is no room.
    """
    if (run_dir / "metrics.jsonl").is_file():
        shutil.copyfile(run_dir / "metrics.jsonl", folder / "metrics.jsonl")
    if (run_dir / "tensorboard").is_dir():
        shutil.copytree(run_dir / "tensorboard", folder / "tensorboard")


def _link(source: Path, target: Path) -> None:
    """The same file under another name, where the system can: no checkpoint is ever written over."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
