"""Batch norms whose statistics are those of all processes' images together, as one process with all of them has them.

Source: Ioffe and Szegedy, Batch Normalization (arXiv 1502.03167), with the sums over the batch taken over all processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Total = Callable[[Tensor], Tensor]  # the sum of a tensor over the processes, the same on each


def synchronise_norms(model: nn.Module, device: torch.device, total: Total) -> None:
    """Let all batch norms of a network, where they train, take their statistics over the processes.

    On GPUs PyTorch's own module takes their place, which does not run on a CPU. Parameters, buffers and their names stay
    the same objects. A copy of a network is to be made before: what goes on without the others must not hold such norms.
    """
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncNorm2d  # what it holds stays as it is
            module.total = total


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
