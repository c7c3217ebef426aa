"""What a run saves and when it finds no room for it: checkpoints to go on from, and weights for Ultralytics."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from yolo_cosine import events
from yolo_cosine.config.load import dump_config
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.engine.checkpoint import CheckpointFolder, pack_state, write_checkpoint
from yolo_cosine.engine.snapshot import snapshot
from yolo_cosine.errors import TrainingFailed
from yolo_cosine.files import replace_file
from yolo_cosine.model.weights import export_ultralytics

if TYPE_CHECKING:
    from yolo_cosine.engine.trainer import Trainer


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class _File:
    """Something to be written; a checkpoint where it has facts for a sidecar."""

    data: bytes
    facts: Mapping[str, Any] | None
    waits: bool  # for room, where there is none: nothing later replaces it


@dataclass
class Saver:
    """Writes the checkpoints and exported weights of a run.

    A full disk does not end a run. Older checkpoints make room; what still finds none is given up, for the next save
    holds all of it, but for the best weights, which wait in memory until there is room.
    """

    run_dir: Path
    folder: CheckpointFolder
    emit: Callable[[events.Event], None]
    trouble: OSError | None = None  # why the last save is not complete, if it is not
    waiting: dict[Path, _File] = field(default_factory=dict)
    behind: Callable[[], bool] = lambda: False  # whether the record lacks something that was told
    _config: bytes | None = None  # as written

    def begin(self, trainer: Trainer) -> None:
        """Make sure that a starting run can be gone on with from its first step, and that a run that goes on has the
        weights that belong to its checkpoint: the process before may have been killed between the two.

        Raises:
            TrainingFailed: if nothing can be written.
        """
        progress, best = trainer.progress, _is_best(trainer)
        path = self._path(trainer)
        if not self.folder.has(path):
            self._write({path: self._checkpoint(trainer, best)}, progress.step)
        if progress.step and not progress.evaluation_due:
            files = self._exports(trainer, best)
            if progress.best_step is not None and not best:
                marked, state = self.folder.best()
                if marked is not None and marked.step == progress.best_step + 1:
                    files |= {
                        self._weights("best"): self._export(trainer, progress.best_epoch or 0, True, state["ema"])
                    }
            self._write(files, progress.step)
            self._tell_saved(progress.last_step, best)
        if self.trouble is not None:
            raise TrainingFailed(f"{self.run_dir}: cannot be written: {self._reason}; make room and start it again")

    def save(self, trainer: Trainer, best: bool) -> None:
        """Write the checkpoint of this moment, `weights/last.pt` and, for the best, `weights/best.pt`."""
        step = trainer.progress.last_step
        if self._saved(trainer, best):
            return
        marked = next((m for m in self.folder.marked() if self.folder.has(m.path)), None)
        kept = f"the checkpoint after {marked.step} steps is whole" if marked else "there is no whole checkpoint"
        text = f"{self.run_dir}: cannot be saved: {self._reason}; the run goes on, {kept}; make room"
        self.emit(events.Incident("disk", text, step))

    def finish(self, trainer: Trainer) -> None:
        """At the end of a run: what could not be saved is tried once more, and lost then.

        Raises:
            TrainingFailed: if that is so.
        """
        if self.trouble is not None and not self._saved(trainer, _is_best(trainer)):
            raise TrainingFailed(
                f"{self.run_dir}: the end of the run could not be saved: {self._reason}; what was saved before is whole; "
                f"make room and go on with --resume {self.run_dir}"
            )

    def _saved(self, trainer: Trainer, best: bool) -> bool:
        """Write all that belongs to this moment, and say so; False where there is no room for it."""
        progress, before = trainer.progress, self.trouble
        self._let_the_record_catch_up(progress.last_step, progress.step)
        path = self._path(trainer)
        there = path in self.waiting or self.folder.has(path)
        if there and not (best or self.waiting or before):
            return True  # a moment ago, with its weights: a stop was asked for at that step
        files = {} if there else {path: self._checkpoint(trainer, best)}
        self._write({**self.waiting, **files, **self._exports(trainer, best)}, progress.step)
        if self.trouble is not None:
            return False
        if before is not None:
            self.emit(events.Notice("there is room again: the run is saved", step=progress.last_step))
        self._tell_saved(progress.last_step, best)
        return True

    def write_config(self, config: RunConfig) -> None:
        """Write `config.yaml`, the configuration that repeats the run; `save` does when it has become another.

        Raises:
            OSError: if it cannot be written.
        """
        self._config = dump_config(config).encode()
        replace_file(self.run_dir / "config.yaml", [self._config])

    @property
    def _reason(self) -> str:
        return str(self.trouble and (self.trouble.strerror or self.trouble))

    def _write(self, files: Mapping[Path, _File], step: int) -> None:
        self.trouble, self.waiting = None, {}
        for path, file in files.items():
            try:
                self._put(path, file, step)
            except OSError as error:
                self.trouble = error
                if file.waits:
                    self.waiting[path] = file

    def _put(self, path: Path, file: _File, step: int) -> None:
        def write() -> None:
            if file.facts is None:
                replace_file(path, [file.data])
            else:
                write_checkpoint(path, file.data, file.facts)

        if file.facts is not None and self.behind():
            raise OSError(errno.ENOSPC, "the record of the run cannot be written")
        try:
            write()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self.folder.prune(step, keep=1)  # room, if older checkpoints can make it
            write()
        if file.facts is not None:
            self.folder.prune(step)

    def _let_the_record_catch_up(self, step: int, done: int) -> None:
        """A checkpoint with a later step than the record has would leave a gap in it for good."""
        self.emit(events.Saving(step))
        if self.behind():
            self.folder.prune(done, keep=1)
            self.emit(events.Saving(step))

    def _path(self, trainer: Trainer) -> Path:
        return self.folder.place(trainer.progress.step, not trainer.progress.evaluation_due)

    def _checkpoint(self, trainer: Trainer, best: bool) -> _File:
        progress = trainer.progress
        epoch = max(progress.last_step, 0) // trainer.steps_per_epoch
        facts = {"step": progress.step, "epoch": epoch, "best": best, "metrics": finite_only(progress.best_scalars)}
        return _File(pack_state(snapshot(trainer)), facts, best)

    def _exports(self, trainer: Trainer, best: bool) -> dict[Path, _File]:
        epoch = max(trainer.progress.last_step, 0) // trainer.steps_per_epoch
        last = self._export(trainer, epoch, False)
        files = {self._weights("last"): last}
        config = dump_config(trainer.config).encode()
        if config != self._config:  # after the checkpoint that knows it, too
            files[self.run_dir / "config.yaml"] = _File(config, None, True)
            self._config = config
        return files | ({self._weights("best"): _File(last.data, None, True)} if best else {})

    def _export(self, trainer: Trainer, epoch: int, waits: bool, ema: Mapping[str, Tensor] | None = None) -> _File:
        metrics, config = finite_only(trainer.progress.best_scalars), trainer.config.model_dump()
        return _File(export_ultralytics(trainer.ema.model, config, metrics, epoch, weights=ema), None, waits)

    def _weights(self, kind: str) -> Path:
        return self.run_dir / "weights" / f"{kind}.pt"

    def _tell_saved(self, step: int, best: bool) -> None:
        self.emit(events.Saved(step, self._weights("last"), False))
        if best:
            self.emit(events.Saved(step, self._weights("best"), True))


def _is_best(trainer: Trainer) -> bool:
    """Whether the latest evaluation, after the last step, is better than all before."""
    progress = trainer.progress
    return progress.best_step is not None and progress.best_step == progress.last_step


def finite_only(scalars: Mapping[str, float]) -> dict[str, float]:
    """The scalars that JSON can write."""
    return {name: value for name, value in scalars.items() if math.isfinite(value)}
