"""All of a run's state as tensors and plain values, and back: what a checkpoint holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from yolo_cosine.config.load import dump_config

if TYPE_CHECKING:
    from yolo_cosine.engine.learner import Learner
    from yolo_cosine.engine.trainer import Trainer


def snapshot(trainer: Trainer) -> dict[str, Any]:
    """The state of a run between two steps. It loads with `weights_only=True`.

    Data order and augmentation need no state (they are functions of seed, epoch and image), and nor does the schedule
    (a function of the step, but for a plateau's, which is part of the progress).
    """
    learner = trainer.learner
    return {
        "model": trainer.model.state_dict(),
        "ema": trainer.ema.model.state_dict(),
        "ema_updates": int(trainer.ema.updates),
        "optimizer": trainer.optimizer.state_dict(),
        "gradients": learner.gradients_of_ranks if learner.window else None,
        "window": [
            (torch.from_numpy(np.asarray(images)), items)
            for images, (_, items) in zip(
                learner.images_of_ranks if learner.window else [], learner.window, strict=True
            )
        ],
        "statistics": list(learner.norms.saved()) if learner.window else None,
        "sums": learner.sums.cpu(),
        "steps_per_epoch": trainer.steps_per_epoch,
        "scaler": learner.scaler.state_dict(),
        "progress": vars(trainer.progress).copy(),
        "generator": torch.get_rng_state(),
        "config": dump_config(trainer.config),
        "names": list(trainer.loader.store.index.names),
        "data": dict(trainer.data_prints),
        "environment": dict(trainer.environment),
    }


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """Put a trainer that is built from the same configuration into the state of a snapshot."""
    learner, device = trainer.learner, trainer.precision.device
    trainer.model.load_state_dict(state["model"])
    trainer.ema.model.load_state_dict(state["ema"])
    trainer.ema.updates = state["ema_updates"]
    trainer.optimizer.load_state_dict(state["optimizer"])
    learner.gradients_of_ranks = state["gradients"]
    for parameter, gradient in zip(learner.trained, _own_gradients(learner, state["gradients"]), strict=True):
        # in the parameter's own layout, as autograd makes them: fused optimizers go through memory, not through indices
        parameter.grad = None if gradient is None else torch.empty_like(parameter).copy_(gradient)
    learner.images_of_ranks = [images.numpy() for images, _ in state["window"]]
    learner.window[:] = [
        (_own_images(learner, images), losses.to(device))
        for images, (_, losses) in zip(learner.images_of_ranks, state["window"], strict=True)
    ]
    learner.norms.keep(state["statistics"])
    learner.verdicts.clear()
    learner.sums.copy_(state["sums"])
    learner.scaler = trainer.precision.scaler()  # a new one: the old may be between its own steps
    if learner.scaler.is_enabled() and state["scaler"]:  # the run may have had another precision
        learner.scaler.load_state_dict(state["scaler"])
    for name, value in state["progress"].items():
        setattr(trainer.progress, name, value)
    if any(extension.step == trainer.progress.step for extension in trainer.config.extensions):
        # made longer here, it is at no end any more, and patience begins anew
        trainer.progress.stopped = trainer.progress.ending = False
        trainer.progress.last_improved = trainer.progress.step // trainer.steps_per_epoch
    if trainer.world.size > 1:
        trainer.progress.parts = 1  # one process has run out of memory, and several have more
    trainer.set_factor()
    torch.set_rng_state(state["generator"])


def _own_gradients(learner: Learner, of_ranks: list[list[Tensor]] | None) -> list[Tensor] | list[None]:
    """What this rank has summed up since the last update. Where there were more or fewer ranks the first one has it all."""
    if of_ranks is None:
        return [None] * len(learner.trained)
    if len(of_ranks) == learner.world.size:
        return of_ranks[learner.world.rank]
    return [
        sum(parts) if learner.world.is_main else torch.zeros_like(parts[0]) for parts in zip(*of_ranks, strict=True)
    ]


def _own_images(learner: Learner, of_ranks: np.ndarray) -> np.ndarray:
    """What this rank names of a batch before the resume, if need be: the first one names all of it."""
    return of_ranks if learner.world.is_main else of_ranks[:0]
