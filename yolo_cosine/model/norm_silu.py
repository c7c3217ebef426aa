"""Batch norm and the SiLU after it as one operation on the CPU, where both are bound by memory.

PyTorch passes over the images eleven times for the two, forward and backward, and keeps what lies between them; `norm_silu.c` passes
over them seven times, and keeps the input alone.
"""

from __future__ import annotations

import ctypes
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from yolo_cosine import kernels
from yolo_cosine.model.detector import convolutions

_SUFFIXES = {torch.float32: "float32", torch.bfloat16: "bf16"}


def fuse_norms(model: nn.Module) -> int:
    """Let each convolution's norm and activation be one operation in training; returns how many are.

    Modules, parameters and buffers stay as they are, and so does what the network computes but for rounding. In evaluation mode (frozen
    layers), and where an activation is another one, nothing changes. Only for networks on the CPU, channels last.
    """
    if kernels.load("model/norm_silu") is None:
        return 0
    fit = [module for module in convolutions(model) if _is_fit(module)]
    for module in fit:
        module.forward = MethodType(_forward, module)
    return len(fit)


def _is_fit(module: nn.Module) -> bool:
    norm = module.bn
    plain = type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats and norm.momentum is not None
    return plain and type(module.act) in (nn.SiLU, nn.Identity)


def _forward(self: nn.Module, x: Tensor) -> Tensor:
    x = self.conv(x)
    if not self.bn.training or x.dtype not in _SUFFIXES:
        return self.act(self.bn(x))
    return norm_silu(x, self.bn, isinstance(self.act, nn.SiLU))


def norm_silu(x: Tensor, norm: nn.BatchNorm2d, silu: bool = True) -> Tensor:
    """`silu(norm(x))` in training mode; `norm`'s running statistics are updated.

    Args:
        x: (B, C, H, W) float32 or bfloat16 on the CPU.
        silu: False for the norm alone.

    Returns:
        The same shape and dtype, channels last.

    Raises:
        ValueError: for one value in a channel, which has no variance (as `nn.BatchNorm2d`).
    """
    rows = x.numel() // x.shape[1]
    if rows < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
    z, mean, variance = _NormSiLU.apply(x, norm.weight, norm.bias, norm.eps, silu)
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (rows / (rows - 1)), norm.momentum)
    return z


class _NormSiLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, silu: bool):
        x = x.contiguous(memory_format=torch.channels_last)
        z, mean, variance = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        _call("forward", x, (x, z, weight, bias, mean, variance), eps, silu)
        ctx.save_for_backward(x, weight, bias, mean, variance)
        ctx.eps, ctx.silu = eps, silu
        ctx.mark_non_differentiable(mean, variance)
        return z, mean, variance

    @staticmethod
    def backward(ctx: Any, dz: Tensor, *_: Tensor):
        x, weight, bias, mean, variance = ctx.saved_tensors
        dz = dz.contiguous(memory_format=torch.channels_last)
        dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        _call("backward", x, (x, dz, dx, weight, bias, mean, variance, dweight, dbias), ctx.eps, ctx.silu)
        return dx, dweight, dbias, None, None


def _call(name: str, x: Tensor, tensors: tuple[Tensor, ...], eps: float, silu: bool) -> None:
    library = kernels.load("model/norm_silu")
    rows, channels = x.numel() // x.shape[1], x.shape[1]
    failed = getattr(library, f"{name}_{_SUFFIXES[x.dtype]}")(
        *(ctypes.c_void_p(t.data_ptr()) for t in tensors),
        ctypes.c_long(rows), ctypes.c_long(channels), ctypes.c_float(eps), int(silu), torch.get_num_threads(),
    )  # fmt: skip
    if failed:
        raise MemoryError("no memory for a norm's sums")
