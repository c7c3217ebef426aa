"""Results made ahead by threads that are watched: one that fails or hangs is named, and its job is done again.

A job must be a pure function of what it is given. Then it can be done twice, and nobody can tell from the results.

The threads are daemons. A thread that waits for a dead network disk cannot be stopped from outside; it is left behind,
and it must not keep the process from ending.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from yolo_cosine.errors import TrainingFailed, UserError

TIMEOUT = 300.0  # seconds; the default of `worker_timeout`
_TRIES = 2  # of a job, whether it fails or hangs: a disk may hiccup, the same twice is no accident
_LAST_WAIT = 5.0  # seconds that the end of the process waits for threads in the middle of a job

J, T = TypeVar("J"), TypeVar("T")


def say_nothing(text: str) -> None:
    """For those to whom nothing needs to be told."""


def ahead(
    make: Callable[[J], T], jobs: Sequence[J], workers: int, *, describe: Callable[[J], str] = str,
    timeout: float = TIMEOUT, tell: Callable[[str], None] = say_nothing, waiting: int | None = None,
) -> Iterator[T]:  # fmt: skip
    """Results of `make(job)` in order, with up to `waiting` of them made ahead.

    Args:
        make: what the threads do; pure, as a job may be done twice.
        workers: threads; at least one is used.
        describe: a job in words, for messages.
        timeout: seconds that a thread may be at one job; then it is given up and another one does the job.
        tell: told of a thread that was given up, in the thread that asks for the results.
        waiting: by default `2 * workers`. Fewer, where results are large.

    Raises:
        TrainingFailed: if a job fails twice, or hangs twice.
        UserError: as `make` raises it.
    """
    remaining = map(_Job, jobs)
    pool = _Pool(make, describe, timeout, tell)
    pending: deque[_Job] = deque()

    def start_next() -> None:
        if (job := next(remaining, None)) is not None:
            pending.append(job)
            pool.put(job)

    try:
        for _ in range(min(max(workers, 1), len(jobs))):
            pool.start_worker()
        for _ in range(waiting or 2 * max(workers, 1)):
            start_next()
        while pending:
            pool.wait_for(job := pending.popleft())
            start_next()
            yield job.take()
    finally:  # what is left early is not waited for
        pool.close()


@dataclass(eq=False)
class _Job:
    """Something to do, and how far it is: in the queue, with a worker since a time, or done."""

    given: Any
    worker: _Worker | None = None
    since: float = 0.0  # when the worker took it, seconds of the monotonic clock
    failures: int = 0
    given_up: list[str] = field(default_factory=list)  # names of the workers that hung
    done: bool = False
    error: BaseException | None = None
    result: Any = None

    def take(self) -> Any:
        """The result, which is not kept: it may be large, and who takes it may be done with it soon."""
        result, self.result = self.result, None
        return result


class _Worker(threading.Thread):
    """A thread that does the jobs of a pool until there is none left or it is given up."""

    def __init__(self, pool: _Pool, number: int):
        super().__init__(name=f"loader-{number}", daemon=True)
        self.pool = pool

    def run(self) -> None:
        while self.pool.do_one(self):
            pass


class _Pool:
    """Workers, their queue, and what the one who waits for results knows about them."""

    def __init__(
        self, make: Callable[[Any], Any], describe: Callable[[Any], str], timeout: float, tell: Callable[[str], None]
    ):
        self._make, self._describe, self._timeout, self._tell = make, describe, timeout, tell
        self._queue: deque[_Job] = deque()
        self._closed, self._started = False, 0
        lock = threading.Lock()
        self._to_do, self._done = threading.Condition(lock), threading.Condition(lock)  # one lock guards everything

    def start_worker(self) -> None:
        """One more thread."""
        self._started += 1
        _Worker(self, self._started).start()

    def put(self, job: _Job) -> None:
        """A job for whoever is free."""
        with self._to_do:
            self._queue.append(job)
            self._to_do.notify()

    def close(self) -> None:
        """No more jobs: whoever is free ends now, and whoever is at a job ends after it."""
        with self._to_do:
            self._closed = True
            self._queue.clear()
            self._to_do.notify_all()

    def do_one(self, worker: _Worker) -> bool:
        """In a worker: take a job and do it. False if this was the end of the worker's work."""
        with self._to_do:
            while not self._queue and not self._closed:
                self._to_do.wait()
            if self._closed:
                return False
            job = self._queue.popleft()
            job.worker, job.since = worker, time.monotonic()
        result = error = None
        try:
            result = self._make(job.given)
        except BaseException as raised:  # SystemExit too: it would end the thread without a word
            error = raised
        with self._done:
            if job.worker is not worker:  # given up: the job is another's, and so is what comes of it
                return False
            if error is not None:
                job.failures += 1
                if job.failures < _TRIES and not isinstance(error, UserError | TrainingFailed):
                    job.worker = None
                    self._queue.appendleft(job)  # this thread itself takes it next, if no other is faster
                    return True
            job.result, job.error, job.done = result, error, True
            self._done.notify()
        return True

    def wait_for(self, job: _Job) -> None:
        """Wait until a job is done; give its worker up where that takes too long.

        Only the job whose turn it is has to be watched: all before it are done, so some thread is free to take it, and
        the others cannot hang unnoticed, as their turn comes.
        """
        while (hung := self._done_or_hung(job)) is not None:
            job.given_up.append(hung.name)
            at, limit = self._describe(job.given), f"{self._timeout:g} seconds"
            if len(job.given_up) == _TRIES:
                raise TrainingFailed(
                    f"the threads {' and '.join(job.given_up)}, one after the other, were at the same job for longer than "
                    f"{limit}: {at}; see whether the disk answers, or set worker_timeout (now {self._timeout:g}) higher"
                )
            with self._to_do:
                self._queue.appendleft(job)
                self._to_do.notify()
            self.start_worker()  # only now: it is to find this job, before it takes another and perhaps hangs too
            self._tell(f"the thread {hung.name} has been at one job for longer than {limit} and is replaced: {at}")
        if job.error is None:
            return
        if isinstance(job.error, UserError | TrainingFailed):
            raise job.error
        raise TrainingFailed(
            f"the thread {job.worker.name} failed {_TRIES} times, the last time with {type(job.error).__name__}: {job.error}; at "
            f"{self._describe(job.given)}; check these files, their disk and the free memory"
        ) from job.error

    def _done_or_hung(self, job: _Job) -> _Worker | None:
        """Wait; None when the job is done, or the worker that was at it for too long and has it no longer."""
        with self._done:
            while not job.done:
                # in the queue its time does not run
                since = time.monotonic() if job.worker is None else job.since
                left = since + self._timeout - time.monotonic()
                if left <= 0:
                    hung, job.worker = job.worker, None
                    return hung
                self._done.wait(min(left, threading.TIMEOUT_MAX))
        return None


@atexit.register
def _end_workers() -> None:
    """Let the threads finish what they are at. One that is inside OpenCV when the interpreter ends would abort the process."""
    workers = [thread for thread in threading.enumerate() if isinstance(thread, _Worker)]
    for worker in workers:
        worker.pool.close()
    end = time.monotonic() + _LAST_WAIT
    for worker in workers:
        worker.join(max(end - time.monotonic(), 0))
