"""What each of several processes has of its own in a checkpoint, and where there are more or fewer after a resume."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from yolo_cosine.engine import distributed
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.learner import Learner
from yolo_cosine.engine.snapshot import _own_gradients, _own_images


def own(rank, size, of_ranks):
    return _own_gradients(SimpleNamespace(world=World(rank, size), trained=[None] * 2), of_ranks)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_gradients_of_an_open_update_stay_the_same_in_sum(size):
    torch.manual_seed(0)
    of_ranks = [[torch.randn(3), torch.randn(2, 2)] for _ in range(2)]
    found = [own(rank, size, of_ranks) for rank in range(size)]
    for k in range(2):
        torch.testing.assert_close(sum(each[k] for each in found), of_ranks[0][k] + of_ranks[1][k])
    if size == 2:  # and to go on bit for bit each has what it had
        assert found == of_ranks
    assert own(0, size, None) == [None, None]


class Pair(World):
    """Two processes, of which the other has these images."""

    def gather(self, value):
        return [value, [images + 10 for images in value]]


def test_the_images_of_an_open_update_are_those_of_all():
    """And each is named once, if the update comes to nothing after a resume."""
    batches = [np.array([4, 2]), np.array([7])]
    learner = SimpleNamespace(world=Pair(0, 2), trained=[], window=[(images, None) for images in batches])
    learner.world.__dict__["collect"] = lambda tensors: [tensors]
    Learner.collect(learner)
    assert [images.tolist() for images in learner.images_of_ranks] == [[4, 2, 14, 12], [7, 17]]
    saved = learner.images_of_ranks[0]
    named = [_own_images(SimpleNamespace(world=World(rank, 2)), saved) for rank in (0, 1)]
    assert [images.tolist() for images in named] == [[4, 2, 14, 12], []]


def test_norms_of_their_own_are_shared_and_those_of_all_are_not(monkeypatch):
    sent = []
    monkeypatch.setattr(distributed.dist, "broadcast", lambda tensor, src: sent.append((tensor, src)))
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    apart, together = World(1, 2, sync_norms=False), World(1, 2)
    apart.synchronise(model, torch.device("cpu"))
    assert type(model[1]) is nn.BatchNorm2d
    for world in (together, World(sync_norms=False)):
        world.share_buffers(model)
    assert sent == []
    apart.share_buffers(model)
    assert [id(tensor) for tensor, _ in sent] == [id(b) for b in model.buffers()] and {src for _, src in sent} == {0}
    together.synchronise(model, torch.device("cpu"))
    assert type(model[1]) is not nn.BatchNorm2d
