"""Values of a GPU for the host, which goes on until it needs them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def to_host(*values: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """Start copying tensors of one device to the host; what is returned waits for the copies and gives them."""
    if values[0].device.type != "cuda":
        return lambda: tuple(value.cpu() for value in values)
    # pinned, or the host would wait for each copy
    copies = tuple(torch.empty(v.shape, dtype=v.dtype, pin_memory=True).copy_(v, non_blocking=True) for v in values)
    event = torch.cuda.current_stream(values[0].device).record_event()  # the current device may be another one

    def wait() -> tuple[Tensor, ...]:
        event.synchronize()
        return copies

    return wait
