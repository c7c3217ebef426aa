"""Runs on a Ray cluster: a task for each, in a process of its own."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import threading
import time
from types import ModuleType
from typing import Any

from yolo_cosine.ablation.job import Done, Job, run_job
from yolo_cosine.errors import UserError

# Read by Ray where it is imported. It reports nothing to its makers, and writes nothing between the lines of the overview.
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}


class RayExecutor:
    """A Ray cluster. Every node has this program and its packages in the same versions, and sees the data and the folder
    of the runs, which are on a common file system, under the same paths.

    A job takes as many CPUs as it has threads and, where the cluster has GPUs, one of these (a part of one, where there
    are to be more places than GPUs). A stop reaches a job as Ray's cancelling, which is a Ctrl-C in its process: it saves
    and stops. When this process is gone Ray ends the jobs, and they go on from their last checkpoints another time.

    Ray itself tries nothing again. A job whose process or node is gone is `died`, so that the loop, which counts, tells
    people and begins it again from its checkpoint, does so here as it does on one machine, and not once more after a stop.

    Args:
        address: of the cluster, as `ray.init` has it; None for this machine, as a cluster of one.
        places: jobs at a time; by default what the cluster's resources hold.
        threads: that a job will have, to count the places by.

    Raises:
        UserError: if Ray is not installed, no cluster is at the address, or no node can hold a job.
    """

    def __init__(self, address: str | None, places: int | None = None, threads: int | None = None) -> None:
        self._ray = _import_ray()
        self._ours = not self._ray.is_initialized()
        if self._ours:
            self._connect(address)
        cpus = threads or 1
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        gpus = round(sum(node.get("GPU", 0) for node in nodes))
        held = sum(_places_of(node, cpus, gpus > 0) for node in nodes)
        if not any(_places_of(node, cpus, False) for node in nodes):
            most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
            self.close()
            raise UserError(f"threads: {cpus}, and no node of the Ray cluster has more than {most} CPUs; write fewer")
        if not held and places is None:
            self.close()
            raise UserError(
                f"parallel: auto: no node of the Ray cluster has {cpus} CPU(s) and a GPU for a run; write parallel, or "
                "fewer threads"
            )
        self.places = places or held
        share = 1.0 if self.places <= gpus else 1 / -(-self.places // max(gpus, 1))
        self._gpus = share if gpus else 0
        # max_calls: a process of its own, for what PyTorch keeps, as its threads, cannot be given back
        self._task = self._ray.remote(max_calls=1, max_retries=0)(run_job)
        self._running: dict[Any, Job] = {}

    def start(self, job: Job) -> None:
        """Begin a job. Its paths are made absolute: a node has another working directory."""
        resources = {"num_cpus": job.threads or 1, "num_gpus": self._gpus}
        task = self._task.options(name=f"{job.variant} seed {job.seed}", **resources)
        self._running[task.remote(_absolute(job))] = job

    def wait(self, seconds: float) -> list[Done]:
        """The jobs that have ended since the last call."""
        if not self._running:
            time.sleep(seconds)
            return []
        over, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        if over:  # and all that are over with it
            over, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [self._done(task, self._running.pop(task)) for task in over]

    def stop(self) -> None:
        """Ask all jobs to save and stop."""
        for task in self._running:
            self._ray.cancel(task, force=False, recursive=False)

    def close(self) -> None:
        """Let everything go. Jobs that are still running are killed."""
        for task in getattr(self, "_running", {}):
            self._ray.cancel(task, force=True, recursive=False)
        if self._ours:
            self._ray.shutdown()

    def _connect(self, address: str | None) -> None:
        main = threading.current_thread() is threading.main_thread()
        handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)} if main else {}
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        try:
            self._ray.init(address=address, include_dashboard=None if address else False, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = f"no Ray cluster answers at {address!r}" if address else "Ray does not begin on this machine"
            raise UserError(
                f"executor: ray: {where}: {str(error).strip().splitlines()[0] if str(error).strip() else error!r}; start one "
                "with `ray start --head`, name it in RAY_ADDRESS, or write executor: local"
            ) from None
        finally:
            for number, handler in handlers.items():  # Ray has put its own in their place
                signal.signal(number, handler)

    def _done(self, task: Any, job: Job) -> Done:
        errors = self._ray.exceptions
        try:
            return dataclasses.replace(self._ray.get(task), job=job)
        except errors.TaskCancelledError:
            return Done(job, "interrupted", "stopped before its first step")
        except (errors.RayTaskError, errors.RuntimeEnvSetupError, errors.TaskUnschedulableError) as error:
            return Done(job, "failed", _last_line(error))
        except errors.RayError as error:
            return Done(job, "died", f"its process is gone: {_first_line(error)}")


def _import_ray() -> ModuleType:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UserError(
            f"executor: ray: Ray cannot be imported ({error}); install it with pip install 'yolo-cosine[ray]', or write "
            "executor: local"
        ) from None
    return ray


def _places_of(node: dict[str, float], cpus: int, on_gpu: bool) -> int:
    """How many jobs of so many CPUs, and a GPU each, a node holds."""
    places = int(node.get("CPU", 0) // cpus)
    return min(places, int(node.get("GPU", 0))) if on_gpu else places


def _absolute(job: Job) -> Job:
    return dataclasses.replace(
        job,
        folder=os.path.abspath(job.folder),
        config={
            **job.config,
            **{k: os.path.abspath(job.config[k]) for k in ("runs", "cache_dir") if job.config.get(k)},
        },
        forks_from=tuple((os.path.abspath(folder), step) for folder, step in job.forks_from),
        log=os.path.abspath(job.log) if job.log else "",
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _last_line(error: Exception) -> str:
    """Of an error in another process, whose text ends with what was raised there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
