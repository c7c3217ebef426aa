"""Gradients summed over processes: in the same messages from the first update on, while the backward pass is under way."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from yolo_cosine.engine import gradients
from yolo_cosine.engine.gradients import SummedGradients

RANKS = 3  # processes, of which the others have the same gradients


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 1)
        self.unused = nn.Parameter(torch.ones(2))
        self.events = []

    def forward(self, x):
        x = self.first(x)
        x.register_hook(lambda grad: self.events.append("backward is at the first"))
        return self.second(x)


class Work:
    def __init__(self, flat):
        self.flat = flat

    def wait(self):
        self.flat *= RANKS


@pytest.fixture
def network(monkeypatch):
    torch.manual_seed(0)
    network = Network().to(memory_format=torch.channels_last)

    def all_reduce(flat, async_op):
        assert async_op
        network.events.append(flat.clone())
        return Work(flat)

    monkeypatch.setattr(gradients.dist, "all_reduce", all_reduce)
    return network


def passed(network, summed, closings):
    """The gradients after passes over the same images, and what happened meanwhile."""
    network.events.clear()
    network.zero_grad(set_to_none=True)
    for closing in closings:
        with summed(closing):
            network(torch.ones(2, 2, 5, 5)).pow(2).sum().backward()
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()], list(network.events)


@pytest.mark.parametrize("batches", [1, 3])
def test_one_message_for_each_piece_when_an_update_closes(network, batches):
    expected, _ = passed(network, lambda closing: torch.enable_grad(), [True] * batches)
    summed = SummedGradients(list(network.parameters()), most=15)
    closings = [False] * (batches - 1) + [True]
    found, happened = passed(network, summed, closings)
    for ours, alone, parameter in zip(found, expected, network.parameters(), strict=True):
        assert torch.equal(ours, torch.zeros_like(parameter) if alone is None else RANKS * alone)
    # the last layer's is sent before the backward pass is at the first; what has no gradient comes at its end
    sizes = [event if isinstance(event, str) else len(event) for event in happened]
    assert sizes == ["backward is at the first"] * (batches - 1) + [3 + 12, "backward is at the first", 4, 72, 2]
    again, happened_again = passed(network, summed, closings)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    assert all(
        a is b or a == b if isinstance(a, str) else torch.equal(a, b)
        for a, b in zip(happened, happened_again, strict=True)
    )


def test_nothing_is_sent_before_an_update_closes(network):
    summed = SummedGradients(list(network.parameters()))
    expected, _ = passed(network, lambda closing: torch.enable_grad(), [True, True])
    found, happened = passed(network, summed, [False, False])
    assert not [event for event in happened if not isinstance(event, str)]
    assert all(a is b or torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    # and a pass that failed leaves nothing behind
    with pytest.raises(ValueError, match="in the middle"), summed(True):
        raise ValueError("in the middle")
    assert not [event for event in passed(network, summed, [False])[1] if not isinstance(event, str)]
