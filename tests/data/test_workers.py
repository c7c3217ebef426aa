from __future__ import annotations

import random
import subprocess
import sys
import threading
import time

import pytest

from yolo_cosine.config.schema import DataConfig
from yolo_cosine.data.workers import TIMEOUT, ahead
from yolo_cosine.errors import TrainingFailed, UserError

HANGS = 0.5  # seconds until a thread is given up, where a test lets one hang


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("loader-")]


def soon(condition):
    """Whether a condition comes true within seconds."""
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.fixture(autouse=True)
def every_thread_ends():
    yield
    assert soon(lambda: not threads())


@pytest.fixture
def release():
    """What hanging jobs wait for; set at the end of a test, at the latest."""
    event = threading.Event()
    yield event
    event.set()


def in_words(job):
    return f"job {job}"


def squares(n):
    return [k * k for k in range(n)]


@pytest.mark.parametrize("workers", range(1, 6))
def test_results_come_in_order(workers):
    delays = random.Random(workers)

    def make(k):
        time.sleep(delays.choice([0, 0, 0.001, 0.004]))
        return k * k

    assert list(ahead(make, range(150), workers)) == squares(150)


@pytest.mark.parametrize("jobs", [[], [3], [3, 3, 1]])
def test_fewer_jobs_than_workers(jobs):
    assert list(ahead(lambda k: k, jobs, 5)) == jobs


@pytest.mark.parametrize(("workers", "waiting"), [(1, None), (2, None), (4, None), (2, 2), (4, 3)])
def test_so_much_is_made_ahead_and_no_more(workers, waiting):
    asked, most, lock = 0, 0, threading.Lock()
    begun = []

    def make(k):
        nonlocal most
        with lock:
            begun.append(k)
            most = max(most, len(begun) - asked)
        return k

    results, most_ahead = ahead(make, range(40), workers, waiting=waiting), waiting or 2 * workers
    for k in range(40):
        asked += 1
        assert next(results) == k
        if k in (0, 7):  # one who does not ask for long finds as much as there may be
            assert soon(lambda k=k: len(begun) == k + 1 + most_ahead)
            time.sleep(0.05)
    assert most == most_ahead
    assert list(results) == []


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError(), SystemExit(1)])
def test_what_fails_once_is_done_again(workers, error):
    failed = []

    def make(k):
        if k % 4 == 1 and k not in failed:
            failed.append(k)
            raise error
        return k * k

    assert list(ahead(make, range(12), workers)) == squares(12)
    assert sorted(failed) == [1, 5, 9]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    ("error", "words"), [(OSError(5, "Input/output error"), "Input/output error"), (SystemExit(1), "SystemExit: 1")]
)
def test_what_fails_twice_is_named(workers, error, words):
    tries, results = [], []

    def make(k):
        if k == 5:
            tries.append(k)
            raise error
        return k

    with pytest.raises(TrainingFailed, match=rf"thread loader-\d failed 2 times.*{words}.*at job 5; check") as caught:
        results.extend(ahead(make, range(12), workers, describe=in_words))
    assert caught.value.__cause__ is error
    assert len(tries) == 2
    assert results == [0, 1, 2, 3, 4]  # what was asked for before is not held back


@pytest.mark.parametrize("error", [UserError("mend the files"), TrainingFailed("mend the disk")])
def test_a_message_for_the_user_is_passed_on_as_it_is(error):
    tries = []

    def make(k):
        tries.append(k)
        raise error

    with pytest.raises(type(error)) as caught:
        next(ahead(make, [1], 1))
    assert caught.value is error and tries == [1]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("late", ["at once", "at the end"])
def test_a_thread_that_hangs_is_told_of_and_replaced(workers, late, release):
    """Its own result, should it come while another thread is at the job, counts for nothing."""
    told, hung = [], []

    def make(k):
        if k == 5 and not hung:
            hung.append(threading.current_thread().name)
            release.wait(60)
            return "late"
        if k == 5 and late == "at once":
            assert soon(lambda: hung[0] not in [t.name for t in threads()])
        return k * k

    def tell(text):
        told.append(text)
        if late == "at once":
            release.set()

    start = time.monotonic()
    assert list(ahead(make, range(12), workers, describe=in_words, timeout=HANGS, tell=tell)) == squares(12)
    assert HANGS <= time.monotonic() - start < 20
    assert len(told) == 1
    assert f"the thread {hung[0]} has been at one job for longer than 0.5 seconds and is replaced: job 5" in told[0]


def test_waiting_in_the_queue_is_no_hanging():
    """Twelve jobs of a fifth of the limit: the last ones wait for longer than that until their turn comes."""
    told = []

    def make(k):
        time.sleep(0.2)
        return k

    jobs = range(12)
    results = ahead(make, jobs, 1, timeout=1.0, tell=told.append)
    assert list(results) == list(jobs) and told == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_hangs_twice_ends_the_run(workers, release):
    told = []

    def make(k):
        if k == 1:
            release.wait(60)
        return k

    results = ahead(make, range(4), workers, describe=in_words, timeout=HANGS, tell=told.append)
    assert next(results) == 0
    message = (
        r"threads loader-\d and loader-\d, .* longer than 0.5 seconds: job 1; see whether .* worker_timeout \(now 0.5\)"
    )
    with pytest.raises(TrainingFailed, match=message):
        next(results)
    assert len(told) == 1


def test_every_job_may_hang_once(release):
    """Each replacement finds the job that is waited for before it meets another that hangs."""
    seen, told = set(), []

    def make(k):
        if k not in seen:
            seen.add(k)
            release.wait(60)
        return k * k

    assert list(ahead(make, range(6), 2, timeout=HANGS, tell=told.append)) == squares(6)
    assert len(told) == 6


def test_who_leaves_early_does_not_wait(release):
    begun = []

    def make(k):
        begun.append(k)
        if k:
            release.wait(60)
        return k

    results = ahead(make, range(100), 3)
    assert next(results) == 0
    assert soon(lambda: len(begun) == 4)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 10
    release.set()
    assert soon(lambda: not threads()) and len(begun) == 4  # what was queued is never begun


def test_the_longest_limit_that_a_configuration_takes():
    assert list(ahead(lambda k: k, range(3), 1, timeout=1e300)) == [0, 1, 2]
    assert DataConfig().worker_timeout == TIMEOUT


HANGING = """
import threading
from yolo_cosine.data.workers import ahead
batches = ahead(lambda k: k and threading.Event().wait(), range(9), 2)
print(next(batches))
raise SystemExit(3)
"""
BUSY = """
import cv2, numpy as np
from yolo_cosine.data.workers import ahead
noise = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (1000, 1000, 3), dtype=np.uint8))[1]
batches = ahead(lambda k: sum(len(cv2.imdecode(noise, 1)) for _ in range(3 * k)), range(9), 3)
print(next(batches))
"""


@pytest.mark.parametrize(("code", "expected"), [(HANGING, 3), (BUSY, 0)])
def test_a_process_ends_in_the_middle_of_an_epoch(code, expected):
    """Threads that hang do not hold it; one that comes back from OpenCV into an interpreter that is gone does not abort it."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (expected, "0\n", "")
