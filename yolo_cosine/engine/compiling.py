"""Network and loss made into fewer, larger kernels by PyTorch's compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from yolo_cosine.data.targets import Targets
from yolo_cosine.errors import UserError, first_line

_WORTH = 5000  # steps from which on a minute or two of compiling is won back
_LEAST = 16  # boxes of an image
_KINDS_OF_TARGETS = 16  # by their shapes: powers of two of boxes and of regions to ignore


def resolve_compile(
    choice: str,
    device: torch.device,
    steps: int,
    accumulate: Callable[[int], float],
    multi_scale: float,
    processes: int,
) -> str:
    """`auto` is `default` for long runs on a GPU and `off` elsewhere: on CPUs compiling took minutes and won nothing.

    `max-autotune` is without CUDA graphs where gradients are summed up over batches: they lie in a graph's memory, and the
    next batch writes over it (PyTorch's issue 169545).

    Args:
        steps: of the run.
        accumulate: batches of an update, by step.

    Raises:
        UserError: if it cannot be had here.
    """
    possible = find_spec("triton") is not None or device.type == "cpu"
    if choice == "auto":
        compiled = device.type == "cuda" and possible and steps >= _WORTH and not multi_scale and processes == 1
        return "default" if compiled else "off"
    if choice != "off" and not possible:
        raise UserError(
            f"compile: {choice!r} needs the package triton for {device.type}; install it, or write compile: off"
        )
    if choice != "off" and multi_scale:
        raise UserError(
            f"compile: {choice!r} makes kernels for one size of images, and multi_scale: {multi_scale} has many; "
            "write compile: off, or multi_scale: 0"
        )
    if choice != "off" and processes > 1:
        raise UserError(
            f"compile: {choice!r} is for a run of one process, and this one has {processes}; write compile: off"
        )
    if choice == "max-autotune" and any(accumulate(step) > 1 for step in range(steps)):
        return "max-autotune-no-cudagraphs"
    return choice


class Compiled:
    """A training step's network and loss, compiled for whole batches; others (the last of an epoch) go as ever.

    Compilation happens at the first whole batch. Where it fails and `fall_back` is there, that is told why, and all goes
    uncompiled.
    """

    def __init__(
        self, network: Callable[[Tensor], Any], loss: Callable[..., tuple[Tensor, Tensor]], mode: str, shape: tuple[int, ...],
        fall_back: Callable[[str], None] | None = None, backend: str = "inductor",
    ):  # fmt: skip
        """
        Args:
            mode: default, max-autotune (with CUDA graphs) or max-autotune-no-cudagraphs.
            shape: of the images of a whole batch.
            backend: of `torch.compile`.
        """
        from torch._functorch import config as functorch  # only now: it takes a second to import

        self._plain, self._shape, self._fall_back = (network, loss), shape, fall_back
        limits = torch._dynamo.config
        limits.cache_size_limit = max(limits.cache_size_limit, _KINDS_OF_TARGETS)
        if hasattr(functorch, "force_non_lazy_backward_lowering"):
            # the backward pass together with the forward one, where what fails is caught, and not in the first `backward()`
            functorch.force_non_lazy_backward_lowering = True
        options = {"dynamic": False, "backend": backend, **({"mode": mode} if backend == "inductor" else {})}
        self._network = torch.compile(network, **options)
        self._loss = torch.compile(loss, fullgraph=True, **options)
        self._graphs = mode == "max-autotune" and backend == "inductor"

    def __call__(self, images: Tensor, targets: Targets, autocast: Any) -> tuple[Tensor, Tensor]:
        """What the loss returns for a batch on the device: the sum to differentiate, and the items."""
        if tuple(images.shape) != self._shape:
            return self._run(self._plain, images, targets, autocast)
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()
        try:
            loss, items = self._run((self._network, self._loss), images, _in_few_shapes(targets), autocast)
        except Exception as error:  # whatever a compiler comes upon
            _tell(error, self._fall_back)
            self._shape = ()
            return self._run(self._plain, images, targets, autocast)
        return (loss, items.clone()) if self._graphs else (loss, items)  # a graph writes over what it returned before

    @staticmethod
    def _run(
        parts: tuple[Callable, Callable], images: Tensor, targets: Targets, autocast: Any
    ) -> tuple[Tensor, Tensor]:
        network, loss = parts
        with autocast:
            outputs: Mapping[str, Any] = network(images)
        return loss(outputs, tuple(images.shape[2:]), targets)


class CompiledFunction:
    """A function of tensors as one compiled piece; where that fails and `fall_back` is there, it is told why, and the
    function is called as it is from then on."""

    def __init__(
        self, plain: Callable[..., Tensor], fall_back: Callable[[str], None] | None = None, backend: str = "inductor"
    ):
        self._plain, self._fall_back = plain, fall_back
        self._call = torch.compile(plain, fullgraph=True, backend=backend)

    def __call__(self, *arguments: Any) -> Tensor:
        """What the function returns."""
        try:
            return self._call(*arguments)
        except Exception as error:
            if self._call is self._plain:
                raise
            _tell(error, self._fall_back)
            self._call = self._plain
            return self._plain(*arguments)


def _tell(error: Exception, fall_back: Callable[[str], None] | None) -> None:
    """Tell why there is no compiled code; raise the error again where nobody is to be told, or memory is all that lacks."""
    if fall_back is None or isinstance(error, torch.OutOfMemoryError):
        raise error
    # the first line of some only says which part of the compiler failed
    cause = getattr(error, "inner_exception", error)
    fall_back(f"{type(cause).__name__}: {first_line(cause)}")


def _in_few_shapes(targets: Targets) -> Targets:
    """The same targets with as many places as the next power of two has: each shape is compiled by itself."""
    boxes = _power(targets.boxes.shape[1], _LEAST) - targets.boxes.shape[1]
    crowds = targets.crowds.shape[1] and _power(targets.crowds.shape[1], _LEAST) - targets.crowds.shape[1]
    return Targets(
        boxes=functional.pad(targets.boxes, (0, 0, 0, boxes)),
        classes=functional.pad(targets.classes, (0, boxes)),
        valid=functional.pad(targets.valid, (0, boxes)),
        crowds=functional.pad(targets.crowds, (0, 0, 0, crowds)),
        crowd_valid=functional.pad(targets.crowd_valid, (0, crowds)),
    )


def _power(count: int, least: int) -> int:
    return max(least, 1 << (count - 1).bit_length())
