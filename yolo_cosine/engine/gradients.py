"""Gradients that are added up over the processes of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

_MOST = 2**21  # values in a message, unless one parameter has more


class SummedGradients:
    """Sums the gradients of parameters over the processes, piece by piece while the backward pass is still under way.

    The pieces are the same from the first update on. DistributedDataParallel makes others after its first, and how a sum
    over more than two processes is rounded depends on the place in a message: a run that goes on would differ.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], most: int = _MOST) -> None:
        self._pieces = _pieces(parameters, most)
        self._piece_of = {parameter: k for k, piece in enumerate(self._pieces) for parameter in piece}
        self._missing: list[int] = []  # of each piece, how many gradients are still to come
        self._sent: list[tuple[Tensor, dist.Work]] = []  # messages under way, of the first pieces
        self._listening = False
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._arrived)

    @contextlib.contextmanager
    def __call__(self, closing: bool) -> Iterator[None]:
        """For a forward and backward pass. After one that closes an update all gradients since the last are summed."""
        if not closing:
            yield
            return
        self._missing, self._sent, self._listening = [len(piece) for piece in self._pieces], [], True
        try:
            yield
            while len(self._sent) < len(self._pieces):  # what this pass did not come by
                self._send()
            for piece, (flat, work) in zip(self._pieces, self._sent, strict=True):
                work.wait()
                gradients = [parameter.grad for parameter in piece]
                parts = flat.split([gradient.numel() for gradient in gradients])
                torch._foreach_copy_(gradients, [p.view(g.shape) for p, g in zip(parts, gradients, strict=True)])
        finally:
            self._listening, self._sent = False, []

    @torch.no_grad()
    def _arrived(self, parameter: nn.Parameter) -> None:
        if not self._listening:
            return
        self._missing[self._piece_of[parameter]] -= 1
        # in their order, for all processes must send the same
        while len(self._sent) < len(self._pieces) and not self._missing[len(self._sent)]:
            self._send()

    def _send(self) -> None:
        piece = self._pieces[len(self._sent)]
        for parameter in piece:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([parameter.grad.flatten() for parameter in piece])
        self._sent.append((flat, dist.all_reduce(flat, async_op=True)))


def _pieces(parameters: Sequence[nn.Parameter], most: int) -> list[list[nn.Parameter]]:
    """The parameters from the last to the first, about in the order in which a backward pass comes by them."""
    pieces: list[list[nn.Parameter]] = []
    room = 0
    for parameter in reversed(parameters):
        if parameter.numel() > room:
            pieces.append([])
            room = most
        pieces[-1].append(parameter)
        room -= parameter.numel()
    return pieces
