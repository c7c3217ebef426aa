"""Where runs are trained. An executor takes jobs, as many at a time as it has places, and tells how they ended."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import shutil
import signal
import threading
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Protocol

from yolo_cosine.ablation.job import Done, Job, run_job, stop_with_parent
from yolo_cosine.data.shared_batches import make_folder


class Executor(Protocol):
    """What the loop needs of a place to train."""

    places: int  # jobs at a time

    def start(self, job: Job) -> None:
        """Begin a job; there must be a free place."""

    def wait(self, seconds: float) -> list[Done]:
        """The jobs that have ended since the last call; waits at most so long for the first. `died` is the outcome of
        one whose process is gone without a word."""

    def stop(self) -> None:
        """Ask all jobs to save and stop; `wait` tells when they have."""

    def close(self) -> None:
        """Let everything go."""


# What a run imports, some of it late, and what that takes seconds for.
_IMPORTED = [
    "yolo_cosine.engine.run", "yolo_cosine.engine.resume", "yolo_cosine.sinks.tensorboard", "yolo_cosine.report.figures",
]  # fmt: skip


def run_processes() -> BaseContext:
    """Processes that are forked from a server that has imported everything, so that a run begins at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    # a terminal sends Ctrl-C to the server too, which does not ignore it before it has imported all of that
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
    return context


class LocalExecutor:
    """This machine: a process for each run.

    The processes are sessions of their own, so that a Ctrl-C is passed on once. When this process is gone they save and
    stop.

    Args:
        places: jobs at a time.
        gpus: names of the GPUs as `CUDA_VISIBLE_DEVICES` has them, which the places take in turn; none for the CPU.
    """

    def __init__(self, places: int, gpus: tuple[str, ...] = ()) -> None:
        self.places, self._gpus = places, gpus
        self._running: dict[int, tuple[Job, multiprocessing.process.BaseProcess, Connection]] = {}  # by place
        self._context = run_processes()
        self._shared = make_folder() if places > 1 else None

    def start(self, job: Job) -> None:
        place = next(k for k in range(self.places) if k not in self._running)
        gpu = self._gpus[place % len(self._gpus)] if self._gpus else None
        job = replace(job, shared_batches=str(self._shared or ""))
        here, there = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(job, gpu, there), name=f"{job.variant} seed {job.seed}")
        process.start()
        there.close()
        self._running[place] = job, process, here

    def wait(self, seconds: float) -> list[Done]:
        multiprocessing.connection.wait([process.sentinel for _, process, _ in self._running.values()], seconds)
        ended = []
        for place, (job, process, here) in list(self._running.items()):
            if process.is_alive():
                continue
            process.join()
            try:
                done = here.recv() if here.poll() else None
            except (EOFError, OSError):
                done = None
            here.close()
            del self._running[place]
            ended.append(done or Done(job, "died", f"its process is gone: {exit_words(process.exitcode)}"))
        return ended

    def stop(self) -> None:
        for _, process, _ in self._running.values():
            process.terminate()

    def close(self) -> None:
        for _, process, _ in self._running.values():
            process.kill()
        while self._running:
            self.wait(1.0)
        if self._shared is not None:
            shutil.rmtree(self._shared, ignore_errors=True)


def begin_process(gpu: str | None) -> None:
    """What a process does first that was started to train: it is a session of its own, with one GPU if it is given one,
    and stops when the one that started it is gone."""
    os.setsid()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    stop_with_parent()


def _work(job: Job, gpu: str | None, answer: Connection) -> None:
    """A run's process."""
    begin_process(gpu)
    done = run_job(job)
    with suppress(OSError):  # nobody listens any more
        answer.send(done)
        answer.close()


def exit_words(code: int | None) -> str:
    """How a process ended, by its exit code as `multiprocessing` has it."""
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}" + (
            ", as when memory runs out" if code == -signal.SIGKILL else ""
        )
    except ValueError:
        return f"killed by signal {-code}"
