"""Several processes as one run, started by torchrun."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from yolo_cosine.engine.gradients import SummedGradients
from yolo_cosine.engine.launch import Launch
from yolo_cosine.engine.sync_norms import synchronise_norms
from yolo_cosine.engine.watch import LIKELY, Watch
from yolo_cosine.errors import Interrupted, UserError


@dataclass(frozen=True)
class World:
    """The processes of a run; one alone needs no process group.

    Tensors on the device go through the default group (NCCL on GPUs), words among the CPUs through one at its side, so
    that no GPU waits for them.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among those of this machine
    sync_norms: bool = True  # whether the norms' statistics are those of all processes together
    side: dist.ProcessGroup | None = None
    watch: Watch | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.side)
        return values

    def from_main(self, value: Any) -> Any:
        """The main process's value, on every rank."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.side)
        return values[0]

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on some rank; the same on every rank."""
        return self.each(flag)[0]

    def each(self, *flags: bool) -> tuple[bool, ...]:
        """`any` of several flags, by one message."""
        if self.size == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(raised, dist.ReduceOp.MAX, group=self.side)
        return tuple(bool(flag) for flag in raised.tolist())

    def total(self, values: Tensor) -> Tensor:
        """The sum over the ranks of a tensor on the device, on every rank: `values` itself, without gradients."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def stack(self, values: Tensor) -> Tensor:
        """The (n,) tensors on the devices of all ranks as (ranks, n), in their order, on every rank: without gradients."""
        rows = values.new_empty(self.size, len(values))
        # PyTorch 2.13 has given it another name
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        gather(rows, values)
        return rows

    def collect(self, tensors: list[Tensor]) -> list[list[Tensor]]:
        """Float32 tensors of one shape on every rank, on the CPU: those of all ranks in the main process, none elsewhere.

        Their layout in memory is kept, for sums are rounded by it.
        """
        if self.size == 1:
            return [tensors]
        own = torch.cat([tensor.detach().flatten() for tensor in tensors]).cpu()
        all_of_them = [torch.empty_like(own) for _ in range(self.size)] if self.is_main else None
        dist.gather(own, all_of_them, dst=0, group=self.side)
        sizes = [tensor.numel() for tensor in tensors]
        return [
            [
                torch.empty_like(tensor, device="cpu").copy_(part.view_as(tensor))
                for part, tensor in zip(flat.split(sizes), tensors, strict=True)
            ]
            for flat in all_of_them or []
        ]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier(group=self.side)

    @contextlib.contextmanager
    def first_here(self) -> Iterator[None]:
        """The first process of each machine goes ahead, and the others find what it has left."""
        if self.local_rank:
            self.barrier()
        try:
            yield
        finally:
            if not self.local_rank:
                self.barrier()

    def share_state(self, model: nn.Module) -> None:
        """Give every rank all that the main process's network, on the CPU, holds."""
        if self.size > 1:
            for value in model.state_dict().values():
                dist.broadcast(value, src=0, group=self.side)

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank the main process's buffers, where each takes the norms' statistics from its own images."""
        if self.size > 1 and not self.sync_norms:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def synchronise(self, model: nn.Module, device: torch.device) -> None:
        """Let the norms of a network be over all ranks, unless that is off. What is to stay a network of its own is to be
        copied before."""
        if self.size > 1 and self.sync_norms:
            synchronise_norms(model, device, self.total, self.stack)

    def gradients(self, parameters: list[nn.Parameter]) -> Callable[[bool], contextlib.AbstractContextManager]:
        """What a forward and backward pass is made in, told whether it closes an update: gradients are then those of all."""
        return (lambda closing: contextlib.nullcontext()) if self.size == 1 else SummedGradients(parameters)


def check_shares(batch: int, size: int) -> None:
    """Refuse a batch that processes cannot share out evenly.

    Raises:
        UserError: with the nearest that they can.
    """
    if batch % size:
        near = max(round(batch / size), 1) * size
        raise UserError(f"batch: {batch} cannot be shared by {size} processes; write a multiple of {size}, as {near}")


def join_world(launch: Launch | None, device: torch.device, sync_norms: bool, worker_timeout: float) -> World:
    """Make the processes of a launch one group; alone, if there is none.

    Args:
        worker_timeout: seconds that a thread may be at one batch.
    """
    if launch is None:
        return World()
    backend = "nccl" if device.type == "cuda" else "gloo"
    watch, patience = Watch(launch), _patience(worker_timeout)  # from now on: to meet is to wait, too
    dist.init_process_group(backend, store=launch.store, rank=launch.rank, world_size=launch.size, timeout=patience)
    side = dist.new_group(backend="gloo", timeout=_SIDE * patience)
    return World(launch.rank, launch.size, launch.local_rank, sync_norms, side, watch)


_SIDE = 4  # times as long: what the others wait there for, as that one reads the data, may be long


def _patience(worker_timeout: float) -> timedelta:
    """How long a process waits for another one. That one gives up a batch after twice `worker_timeout`, and says so."""
    return timedelta(seconds=min(max(3 * worker_timeout, 30 * 60), 7 * 24 * 3600))


def leave_world(world: World, error: BaseException | None = None) -> None:
    """Close the process group, if there is one; where this process has failed, the others are told and end too."""
    if world.size == 1:
        return
    assert world.watch is not None
    if isinstance(error, Interrupted) and error.agreed:
        error = None
    if error is not None:
        world.watch.tell(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    world.watch.stop()
    if error is None:
        dist.destroy_process_group()


_GONE = ("connection closed by peer", "connection reset by peer", "socket closed", "remote process exited")
_LATE = ("timed out waiting", "application timeout caused pair closure", "collective operation timeout")


def ended_by_others(error: RuntimeError, watch: Watch) -> str | None:
    """What an error of a collective says of other processes, that they are gone or late; None where it says no such thing.

    With what failed first, where that was told; else with all of the error, whose reason may be another one.
    """
    own = str(error).strip()
    gone, late = (any(words in own.lower() for words in each) for each in (_GONE, _LATE))
    if not gone and not late:
        return None
    if (told := watch.wait()) is not None:
        return f"another process of the run failed: {told}"
    if gone:
        text = f"another process of the run failed: one is gone without a word, {LIKELY}"
    else:
        waited = re.search(r"waiting (\d+) ?ms", own)
        within = f"within {int(waited[1]) / 60_000:g} minutes" if waited else "in time"
        text = (
            f"another process of the run did not come {within}; see what it said and whether its disk answers, or set "
            "worker_timeout higher: three times that is waited, and 30 minutes at least"
        )
    return f"{text}; this one was told: {own}"
