"""One run of an ablation, from wherever it is to its end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from yolo_cosine.errors import Interrupted, TrainingFailed, UserError

if TYPE_CHECKING:
    from yolo_cosine.config.schema import RunConfig

_PATIENCE = 60.0  # seconds for a process to stop that trains a run which is begun here
_LOOK = 0.5  # seconds between two looks whether it has
_LONGEST = 4000  # letters of what a process tells of its end


@dataclass(frozen=True)
class Job:
    """What a process, here or on another machine that sees the same files, needs to know of a run. Plain values only."""

    variant: str
    seed: int
    folder: str
    config: dict[str, Any]
    forks_from: tuple[tuple[str, int], ...] = ()  # (folder of a run, step): where it may begin, the latest step first
    forks: tuple[int, ...] = ()  # steps after which others begin from it
    threads: int | None = None  # of the CPU; None for PyTorch's own choice
    log: str = ""  # what the run says goes here; "" for the terminal
    shared_batches: str = ""  # folder of the batches that runs on one machine have in common; "" for none


@dataclass(frozen=True)
class Done:
    """How a job ended."""

    job: Job
    outcome: str  # "finished", "failed", "interrupted"
    detail: str = ""


def run_job(job: Job) -> Done:
    """Train a run to its end: go on with it if it was begun, else begin from what it shares with another, else anew."""
    with _told_to(job.log):
        try:
            _train(job)
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            return Done(job, "interrupted", str(stop))
        except (UserError, TrainingFailed) as error:
            print(f"error: {error}", file=sys.stderr)
            return Done(job, "failed", str(error)[:_LONGEST])
        except Exception as error:  # a fault of ours, or of the machine: the other runs must not end for it
            traceback.print_exc()
            said = f"{type(error).__name__}: {error}"[:_LONGEST]
            return Done(job, "failed", f"{said}; the whole story is in {job.log}")
    return Done(job, "finished")


def _train(job: Job) -> None:
    use_threads(job.threads)
    from yolo_cosine.config.explain import validate
    from yolo_cosine.engine.fork import fork_folder, load_fork
    from yolo_cosine.engine.resume import resume
    from yolo_cosine.engine.run import Start, train

    config = validate(job.config, f"{job.variant}, seed {job.seed}")
    folder = Path(job.folder)
    begin = partial(
        Start, forks=frozenset(job.forks), shared_batches=Path(job.shared_batches) if job.shared_batches else None
    )
    _wait_until_free(folder)
    if is_begun(folder):
        if said := changed_settings(folder, config):
            raise UserError(
                f"{folder}: was begun with other settings: {said}; put them back, or give the ablation another name"
            )
        found = resume(folder, [], None)
        train(found.config, begin(folder, found.state, notes=found.notes, warnings=found.warnings))
        return
    if folder.exists():
        _remove_unbegun(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for owner, step in job.forks_from:
        fork = fork_folder(Path(owner), step)
        state = load_fork(fork)
        if state is not None:
            note = f"the first {step} steps are those of {owner}"
            train(config, begin(state=state, record_of=fork, same_data=True, notes=(note,)))
            return
    train(config, begin())


def is_begun(folder: Path) -> bool:
    """Whether a run can be gone on with, or has at least taken a step that must not be lost."""
    from yolo_cosine.engine.checkpoint import CheckpointFolder

    config = folder / "config.yaml"
    if not config.is_file():
        return False
    own = own_steps(folder)
    marked = CheckpointFolder(folder / "checkpoints").marked()
    return own is not None and (bool(own[1]) or any(m.step >= own[0] for m in marked))


def own_steps(folder: Path) -> tuple[int, int] | None:
    """The step at which a run began by itself, and how many it has taken since; None if it has not begun.

    Its record may begin with that of the run that it was forked from; its own part begins with a start of its variant.
    """
    from yolo_cosine.config.load import load_config

    record = folder / "metrics.jsonl"
    if not record.is_file():
        return None
    labels, begun, taken = load_config(folder / "config.yaml").labels, None, 0
    with open(record, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.endswith("\n"):  # torn
                break
            if begun is None:
                if line.startswith('{"event": "start"'):
                    start = json.loads(line)
                    if start["config"].get("labels") == labels:
                        begun = start["step"]
            elif line.startswith('{"event": "step"'):
                taken += 1
    return None if begun is None else (begun, taken)


def _wait_until_free(folder: Path) -> None:
    """Let a process that is still at the run save it and stop, as after the one that had started it was killed.

    Raises:
        UserError: if it does not for long.
    """
    from yolo_cosine.engine.lock import RunLock

    until = time.monotonic() + _PATIENCE
    while folder.is_dir():
        lock = RunLock()
        try:
            lock.take(folder)
            return
        except UserError:
            if time.monotonic() > until:
                raise
            time.sleep(_LOOK)
        finally:
            lock.release()


def _remove_unbegun(folder: Path) -> None:
    """Delete what a process left that was killed before it had begun, and so before any step was taken.

    Raises:
        UserError: if there are weights: it is a run, of which something else is missing.
    """
    if (folder / "weights" / "last.pt").exists():
        raise UserError(
            f"{folder}: holds weights, and no config.yaml and metrics.jsonl of that run by which it could be gone on with; put "
            "them back, or move the folder away to have the run trained anew"
        )
    shutil.rmtree(folder)


def changed_settings(folder: Path, config: RunConfig) -> str:
    """In words, what a run that is there was begun with, and would be another now; empty where that is nothing."""
    from yolo_cosine.config.load import load_config
    from yolo_cosine.engine.resume import changed_keys

    changed = changed_keys(load_config(folder / "config.yaml"), config)
    return ", ".join(f"{key} was {before!r} and is {now!r} now" for key, (before, now) in changed.items())


def use_threads(threads: int | None) -> None:
    """Let PyTorch compute with so many threads in this process; None for its own choice."""
    if threads is None:
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch  # only now: it takes seconds

    torch.set_num_threads(threads)


@contextlib.contextmanager
def _told_to(log: str) -> Iterator[None]:
    """Let all that this process prints go to a file."""
    if not log:
        yield
        return
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8", buffering=1) as file:
        kept: list[tuple[TextIO, int]] = []
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            kept.append((stream, os.dup(stream.fileno())))
            os.dup2(file.fileno(), stream.fileno())
        try:
            yield
        finally:
            for stream, descriptor in kept:
                stream.flush()
                os.dup2(descriptor, stream.fileno())
                os.close(descriptor)


def stop_with_parent() -> None:
    """Let this process save its run and stop when the one that started it is gone."""
    import multiprocessing
    import multiprocessing.connection
    import signal

    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
