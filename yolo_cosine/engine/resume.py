"""Going on with a run: where it was, whether it may go on as it is asked to, and what it becomes if it is made longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from yolo_cosine.config.explain import validate
from yolo_cosine.config.load import apply_overrides, dump_config, load_config
from yolo_cosine.config.schema import HARMLESS, ExtensionConfig, RunConfig
from yolo_cosine.config.yaml_text import parse_yaml
from yolo_cosine.engine.checkpoint import CheckpointFolder, load_checkpoint, pack_state, write_checkpoint
from yolo_cosine.engine.fork import copy_told
from yolo_cosine.engine.saving import finite_only
from yolo_cosine.errors import UserError

if TYPE_CHECKING:
    from yolo_cosine.engine.trainer import Trainer

Extend = Literal["stretch", "continue", "restart"]

# Keys that change what is computed, but not in what the run is: the result is as good, and not the same to the last bit.
_TOLD = {"device", "precision", "deterministic"}
_WAYS = (
    "--extend stretch (the curve as if the run had always been that long; the rate jumps to it now), "
    "--extend continue (the curve to its end, then its last rate is held), or "
    "--extend restart (the decay once more, from the present rate down)"
)


@dataclass(frozen=True)
class Resumed:
    """A run that goes on: its configuration, its state and what a user should be told."""

    run_dir: Path
    config: RunConfig
    state: dict[str, Any]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]  # of what is not as it was, or not as it should be


def find_run(given: str, root: Path) -> Path:
    """The folder of a run: the one that is named, or the one in `root` that was written to last.

    Raises:
        UserError: if there is none.
    """
    if given:
        run_dir = Path(given)
        if not (run_dir / "config.yaml").is_file():
            raise UserError(f"--resume: {run_dir} is no folder of a run: it has no config.yaml; name one below {root}")
        return run_dir
    runs = [path.parent for path in root.glob("*/metrics.jsonl") if (path.parent / "config.yaml").is_file()]
    if not runs:
        raise UserError(f"--resume: there is no run in {root} to go on with; name its folder")
    return max(runs, key=lambda run: (run / "metrics.jsonl").stat().st_mtime)


def resume(run_dir: Path, overrides: Sequence[str], extend: Extend | None) -> Resumed:
    """A run's last whole state, with the configuration to go on with.

    Raises:
        UserError: if no checkpoint is whole, or the configuration was changed in what cannot change under way.
    """
    begun = load_config(run_dir / "config.yaml")
    apply_overrides(begun, overrides)  # a mistake in them is told first
    marked, state, problems = CheckpointFolder(run_dir / "checkpoints").newest()
    if marked is None:
        what = f"; {'; '.join(problems)}" if problems else ""
        raise UserError(f"{run_dir}: has no whole checkpoint to go on from{what}; begin the run anew")
    saved = _saved_config(state, begun)
    if begun.time is not None and saved.time is None:
        # killed after it found its length and before its configuration said so
        begun = begun.model_copy(update={"epochs": saved.epochs, "time": None})
    elif begun.epochs != saved.epochs and (begun.time, begun.extensions) == (saved.time, saved.extensions):
        raise UserError(
            f"{run_dir}/config.yaml: epochs: {begun.epochs} is not what the run was begun with, {saved.epochs}; put it back, "
            "and make the run longer with epochs=... --extend ..."
        )
    wanted = apply_overrides(begun, overrides)
    warnings = [f"passed over: {problem}" for problem in problems]
    warnings += _check_changes(saved, wanted, run_dir)
    notes = []
    if wanted.epochs != begun.epochs:
        wanted, note = _longer(begun, wanted, extend, marked.step)
        notes.append(note)
    elif extend is not None:
        raise UserError(
            f"--extend: the run has epochs={begun.epochs} already; say how long it shall be, as in epochs=200"
        )
    notes.append(f"going on after {marked.step} steps, from {marked.path.name}")
    return Resumed(run_dir, wanted, state, tuple(notes), tuple(warnings))


def _saved_config(state: dict[str, Any], begun: RunConfig) -> RunConfig:
    """The configuration that a checkpoint was made with."""
    if "config" not in state:
        return begun
    return validate(parse_yaml(state["config"], "the checkpoint"), "the configuration in the checkpoint")


def changed_keys(before: RunConfig, after: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The keys with another value, before and after, but for those that change nothing in what is computed."""
    a, b = before.model_dump(), after.model_dump()
    return {key: (a[key], b[key]) for key in sorted(a) if a[key] != b[key] and key not in HARMLESS}


def _check_changes(begun: RunConfig, wanted: RunConfig, run_dir: Path) -> list[str]:
    changed = changed_keys(begun, wanted)
    for key in ("epochs", "extensions", *(["time"] if wanted.time is None else [])):  # a time has been measured since
        changed.pop(key, None)
    refused = {key: values for key, values in changed.items() if key not in _TOLD}
    if refused:
        shown = ", ".join(f"{key} (was {was!r}, now {now!r})" for key, (was, now) in refused.items())
        raise UserError(
            f"{run_dir}: a run goes on with the configuration that it was begun with, and this would change {shown}; "
            "leave that out, or begin a new run from its weights (weights=.../weights/last.pt)"
        )
    return [
        f"{key} was {was!r} and is {now!r} now: the run goes on, but not bit for bit"
        for key, (was, now) in changed.items()
    ]


def _longer(begun: RunConfig, wanted: RunConfig, extend: Extend | None, step: int) -> tuple[RunConfig, str]:
    if wanted.epochs < begun.epochs:
        raise UserError(
            f"epochs: {wanted.epochs} is less than the run's {begun.epochs}; a run cannot be made shorter, stop it instead"
        )
    if extend is None:
        raise UserError(
            f"epochs: {wanted.epochs} is more than the run's {begun.epochs}, and its learning rates were made for "
            f"{begun.epochs}; say what becomes of them: {_WAYS}"
        )
    extension = ExtensionConfig(how=extend, step=step, epochs=begun.epochs)
    config = wanted.model_copy(update={"extensions": [*begun.extensions, extension]})
    return (
        config,
        f"the run is {wanted.epochs} epochs long from here on and was {begun.epochs}: {extend}, at step {step}",
    )


def branch(source: str, overrides: Sequence[str]) -> tuple[RunConfig, dict[str, Any], Path]:
    """A new run that begins with the state of another and lets its learning rate decay from there.

    Args:
        source: folder of a run (its newest checkpoint) or one of its checkpoints.
        overrides: `epochs`, where the new run ends, and `curve`, the shape of its decay, among others.

    Returns:
        The new run's configuration, the state to begin with, and the folder of the run that it comes from.

    Raises:
        UserError: if there is no such run or checkpoint, or it cannot branch there.
    """
    path = Path(source)
    run_dir = path.parent.parent if path.suffix == ".pt" else path
    if not (run_dir / "config.yaml").is_file():
        raise UserError(f"--branch: {source} is neither a run's folder nor a checkpoint in it; name one")
    begun = load_config(run_dir / "config.yaml")
    if path.suffix == ".pt":
        try:
            state = load_checkpoint(path)
        except ValueError as error:
            raise UserError(f"--branch: {error}; name another checkpoint") from None
    else:
        marked, state, problems = CheckpointFolder(run_dir / "checkpoints").newest()
        if marked is None:
            raise UserError(f"--branch: {run_dir} has no whole checkpoint{''.join(f'; {p}' for p in problems)}")
    given = [o.partition("=")[0] for o in overrides]
    wanted = apply_overrides(begun, overrides)
    if "epochs" not in given:
        raise UserError(
            "--branch: say where the new run ends, as in epochs=60; its decay takes what is left until then"
        )
    if "name" not in given:
        wanted = wanted.model_copy(update={"name": f"{run_dir.resolve().name}-branch"})
    # the new decay may be another one; the steps before it stay what they were
    extension = ExtensionConfig(
        how="decay", step=state["progress"]["step"], epochs=begun.epochs, curve=wanted.curve, lrf=wanted.lrf
    )
    wanted = wanted.model_copy(update={"curve": begun.curve, "lrf": begun.lrf})
    _check_changes(begun, wanted, run_dir)
    return wanted.model_copy(update={"extensions": [*begun.extensions, extension]}), state, run_dir


def copy_past(source: Path, trainer: Trainer) -> list[str]:
    """Give a run the records and the best checkpoint of the run or fork that it begins from; returns what to say.

    The sinks drop what the records say of the steps that it takes anew. The best checkpoint becomes the run's own, with
    its configuration, so that it could go on from there too.

    Raises:
        UserError: if there is no room.
    """
    run_dir, progress = trainer.run_dir, trainer.progress
    is_best = progress.best_step is not None and progress.best_step == progress.last_step  # of the state itself
    best = None if is_best else CheckpointFolder(source / "checkpoints").best_after(progress.best_step)
    try:
        copy_told(source, run_dir)
        if best is not None:
            state = {**load_checkpoint(best.path), "config": dump_config(trainer.config)}
            metrics = finite_only(progress.best_scalars)
            facts = {"step": best.step, "epoch": progress.best_epoch, "best": True, "metrics": metrics}
            write_checkpoint(run_dir / "checkpoints" / best.path.name, pack_state(state), facts)
    except ValueError:  # damaged
        best = None
    except OSError as error:
        raise UserError(
            f"{run_dir}: cannot be written: {error.strerror or error}; make room, or name other runs"
        ) from None
    if best or is_best or progress.best_step is None:
        return []
    # its weights are gone, so it could be neither exported nor evaluated: the branch finds a best of its own
    progress.best, progress.best_epoch, progress.best_step = -1.0, None, None
    progress.best_scalars, progress.best_per_class = {}, {}
    return [f"the best weights so far of {source} are not kept; the best of the branch is that of its own evaluations"]
