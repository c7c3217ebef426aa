"""Several processes as one run, started by torchrun."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from yolo_cosine.errors import UserError


@dataclass(frozen=True)
class World:
    """The processes of a run; one alone needs no process group."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_main(self, value: Any) -> Any:
        """The main process's value, on every rank."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on some rank; the same on every rank."""
        return flag if self.size == 1 else any(self.gather(flag))

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over the ranks of a tensor of one shape, on every rank."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank the main process's buffers (the norms' statistics, which each rank takes from its own images)."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The others wait until the main process is through, so that a file is downloaded once."""
        if self.size > 1 and not self.is_main:
            dist.barrier()
        try:
            yield
        finally:
            if self.size > 1 and self.is_main:
                dist.barrier()

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The network with its gradients averaged over the ranks."""
        if self.size == 1:
            return model
        ids = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids, find_unused_parameters=False)


def join_world(device: torch.device, batch: int) -> World:
    """Join the process group that torchrun's environment names; alone, if there is none.

    Raises:
        UserError: if the batch cannot be shared out evenly.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return World()
    if batch % size:
        raise UserError(f"batch: {batch} cannot be shared by {size} processes; write a multiple of {size}")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(dist.get_rank(), dist.get_world_size())


def leave_world(world: World) -> None:
    """Close the process group, if there is one."""
    if world.size > 1:
        dist.destroy_process_group()
