"""Training commands in processes of their own, forked from one that has imported everything, and ended on request.

A process that starts anew spends most of a small run's time on imports. `ForkServer` pays them once: a helper process
imports the product and forks for every command. It never computes anything itself, so that no thread and no state of
torch is there to be inherited. The forked process leaves the interpreter as any other does.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).parents[2]
HANGS = 124  # in the place of an exit code
_IMPORTED = (
    "yolo_cosine.train", "yolo_cosine.engine.run", "yolo_cosine.engine.resume", "yolo_cosine.sinks.tensorboard",
    "yolo_cosine.report.figures",
    # what takes a second when a run asks torch for deterministic kernels
    "torch._inductor.config",
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    """A change that a command made, or began to make, to a file below `runs`."""

    seconds: float  # since the command began
    kind: str  # open (to write), rename, remove, fsync, mkdir or truncate
    path: str  # relative to the folder of the command, as runs/run/weights/last.pt; of a rename, where to

    @property
    def place(self) -> str:
        """The folder or file of the run that it is about: checkpoints, weights, metrics.jsonl, ..."""
        return f"{self.path}///".split("/")[2]


@dataclass(frozen=True)
class Trap:
    """The place of a kill: when the `number`-th (from 1) such call is about to be made, or a little later.

    With a `delay` the kernel goes on with the call and ends the process inside it, or between it and the next: a
    write of some ten megabytes takes some ten milliseconds.
    """

    kind: str
    place: str
    number: int
    delay: float = 0.0  # seconds


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int  # the exit code; the negative number of the signal that ended the process
    seconds: float
    output: str  # standard output and error together
    calls: tuple[Call, ...]
    orphans: int  # processes that it started and that outlived it by some seconds

    @property
    def killed(self) -> bool:
        return self.code in (-signal.SIGKILL, -signal.SIGALRM)


class Process:
    """A command that runs."""

    def __init__(self, pid: int, connection: Connection) -> None:
        self.pid, self._connection, self.began = pid, connection, time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; returns whether the command has ended."""
        return self._connection.poll(max(seconds, 0))

    def send(self, number: signal.Signals) -> None:
        """Send a signal. The helper keeps the process number until the next command, so it never hits another."""
        os.kill(self.pid, number)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began


class ForkServer:
    """Runs training commands; a context manager."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "tests.faults.forks", str(theirs.fileno())]
        self._helper = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[theirs.fileno()])
        theirs.close()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        self._helper.wait()

    def run(
        self,
        arguments: list[str],
        folder: Path,
        log: Path,
        trap: Trap | None = None,
        disturb: Callable[[Process], object] | None = None,
        limit: float = 180.0,
    ) -> Outcome:
        """Run `yolo_cosine.train` with `arguments` in `folder`.

        Args:
            log: where output goes, and, with the suffix .calls, the calls.
            disturb: is called with the running process.
            limit: seconds after which the command is killed, and its exit code is `HANGS`.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        for path in (log, log.with_suffix(".calls")):  # a kill may come before the command opens them
            path.write_bytes(b"")
        self._connection.send((arguments, folder, log, trap))
        process = Process(self._connection.recv(), self._connection)
        hangs = False
        try:
            if disturb is not None:
                disturb(process)
            hangs = not process.wait(limit - process.seconds)
        finally:
            if not process.wait(0):
                process.send(signal.SIGKILL)
            code = self._connection.recv()
        code, seconds = HANGS if hangs else code, process.seconds
        output = log.read_text(encoding="utf-8", errors="replace")
        return Outcome(code, seconds, output, _read_calls(log), _count_orphans(process.pid))


def _read_calls(log: Path) -> tuple[Call, ...]:
    lines = [line.split(" ", 2) for line in log.with_suffix(".calls").read_text(encoding="utf-8").splitlines()]
    return tuple(Call(float(seconds), kind, path) for seconds, kind, path in lines)


def _count_orphans(group: int, patience: float = 5.0) -> int:
    """How many processes of the ended command's group are left after some seconds. Those are killed."""
    until = time.monotonic() + patience
    while left := _members(group):
        if time.monotonic() > until:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return len(left)
        time.sleep(0.05)
    return 0


def _members(group: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group, *_ = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def serve(connection: Connection) -> None:
    """Fork for every command that comes; ends with the connection. Only a forked process ever raises `SystemExit`."""
    for module in _IMPORTED:
        importlib.import_module(module)
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("an import has started a thread; a process forked beside it might hang")
    ended = None
    while True:
        try:
            arguments, folder, log, trap = connection.recv()
        except EOFError:
            return
        if ended is not None:
            os.waitpid(ended, 0)
        pid = os.fork()
        if pid == 0:
            connection.close()
            sys.exit(_command(arguments, folder, log, trap))
        connection.send(pid)
        ended = pid
        info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        connection.send(info.si_status if info.si_code == os.CLD_EXITED else -info.si_status)


def _command(arguments: list[str], folder: Path, log: Path, trap: Trap | None) -> int:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal; a shell's background job ignores it
    os.chdir(folder)
    null, out = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    _Watch(folder / "runs", log.with_suffix(".calls"), trap)
    from yolo_cosine import train

    return train.main(arguments)


class _Watch:
    """Notes every change to a file below `root`, and springs the trap. It sees Python's audit events, and `fsync`."""

    def __init__(self, root: Path, notes: Path, trap: Trap | None) -> None:
        self._root, self._trap, self._seen = f"{root}{os.sep}", trap, 0
        self._folder, self._pid, self._began = root.parent, os.getpid(), time.monotonic()
        self._notes = os.open(notes, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND)
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._watched(getattr(os, name)))
        sys.addaudithook(self._hook)

    def _watched(self, sync: Callable) -> Callable:
        def synced(file: int | object) -> None:
            number = file if isinstance(file, int) else file.fileno()
            self._note("fsync", os.readlink(f"/proc/self/fd/{number}"))
            sync(file)

        return synced

    def _hook(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
                self._note("open", path)
        elif event == "os.rename":
            self._note("rename", arguments[1])
        elif event in ("os.remove", "os.mkdir", "os.truncate"):
            self._note(event.removeprefix("os."), arguments[0])

    def _note(self, kind: str, path: object) -> None:
        if isinstance(path, int) or os.getpid() != self._pid:
            return
        path = os.path.abspath(os.fsdecode(path))
        if not path.startswith(self._root):
            return
        call = Call(time.monotonic() - self._began, kind, os.path.relpath(path, self._folder))
        os.write(self._notes, f"{call.seconds:.4f} {kind} {call.path}\n".encode())
        if self._trap is None or (kind, call.place) != (self._trap.kind, self._trap.place):
            return
        self._seen += 1
        if self._seen != self._trap.number:
            return
        if self._trap.delay:
            signal.setitimer(signal.ITIMER_REAL, self._trap.delay)  # ends the process in the kernel, without Python
        else:
            os.kill(self._pid, signal.SIGKILL)


if __name__ == "__main__":
    # by its own name, so that what is sent is of the same classes here and there
    importlib.import_module("tests.faults.forks").serve(Connection(int(sys.argv[1])))
