"""Which number format the network runs in, and on which device."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import torch

from yolo_cosine.errors import UserError
from yolo_cosine.processor import cpu_facts


def resolve_device(name: str | int) -> torch.device:
    """`auto` is the first GPU if there is one, else the CPU; under torchrun `auto` and `cuda` are each process's own GPU.

    A GPU becomes PyTorch's current one, so that streams, waits and figures of memory that name none are this one's.

    Raises:
        UserError: if there is no such device here.
    """
    name = str(name)
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank}"
    elif int(os.environ.get("WORLD_SIZE", 1)) > 1 and (name.isdigit() or name.startswith("cuda:")):
        raise UserError(f"device: {name!r} would put every process on one GPU; under torchrun write auto or cuda")
    try:
        device = torch.device(f"cuda:{name}" if name.isdigit() else name)
    except RuntimeError:
        raise UserError(f"device: {name!r} is no device; write auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise UserError(f"device: {name!r} is not here; PyTorch sees {count} GPU(s); write device: auto or cpu")
        torch.cuda.set_device(device)
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device: 'mps' is not here; write device: auto or cpu")
    elif device.type not in {"cpu", "mps"}:
        raise UserError(f"device: {name!r} is not supported; write auto, cpu, cuda, cuda:1 or mps")
    return device


@dataclass(frozen=True)
class Precision:
    """How the network's operations are run; weights, loss and optimizer are always float32."""

    name: str  # bf16, fp16 or fp32
    device: torch.device

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context in which the network runs."""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.name)
        if dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss where gradients could underflow (fp16); elsewhere it does nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16" and self.device.type == "cuda")


def resolve_precision(name: str, device: torch.device) -> Precision:
    """`auto`: bf16 where the hardware is faster at it, fp16 on older GPUs, float32 elsewhere.

    Raises:
        UserError: if the device cannot do what was asked for.
    """
    if name == "auto":
        if device.type == "cuda":
            name = "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
        else:
            name = "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise UserError(f"precision: 'fp16' needs a GPU, and the device is {device.type}; write bf16, fp32 or auto")
    return Precision(name, device)


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 faster than float32.

    AMX does, sixteen times; AVX512-BF16 does on AMD (Zen 4: twice) and not on Intel, whose CPUs without AMX take twice as long for a
    convolution in bf16 as in float32. Elsewhere bf16 would be emulated.
    """
    if _probe("_is_amx_tile_supported"):
        return True
    return _probe("_is_avx512_bf16_supported") and "AuthenticAMD" in cpu_facts()


def _probe(name: str) -> bool:
    check = getattr(torch.cpu, name, None)
    return check is not None and check()
