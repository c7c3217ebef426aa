"""Batch norms whose statistics are those of all processes' images together, as one process with all of them has them.

Source: Ioffe and Szegedy, Batch Normalization (arXiv 1502.03167), with the sums over the batch taken over all processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Total = Callable[[Tensor], Tensor]  # the sum of a tensor over the processes, the same on each
Stack = Callable[[Tensor], Tensor]  # the (n,) tensors of all R processes as (R, n), the same on each


def synchronise_norms(model: nn.Module, device: torch.device, total: Total, stack: Stack) -> None:
    """Let all batch norms of a network, where they train, take their statistics over the processes.

    Parameters, buffers and their names stay the same objects. A copy of a network is to be made before: what goes on
    without the others must not hold such norms.
    """
    kind = GpuSyncNorm2d if device.type == "cuda" else SyncNorm2d
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = kind  # what it holds stays as it is
            module.total, module.stack = total, stack


class SyncNorm2d(nn.BatchNorm2d):
    """A batch norm over all processes, on the CPU. It equals `nn.BatchNorm2d` on their images in one batch, to rounding.

    Each has (B, C, H, W) float32, bfloat16 or float64, in any memory format, with a B of its own. The statistics are of
    the dtype of the parameters as in PyTorch's, and added up in float64, for the mean is taken out of squares only then.
    """

    total: Total

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; where it does not train, by the running statistics and alone."""
        if not self.training:
            return super().forward(x)
        with torch.no_grad():
            count, mean, var = _statistics(x, self.weight.dtype, self.total)
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / max(count - 1, 1)), self.momentum)  # unbiased, as PyTorch keeps it
        return _Normalise.apply(x, self.weight, self.bias, mean, var, count, self.eps, self.total)


def _statistics(x: Tensor, dtype: torch.dtype, total: Total) -> tuple[float, Tensor, Tensor]:
    """How many values a channel has in all, and their (C,) mean and variance (over all of them, not one less) in `dtype`."""
    channels = x.shape[1]
    # own: how many, and of each channel the sum, and the sum of squares, by way of mean and variance, which lose nothing
    # without any running statistics, the results would be of the dtype of x
    unused = (torch.zeros(channels, dtype=dtype) for _ in range(2))
    mean, var = (v.double() for v in torch.batch_norm_update_stats(x, *unused, 0.0))
    own = mean.new_full((1,), x.numel() // channels)
    count, sums, squares = total(torch.cat((own, own * mean, own * (var + mean**2)))).split((1, channels, channels))
    mean = sums / count
    return count.item(), mean.to(dtype), (squares / count - mean**2).clamp_min_(0).to(dtype)


class _Normalise(torch.autograd.Function):
    """`(x - mean) / sqrt(var + eps) * weight + bias`, where mean and variance are functions of all processes' x.

    The gradients of weight and bias are each process's share: whoever averages gradients adds them up.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, count: float, eps: float, total: Total,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, weight, mean, var)
        ctx.count, ctx.eps, ctx.total = count, eps, total
        return torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, eps)[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        # sum(grad * (x - mean) / sd) and sum(grad)
        _, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, None, None, False, ctx.eps, [False, True, True]
        )
        sums = ctx.total(torch.cat((grad_weight, grad_bias)).double()).to(weight.dtype)
        # less what x does through everybody's variance and mean; rounded once, as PyTorch does it
        by_var, by_mean = (_of_channels(part) for part in (sums / ctx.count).chunk(2))
        sd = _of_channels((var + ctx.eps).sqrt())
        rest = (grad - by_mean).addcmul_(x - _of_channels(mean), by_var / sd, value=-1)
        return rest.mul_(_of_channels(weight) / sd).to(x.dtype), grad_weight, grad_bias, None, None, None, None, None


def _of_channels(values: Tensor) -> Tensor:
    return values[:, None, None]  # (C,) against (B, C, H, W)


class GpuSyncNorm2d(nn.BatchNorm2d):
    """A batch norm over all processes, on GPUs: `nn.SyncBatchNorm` by the same kernels, without waiting for the GPU.

    PyTorch's leaves out processes without images, and so the host has to know at every norm how many they are. Here each
    has some. (The norm for the CPU would run on a GPU as well, but in bfloat16 its backward pass moves four times the bytes
    of the kernels that are made for it.)
    """

    total: Total
    stack: Stack

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; where it does not train, by the running statistics and alone."""
        if not self.training:
            return super().forward(x)
        self.num_batches_tracked.add_(1)
        running = self.running_mean, self.running_var
        return _NormaliseOnGpu.apply(
            x, self.weight, self.bias, running, self.momentum, self.eps, self.total, self.stack
        )


class _NormaliseOnGpu(torch.autograd.Function):
    """As `_Normalise`, and the statistics before. The running ones are moved on the way."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, running: tuple[Tensor, Tensor], momentum: float, eps: float,
        total: Total, stack: Stack,
    ) -> Tensor:  # fmt: skip
        x, channels = _dense(x), x.shape[1]
        mean, inverse_sd = torch.batch_norm_stats(x, eps)
        own = mean.new_full((1,), x.numel() // channels)
        means, inverse_sds, counts = stack(torch.cat((mean, inverse_sd, own))).split((channels, channels, 1), 1)
        counts = counts.flatten()
        mean, inverse_sd = torch.batch_norm_gather_stats_with_counts(
            x, means, inverse_sds, *running, momentum, eps, counts.to(running[0].dtype)
        )
        ctx.save_for_backward(x, weight, mean, inverse_sd, counts.int())
        ctx.total = total
        return torch.batch_norm_elemt(x, weight, bias, mean, inverse_sd, eps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_sd, counts = ctx.saved_tensors
        grad = _dense(grad)
        # sum(grad), sum(grad * (x - mean)), and of each process its share
        *sums, grad_weight, grad_bias = torch.batch_norm_backward_reduce(
            grad, x, mean, inverse_sd, weight, True, True, True
        )
        sums = ctx.total(torch.cat(sums)).chunk(2)
        grad_x = torch.batch_norm_backward_elemt(grad, x, mean, inverse_sd, weight.to(mean.dtype), *sums, counts)
        return grad_x, grad_weight, grad_bias, None, None, None, None, None


def _dense(x: Tensor) -> Tensor:
    """In one of the two layouts that the kernels know."""
    return x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()
