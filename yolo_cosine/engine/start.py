"""How a run begins: at its first step, with its own state, or with that of another run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.engine.checkpoint import CheckpointFolder
from yolo_cosine.engine.launch import launched
from yolo_cosine.engine.resume import Extend, branch, find_run, resume

_RUN = "run"  # what the run's folder is remembered as


@dataclass(frozen=True)
class Start:
    """Where a run begins, if not at its first step."""

    run_dir: Path | None = None  # the run's own folder, if it goes on there
    state: dict[str, Any] | None = None  # of several processes the main one has it, the others may have an empty one
    record_of: Path | None = None  # the folder of the run (or fork) whose record comes before its own
    same_data: bool = False  # whether it must have been begun with the same data
    forks: frozenset[int] = frozenset()  # numbers of steps after which its state is put aside for other runs
    shared_batches: Path | None = None  # a folder for the batches that several runs on this machine train on
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def goes_on(self) -> bool:
        """Whether it is the run itself that goes on, and not another that begins from its state."""
        return self.run_dir is not None


Begun = tuple[RunConfig, Start]


def from_run(given: str, root: Path, overrides: Sequence[str], extend: Extend | None) -> Begun:
    """The run that is named, or the newest one in `root`, going on; UserError as `resume` raises it."""
    return _read_by_main("resume", lambda: _resumed(find_run(given, root), overrides, extend))


def from_other(source: str, overrides: Sequence[str]) -> Begun:
    """A new run that branches off another one; UserError as `branch` raises it."""

    def read() -> Begun:
        config, state, run_dir = branch(source, overrides)
        note = f"branching off {source} after {state['progress']['step']} steps"
        return config, Start(state=state, record_of=run_dir, notes=(note,))

    return _read_by_main("branch", read)


def after_restart() -> Begun | None:
    """The run that these processes had begun before torchrun started them anew, if it was saved."""
    launch = launched()
    if launch is None or not launch.attempt:
        return None

    def read() -> Begun | None:
        run_dir = launch.recall(_RUN)
        if run_dir is None or not CheckpointFolder(Path(run_dir) / "checkpoints").marked():
            return None
        config, start = _resumed(Path(run_dir), (), None)
        note = f"torchrun has started the processes anew, {launch.attempt} time(s) by now; the run goes on"
        return config, replace(start, warnings=(note, *start.warnings))

    return _read_by_main("restart", read)


def remember(run_dir: Path) -> None:
    """Let the processes that torchrun may start in place of these know which run they are to go on with."""
    launch = launched()
    if launch is not None and launch.rank == 0:
        launch.remember(_RUN, str(run_dir.absolute()))


def _resumed(run_dir: Path, overrides: Sequence[str], extend: Extend | None) -> Begun:
    found = resume(run_dir, overrides, extend)
    return found.config, Start(found.run_dir, found.state, notes=found.notes, warnings=found.warnings)


def _read_by_main(name: str, read: Callable[[], Begun | None]) -> Any:
    """What the main process reads, for the others may not see its disk; they get the state once they are one group."""
    launch = launched()
    if launch is None:
        return read()
    own: list[Begun | None] = []

    def without_state() -> Begun | None:
        own.append(read())
        return own[0] and (own[0][0], replace(own[0][1], state={}))

    told = launch.from_main(name, without_state)
    return own[0] if own else told
