"""A copy of a network for evaluation that is made once and filled again and again."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import Conv, Detect

from yolo_cosine.model.detector import inference_copy


class InferenceCopy:
    """A copy for evaluation (`inference_copy`, channels last) of networks of one architecture: made once, and filled anew."""

    def __init__(self, max_det: int, nms: bool | str = "auto") -> None:
        self._max_det, self._nms = max_det, nms
        self._copy: nn.Module | None = None
        self._pairs: _Pairs | None = None  # of the last network that it was filled from

    def of(self, model: nn.Module) -> nn.Module:
        """The copy, with the present weights of `model`; it holds until the next call."""
        if self._copy is not None and (self._pairs is None or self._pairs.model is not model):
            self._pairs = _pairs(model, self._copy)
        if self._pairs is None:
            copied = inference_copy(model, self._max_det, self._nms)
            self._copy = copied.to(memory_format=torch.channels_last)
        else:
            self._pairs.fill()
        return self._copy


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The modules of a network and those of its fused copy that hold what they hold."""

    model: nn.Module
    merged: list[tuple[Conv, Conv]]  # whose norm is part of the copy's convolution
    same: list[tuple[nn.Module, nn.Module]]

    @torch.no_grad()
    def fill(self) -> None:
        """Bring the weights over, as `fuse_conv_bn_weights` of PyTorch would for each convolution, all at once."""
        convolutions, norms = [one.conv for one, _ in self.merged], [one.bn for one, _ in self.merged]
        inverse = torch._foreach_add([n.running_var for n in norms], [n.eps for n in norms])
        torch._foreach_rsqrt_(inverse)
        scales = torch._foreach_mul([n.weight for n in norms], inverse)
        weights = torch._foreach_mul([c.weight for c in convolutions], [s.view(-1, 1, 1, 1) for s in scales])
        biases = torch._foreach_neg([n.running_mean for n in norms])
        torch._foreach_mul_(biases, inverse)
        torch._foreach_mul_(biases, [n.weight for n in norms])
        torch._foreach_add_(biases, [n.bias for n in norms])
        targets = [copied.conv for _, copied in self.merged]
        torch._foreach_copy_([t.weight for t in targets] + [t.bias for t in targets], weights + biases)
        values = [(_tensors(copied), _tensors(one)) for one, copied in self.same]
        torch._foreach_copy_(*(list(chain.from_iterable(part)) for part in zip(*values, strict=True)))


def _pairs(model: nn.Module, copied: nn.Module) -> _Pairs | None:
    """None if a part is fused in another way than a norm into its convolution."""
    modules, merged, same = dict(model.named_modules()), [], []
    for name, module in copied.named_modules():
        source = modules.get(name)
        if not isinstance(source, type(module)):
            return None
        gone = {part for part, _ in source.named_children()} - {part for part, _ in module.named_children()}
        if gone == {"bn"} and type(source).forward is Conv.forward and source.conv.bias is None:
            merged.append((source, module))
        elif gone and not isinstance(source, Detect):  # whose other branch is not asked
            return None
    convolutions = {id(module.conv) for _, module in merged}
    for name, module in copied.named_modules():
        if id(module) in convolutions:
            continue
        shapes, wanted = ([t.shape for t in _tensors(m)] for m in (modules[name], module))
        if shapes != wanted:
            return None
        if wanted:
            same.append((modules[name], module))
    return _Pairs(model, merged, same)


def _tensors(module: nn.Module) -> list[Tensor]:
    """A module's own, without those of its parts, and without what is not saved with it."""
    kept = {
        **module._parameters,
        **{k: v for k, v in module._buffers.items() if k not in module._non_persistent_buffers_set},
    }
    return [tensor for tensor in kept.values() if tensor is not None]
