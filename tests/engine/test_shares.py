"""In float64, where rounding is out of the way: shares of a batch have its gradients, through real networks and the loss."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from yolo_cosine.data.targets import Targets
from yolo_cosine.engine.sync_norms import synchronise_norms
from yolo_cosine.model import detector
from yolo_cosine.model.loss import DetectionLoss


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def batch(images, size):
    """Random images, each with 4 boxes and a crowd, of which one or the other may be missing."""
    corners = torch.rand(2, images, 4, 2) * size
    crowds = torch.rand(2, images, 1, 2) * size
    boxes = [torch.cat((c.amin(0), c.amax(0) + 4), 2).float() for c in (corners, crowds)]
    valid, crowd_valid = torch.rand(images, 4) < 0.8, torch.rand(images, 1) < 0.5
    targets = Targets(boxes[0], torch.randint(3, (images, 4)), valid, boxes[1], crowd_valid)
    return torch.rand(images, 3, size, size).contiguous(memory_format=torch.channels_last), targets


def trained(model, pixels, targets, **share):
    """Loss items, and all gradients and running statistics, by name, after a forward and backward pass."""
    detector.train_mode(model, [0, 1])
    loss = DetectionLoss(model, box=7.5, cls=0.5, dfl=1.5, epochs=3)
    value, items = loss(detector.Rows(model)(pixels), pixels.shape[2:], targets, **share)
    value.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return items, gradients, dict(model.named_buffers())


@pytest.mark.parametrize("architecture", ["yolo11n.yaml", "yolo26n.yaml"])
@pytest.mark.parametrize("sizes", [(3, 2), (1, 2, 2)], ids=str)
def test_together_they_have_the_gradients_of_the_batch(architecture, sizes, double):
    torch.manual_seed(1)
    model = detector.build_detector(architecture, ("a", "b", "c")).double().to(memory_format=torch.channels_last)
    detector.freeze(model, 2)
    images, targets = batch(sum(sizes), 64)
    models = [copy.deepcopy(model) for _ in sizes]
    items, gradients, buffers = trained(model, images, targets)

    barrier, parts = threading.Barrier(len(sizes), timeout=60), {}

    def total(values):
        parts[threading.get_ident()] = values
        barrier.wait()
        summed = sum(parts.values())
        barrier.wait()
        return summed

    def share(rank):
        mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        synchronise_norms(models[rank], torch.device("cpu"), total, None)
        return trained(models[rank], images[mine], targets[mine], images=len(images), total=total)

    with ThreadPoolExecutor(len(sizes)) as pool:
        shares = list(pool.map(share, range(len(sizes))))
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert (sum(found[name] for _, found, _ in shares) - gradient).abs().max() < 1e-10 * largest, name
    for own_items, _, own_buffers in shares:
        torch.testing.assert_close(own_items, items, rtol=1e-10, atol=0)
        torch.testing.assert_close(own_buffers, buffers, rtol=1e-10, atol=1e-12)
    assert len(gradients) > 100 and largest > 1e-3
