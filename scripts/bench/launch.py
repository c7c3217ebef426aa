"""Measured processes: each is begun, watched, and read back from a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from yolo_cosine.errors import TrainingFailed

SCRIPTS = Path(__file__).parents[1]
_LOOK_EVERY = 5.0  # seconds between two looks at a process's memory; each look walks all of its pages
_TAIL = 12  # lines of a failed process's log that are shown


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a measured process: it imports this tree, and downloads nothing."""
    paths = [str(SCRIPTS), str(SCRIPTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "YOLO_OFFLINE": "1",
        "MPLBACKEND": "Agg",
        **(extra or {}),
    }


def ask(module: str) -> dict[str, Any]:
    """What `python -m module` prints as JSON.

    Raises:
        TrainingFailed: with the end of what it said, if it fails.
    """
    done = subprocess.run([sys.executable, "-m", module], env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise TrainingFailed(f"python -m {module} failed:\n{_tail(done.stderr)}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(
    module: str, spec: Mapping[str, Any], folder: Path, extra: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run `python -m module SPEC RESULT STARTED` in `folder` and return what it wrote, and its memory.

    `STARTED` is the time (seconds since 1970) just before the process began. The memory is `host_peak`, bytes: of the
    process itself, or of it and its helpers together, what they share counted once; up to the end of the training, where
    the process tells it.

    Raises:
        TrainingFailed: with the end of its log, if it fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result, log = folder / "result.json", folder / "log.txt"
    (folder / "spec.json").write_text(json.dumps(spec, indent=1), encoding="utf-8")
    result.unlink(missing_ok=True)
    load = os.getloadavg()[0]
    with open(log, "wb") as out:
        started = time.time()
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(folder / "spec.json"), str(result), repr(started)],
            env=environment(extra), stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            looks = _watch(process)
        finally:  # also on Ctrl-C
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode or not result.exists():
        text = log.read_text(encoding="utf-8", errors="replace")
        raise TrainingFailed(f"{module} ended with {process.returncode}; its log, {log}, ends with\n{_tail(text)}")
    found = json.loads(result.read_text(encoding="utf-8"))
    trained = started + found.get("about", {}).get("total_seconds", float("inf"))
    together = [size for at, size in looks if at <= trained]  # what is measured afterwards needs memory of its own
    return {**found, "host_peak": max([found.pop("own_peak", 0), *together]), "load_before": load}


def _watch(process: subprocess.Popen) -> list[tuple[float, int]]:
    """Wait for the end; returns when (seconds since 1970) the process and its helpers had how many bytes together."""
    looks, head = [], psutil.Process(process.pid)
    while process.poll() is None:
        with suppress(psutil.Error, OSError):
            helpers = head.children(recursive=True)
            if helpers:  # alone it knows its own peak, and is left in peace
                size = sum(_memory(each) for each in (head, *helpers))
                looks.append((time.time(), size))
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_EVERY)
    return looks


def _memory(process: psutil.Process) -> int:
    """Bytes in memory; what it shares with n others counts for an n-th."""
    with suppress(psutil.Error, OSError):
        info = process.memory_full_info()
        return getattr(info, "pss", info.rss)
    return 0


def _tail(text: str) -> str:
    lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in lines[-_TAIL:])
