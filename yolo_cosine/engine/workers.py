"""How many threads feed the network."""

from __future__ import annotations

import os

import torch


def resolve_workers(workers: int | str, device: torch.device) -> int:
    """`auto`: one thread beside a network that runs on the CPU, else as many as there are cores, 16 at most."""
    if workers != "auto":
        return max(int(workers), 1)
    return 1 if device.type == "cpu" else min(os.cpu_count() or 1, 16)
