"""A measured run of Ultralytics' trainer: `python -m bench.theirs SPEC RESULT STARTED`, begun by `bench.launch`.

Callbacks note the times; nothing of the trainer is changed but what would go to the network.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from bench.clock import Clock

_READY = 4  # batches that each of its workers makes ahead


class Callbacks:
    """What notes the times of a run, in Ultralytics' own events."""

    def __init__(self, clock: Clock, threads: int | None, keeps_weights: bool) -> None:
        self.clock, self.threads, self.keeps_weights = clock, threads, keeps_weights
        self._images = 0

    def attach(self, model) -> None:
        """Register with a `YOLO`."""
        for name in (
            "on_pretrain_routine_start", "on_train_epoch_start", "on_train_batch_end", "on_train_epoch_end", "on_val_end",
            "on_model_save", "on_fit_epoch_end",
        ):  # fmt: skip
            model.add_callback(name, getattr(self, name))

    def on_pretrain_routine_start(self, trainer) -> None:
        """Set PyTorch's threads, which the trainer has just set to one fewer than there are cores."""
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)

    def on_train_epoch_start(self, trainer) -> None:
        """An epoch begins where the one before ended; or again, where memory ran out or a loss was no number."""
        epochs, begun = self.clock.epochs, None
        if epochs and "ended" not in epochs[-1]:
            begun = epochs.pop()["begun"]  # what the attempt took counts
        elif epochs:
            begun = epochs[-1]["ended"]
        self.clock.begin_epoch(begun)
        self._images = 0

    def on_train_batch_end(self, trainer) -> None:
        """Count images; note the first update."""
        self._images += trainer.train_loader.batch_size
        if self.clock.first_step is None and trainer.ema.updates:
            self.clock.first_step = self.clock.now()

    def on_train_epoch_end(self, trainer) -> None:
        """Training of the epoch is over. Its last batch may have been smaller, unless it was dropped."""
        import torch

        self.clock.end_training(min(self._images, len(trainer.train_loader.dataset)))
        half = "bf16" if trainer.args.amp == "bf16" else "fp16"
        self.clock.about.update(
            threads=torch.get_num_threads(), workers=trainer.train_loader.num_workers,
            precision=half if trainer.amp else "fp32", updates=trainer.ema.updates, batch=trainer.batch_size,
            final_lr=[group["lr"] for group in trainer.optimizer.param_groups],
        )  # fmt: skip

    def on_val_end(self, validator) -> None:
        """The evaluation of an epoch is over (the one of the end, of best.pt, is not of an epoch)."""
        epoch = self.clock.epochs[-1]
        if "eval_seconds" not in epoch:
            epoch["eval_seconds"] = self.clock.now() - epoch["trained"]
            epoch["forward_seconds"] = validator.speed["inference"] * validator.seen / 1e3

    def on_model_save(self, trainer) -> None:
        """The epoch's weights are on disk, and can be evaluated some other time."""
        if self.keeps_weights:
            weights = str(trainer.wdir / f"epoch{trainer.epoch}.pt")
            own = trainer.metrics.get("metrics/mAP50-95(B)")
            self.clock.evaluations.append(
                {"epoch": trainer.epoch, "at": self.clock.now(), "weights": weights, "own_map": float(own)}
            )

    def on_fit_epoch_end(self, trainer) -> None:
        """All of an epoch is done. Called once more after the evaluation of the end."""
        if "ended" not in self.clock.epochs[-1]:
            self.clock.end_epoch()


def pass_amp_check(amp: Any, device: str) -> list[str]:
    """Take the check of amp as passed where it would download a network; returns what was done, in words."""
    if device == "cpu" or amp is not True:
        return []
    from ultralytics.engine import trainer

    trainer.check_amp = lambda model: True
    return ["Ultralytics' check of amp, which downloads yolo26n.pt, is taken as passed"]


def prefetch_note(images: int, batch: int, workers: int) -> list[str]:
    """A note where an epoch has fewer than twice the batches that the loader makes ready during the evaluation before."""
    steps = -(-images // batch)
    if steps >= 2 * _READY * workers:
        return []
    return [
        f"Ultralytics' loader makes up to {_READY * workers} batches ready during an evaluation, and an epoch has {steps}: its "
        "img/s look better than they are; take more images, or go by the epoch with evaluation"
    ]


def main(spec_path: str, result: str, started: str) -> int:
    """Train as SPEC says and write RESULT."""
    with open(spec_path, encoding="utf-8") as file:
        spec = json.load(file)
    arguments = spec["arguments"]
    if spec["stand_in"]:
        from bench import standin

        standin.install()
    from ultralytics import YOLO

    notes = pass_amp_check(arguments.get("amp", True), arguments["device"])
    clock, keeps_weights = Clock(float(started)), spec["keep_weights"]
    model = YOLO(arguments["model"])
    Callbacks(clock, spec["threads"], keeps_weights).attach(model)
    rest = {key: value for key, value in arguments.items() if key != "model"}
    model.train(**rest, **({"save_period": 1} if keeps_weights else {}))
    clock.end_run()
    if clock.about["batch"] != arguments["batch"]:
        notes.append(f"Ultralytics ran out of memory and went on with batch {clock.about['batch']}")
    notes += prefetch_note(clock.epochs[-1]["images"], clock.about["batch"], clock.about["workers"])
    clock.write(result, notes=notes)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
