"""Several processes as one run, started by torchrun."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from yolo_cosine.errors import Interrupted, UserError


@dataclass(frozen=True)
class World:
    """The processes of a run; one alone needs no process group."""

    rank: int = 0
    size: int = 1
    side: dist.ProcessGroup | None = None  # for words among the CPUs, so that no GPU waits for them
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
        if self.size == 1:
            return flag
        raised = torch.tensor(int(flag))
        dist.all_reduce(raised, dist.ReduceOp.MAX, group=self.side)
        return bool(raised)

    def all(self, flag: torch.Tensor) -> torch.Tensor:
        """Whether a flag, () bool on the training device, is up on every rank: there, without the host waiting for it."""
        if self.size == 1:
            return flag
        lowest = flag.to(torch.uint8)
        dist.all_reduce(lowest, dist.ReduceOp.MIN)
        return lowest.bool()

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
            dist.barrier(group=self.side)

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank the main process's buffers (the norms' statistics, which each rank takes from its own images)."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The others wait until the main process is through, so that a file is downloaded once."""
        if not self.is_main:
            self.barrier()
        try:
            yield
        finally:
            if self.is_main:
                self.barrier()

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
    store, rank, size = next(dist.rendezvous("env://"))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store, rank=rank, world_size=size)
    return World(rank, size, dist.new_group(backend="gloo"), Watch(rank))


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


class Watch:
    """Ends this process soon after another one of the run has failed: a collective would wait for that one for minutes.

    It has a connection of its own to the store that torchrun keeps, for the process group's may be waiting in a call.
    """

    _EVERY, _GRACE = 0.3, 2.0  # seconds

    def __init__(self, rank: int) -> None:
        self._rank = rank
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        connection = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=60))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun's --max-restarts
        self._store = dist.PrefixStore(f"yolo-cosine-watch-{attempt}", connection)
        self._over = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def tell(self, text: str) -> None:
        """Say that this process has failed; the first to say so is believed."""
        with contextlib.suppress(RuntimeError), self._lock:  # the store is gone with its keeper
            if not self._store.check(["failed"]):
                self._store.set("failed", f"rank {self._rank}: {text}")

    def heard(self) -> str | None:
        """Which process has failed, and why; None where none said so."""
        try:
            with self._lock:
                return self._store.get("failed").decode() if self._store.check(["failed"]) else None
        except RuntimeError:
            return None

    def wait(self) -> str | None:
        """The same after a moment, for one that fails is noticed before it can say why."""
        for _ in range(round(self._GRACE / self._EVERY)):
            if (text := self.heard()) is not None:
                return text
            time.sleep(self._EVERY)
        return None

    def stop(self) -> None:
        """Watch no more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self._EVERY):
            text = self.heard()
            # the error of a collective comes by itself, mostly
            if text is not None and not self._over.wait(self._GRACE):
                print(f"error: another process of the run failed: {text}", file=sys.stderr, flush=True)
                os._exit(1)


_GONE = (
    "connection closed by peer", "connection reset by peer", "socket closed", "remote process exited", "nccl error",
)  # fmt: skip


def ended_elsewhere(error: BaseException) -> bool:
    """Whether an error says that another process of the run is gone."""
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _GONE)
