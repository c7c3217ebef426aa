"""The folder of an ablation: one process at a time, one specification, and runs that belong to it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from yolo_cosine.ablation.job import changed_settings, is_begun
from yolo_cosine.ablation.plan import Plan
from yolo_cosine.ablation.spec import Ablation, load_ablation
from yolo_cosine.engine.lock import RunLock
from yolo_cosine.errors import UserError, some_of
from yolo_cosine.files import replace_file

_SPEC = "ablation.yaml"


def take_folder(ablation: Ablation, plan: Plan) -> RunLock:
    """Make the folder, or find that the ablation can go on in it; it is this process's until the lock is released.

    Runs that are there must be of the configurations that they have now. Others may be added: more seeds, more variants.

    Raises:
        UserError: if the folder is of something else, of an ablation with other settings, or in use.
    """
    folder, lock = ablation.folder, RunLock()
    # a lock, or a part of a file, is what is left of this command where it was killed early
    if not (folder / _SPEC).is_file() and folder.is_dir() and any(p.name[0] != "." for p in folder.iterdir()):
        raise UserError(
            f"{folder}: is there already and is no ablation's; give the ablation another name, or other runs"
        )
    _check_runs(folder, plan)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.take(folder)
        replace_file(folder / _SPEC, [ablation.source().encode()])
    except OSError as error:
        lock.release()
        raise UserError(
            f"runs: {folder} cannot be written: {error.strerror or error}; name another folder for the runs"
        ) from None
    except BaseException:
        lock.release()
        raise
    return lock


def saved_ablation(folder: str | os.PathLike, overrides: Iterable[str] = ()) -> Ablation:
    """The ablation that a folder is of, as it was last begun or gone on with; wherever the folder lies now.

    Args:
        overrides: `key=value` of how its results are looked at, as metric=mAP50.

    Raises:
        UserError: if it is none.
    """
    folder = Path(folder)
    if not (folder / _SPEC).is_file():
        raise UserError(f"{folder}: is no folder of an ablation: it has no {_SPEC}; name one, as runs/schedulers")
    return load_ablation(folder / _SPEC, overrides, folder)


def saved_threads(folder: Path) -> int | None:
    """The threads that the runs of an ablation were begun with: with another number sums are rounded in another order."""
    if not (folder / _SPEC).is_file():
        return None
    threads = saved_ablation(folder).keys.threads
    return None if threads == "auto" else threads


def _check_runs(folder: Path, plan: Plan) -> None:
    wrong = []
    for run in plan.runs:
        if is_begun(run.folder) and (said := changed_settings(run.folder, run.config)):
            wrong.append(f"{run.variant}, seed {run.seed}: {said}")
    if wrong:
        raise UserError(
            f"{folder}: its runs were begun with other settings ({some_of(wrong, separator='; ')}); put them back, or give the "
            "ablation another name"
        )
