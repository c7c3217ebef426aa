"""The loss and its assigner, against Ultralytics'."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from ultralytics.utils.loss import E2ELoss, v8DetectionLoss
from ultralytics.utils.tal import TaskAlignedAssigner

from yolo_cosine.data.targets import Targets, pad_targets
from yolo_cosine.model.loss import DetectionLoss

GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5, "epochs": 10}
STRIDES = [(8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64), (16,)]
HEADS = {"yolo11": (16, False), "yolov10": (16, True), "yolo26": (1, True)}  # bins, end to end
BOXES = ("any", "tiny", "huge", "outside", "same", "edge", "line")


class Net(nn.Module):
    """All of a network that the losses look at."""

    def __init__(self, head="yolo11", classes=3, strides=(8, 16, 32)):
        super().__init__()
        bins, end_to_end = HEADS[head]
        self.stride = torch.tensor([float(s) for s in strides])
        self.weight = nn.Parameter(torch.zeros(1))
        head = SimpleNamespace(stride=self.stride, nc=classes, reg_max=bins)
        if end_to_end:
            head.one2one_cv2 = head
        self.model, self.args = [head], SimpleNamespace(**GAINS)


class Unfilled(TaskAlignedAssigner):
    """Their assigner, but for the places that no anchor aligns for, which torch.topk fills as it happens to."""

    def select_topk_candidates(self, metrics, topk_mask=None):
        return super().select_topk_candidates(metrics, topk_mask) * (metrics > 0)


def peer(net, fill=False):
    """Ultralytics' loss, its parts, and what their assigners have answered."""
    end_to_end = hasattr(net.model[0], "one2one_cv2")
    criterion = E2ELoss(net) if end_to_end else v8DetectionLoss(net)
    parts = [criterion.one2many, criterion.one2one] if end_to_end else [criterion]
    answers = []
    for part in parts:
        if not fill:
            part.assigner.__class__ = Unfilled
        part.assigner.register_forward_hook(lambda module, given, answer: answers.append(answer))
    return criterion, parts, answers


def boxes_of(kinds, size, stride, rng):
    """(K, 4) float32 xyxy: a box of each kind; `same` is the one before."""
    height, width = size
    extent = np.array([width, height])
    found = [np.array([1.0, 2, 30, 20])]
    for kind in kinds:
        low, side = rng.uniform(0, 1, 2) * extent, rng.uniform(0.05, 0.9, 2) * extent
        side = {"tiny": rng.uniform(0.1, 3, 2), "huge": 3 * extent, "line": np.array([0, 20.0])}.get(kind, side)
        low = {"huge": -extent * rng.uniform(0, 0.9, 2), "outside": extent + 1}.get(kind, low)
        box = np.concatenate((low, low + side))
        if kind == "edge":  # on the centres of anchors
            box = np.round(box / stride) * stride + stride / 2
        found.append(found[-1] if kind == "same" else box)
    return np.array(found[1:], np.float32).reshape(-1, 4)


def targets_of(images, classes, size, stride, rng):
    """Padded targets of images that have boxes of the given kinds."""
    boxes = [boxes_of(kinds, size, stride, rng) for kinds in images]
    owner = np.repeat(np.arange(len(boxes)), [len(b) for b in boxes])
    labels = rng.integers(0, classes, len(owner))
    none = np.zeros(0, np.int64), np.zeros((0, 4), np.float32)
    return pad_targets(len(images), owner, labels, np.concatenate(boxes), *none)


def outputs_of(net, size, targets, taught, rng, dtype=torch.float32):
    """What a network might say: noise, or, taught, for each anchor about one of the boxes of its image."""
    head = net.model[0]
    points, stride = [], []
    for s in net.stride.tolist():
        y, x = np.mgrid[: round(size[0] / s), : round(size[1] / s)]
        points.append(np.stack((x, y), -1).reshape(-1, 2) + 0.5)
        stride.append(np.full((len(points[-1]), 1), s))
    points, stride = np.concatenate(points), np.concatenate(stride)
    batch, anchors = len(targets.valid), len(points)

    def branch():
        distances = rng.normal(1.5, 1.5, (batch, anchors, 4))
        for image in range(batch) if taught else ():
            there = targets.boxes[image][targets.valid[image]].double().numpy()
            if len(there):
                box = there[rng.integers(0, len(there), anchors)] / stride
                distances[image] = np.concatenate((points - box[:, :2], box[:, 2:] - points), 1)
                distances[image] += rng.normal(0, 0.1, (anchors, 4))
        if head.reg_max > 1:
            sharp = -2.0 * np.abs(distances[..., None] - np.arange(head.reg_max)) if taught else 0
            distances = (sharp + rng.normal(0, 1, (batch, anchors, 4, head.reg_max))).reshape(batch, anchors, -1)
        scores = rng.normal(-2, 2, (batch, anchors, head.nc))
        return {k: torch.from_numpy(v).to(dtype) for k, v in (("boxes", distances), ("scores", scores))}

    return {"one2many": branch(), "one2one": branch()} if hasattr(head, "one2one_cv2") else branch()


def leaves(outputs):
    """The tensors of outputs, as leaves of a graph, and the outputs made of them."""
    if "boxes" in outputs:
        made = {k: v.detach().clone().requires_grad_() for k, v in outputs.items()}
        return list(made.values()), made
    made = {k: leaves(v) for k, v in outputs.items()}
    return [t for tensors, _ in made.values() for t in tensors], {k: v for k, (_, v) in made.items()}


def _mapped(values, function):
    return {k: _mapped(v, function) if isinstance(v, dict) else function(v) for k, v in values.items()}


def theirs(outputs, net, size):
    """The outputs as (B, channels, A), with features of the sizes of the levels."""
    if "boxes" not in outputs:
        return {k: theirs(v, net, size) for k, v in outputs.items()}
    dtype = outputs["boxes"].dtype
    features = [torch.zeros(1, 1, *(round(n / s) for n in size), dtype=dtype) for s in net.stride.tolist()]
    return {**{k: v.permute(0, 2, 1) for k, v in outputs.items()}, "feats": features}


def evaluated(function, outputs):
    """Loss, items and gradients of the outputs."""
    tensors, made = leaves(outputs)
    loss, items = function(made)
    loss.backward()
    return loss.detach(), items, [t.grad for t in tensors]


def check_against_peer(net, size, targets, outputs, tolerance=1e-6, fill=False):
    """Assignments, loss, items and gradients in both forms."""
    criterion, parts, answers = peer(net, fill)
    most = int(targets.valid.sum(1).max())
    padded = torch.cat((targets.classes[..., None], targets.boxes), -1)[:, :most].contiguous()
    for part in parts:  # its way over relative centres and sides would change last bits
        part.preprocess = lambda *_, **__: padded
    nothing = torch.zeros(0, 1)

    def ultralytics(made):
        batch = {"batch_idx": nothing, "cls": nothing, "bboxes": torch.zeros(0, 4)}
        loss, items = criterion(theirs(made, net, size), batch)
        return loss.sum(), torch.stack(list(items.values()))

    expected = evaluated(ultralytics, outputs)
    for static in (False, True):
        loss = DetectionLoss(net, static=static, **GAINS)
        for assigned, (_, _, scores, _, boxes) in zip(loss.assign(outputs, size, targets), answers, strict=True):
            target = scores.sum(-1).flatten()
            used = assigned.score > 0
            order = assigned.anchor[used].argsort()
            assert torch.equal(assigned.anchor[used][order], target.nonzero().squeeze(1))
            box = assigned.box[used][order]
            assert torch.equal(box % targets.valid.shape[1], boxes.flatten()[target > 0].long())
            torch.testing.assert_close(assigned.score[used][order], target[target > 0], rtol=tolerance, atol=0)
        found = evaluated(lambda made, loss=loss: loss(made, size, targets), outputs)
        for mine, other in zip(found[:2], expected[:2], strict=True):
            torch.testing.assert_close(mine, other, rtol=tolerance, atol=0, check_dtype=False)
        for mine, other in zip(found[2], expected[2], strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=4 * tolerance * max(other.abs().max().item(), 1e-9))


IMAGES = st.lists(st.lists(st.sampled_from(BOXES), max_size=12), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(HEADS)), st.sampled_from([1, 3, 80]), st.sampled_from(STRIDES),
    st.tuples(st.integers(1, 3), st.integers(1, 3)), IMAGES, st.booleans(), st.integers(0, 2**32 - 1), st.booleans(),
)  # fmt: skip
@example("yolo11", 3, (8, 16, 32), (2, 3), [[], []], False, 0, False)
@example("yolo26", 3, (8, 16, 32), (2, 3), [[], []], False, 0, False)
@example("yolo11", 80, (8, 16, 32), (3, 3), [[], ["huge", "same", "any", "edge"] * 6], True, 1, False)
@example("yolov10", 3, (8, 16, 32), (3, 3), [["any"] * 20, [], ["same"] * 9], True, 2, False)
@example("yolo26", 1, (16,), (3, 3), [["tiny", "line", "outside"] * 3], True, 3, False)
def test_it_is_ultralytics_own(head, classes, strides, cells, images, taught, seed, double):
    """To ten digits in float64, and to six in float32."""
    rng = np.random.default_rng(seed)
    net = Net(head, classes, strides)
    size = tuple(max(n * max(strides), 64) for n in cells)
    targets = targets_of(images, classes, size, strides[0], rng)
    outputs = outputs_of(net, size, targets, taught, rng)
    if not double:
        return check_against_peer(net, size, targets, outputs)
    targets = Targets(targets.boxes.double(), targets.classes, targets.valid, targets.crowds, targets.crowd_valid)
    torch.set_default_dtype(torch.float64)  # theirs makes some tensors in it
    try:
        return check_against_peer(net, size, targets, _mapped(outputs, torch.Tensor.double), tolerance=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def test_classes_that_are_nowhere_are_summed_exactly():
    """A fresh network gives logits of about -11, of which a cross entropy by differences loses digits."""
    rng = np.random.default_rng(7)
    net, size = Net("yolo11", 80), (160, 160)
    targets = targets_of([("any",), ()], 80, size, 8, rng)
    outputs = outputs_of(net, size, targets, False, rng, torch.float64)
    outputs["scores"] = (outputs["scores"] / 4 - 11).float().double()
    exact, found = (
        DetectionLoss(net, **GAINS)(made, size, targets)[1][1].item()
        for made in (outputs, _mapped(outputs, torch.Tensor.float))
    )
    assert found == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("head", ["yolo11", "yolo26"])
def test_on_photographs_no_place_is_filled_up_to_any_effect(head, real_data):
    """On images of usual size the anchors that torch.topk fills up with are in the corner, outside of the boxes."""
    from yolo_cosine.config.load import load_config
    from yolo_cosine.data.cache import ImageStore
    from yolo_cosine.data.dataset import open_dataset
    from yolo_cosine.data.index import trainable_boxes
    from yolo_cosine.data.loader import TrainLoader

    index = open_dataset("data/bccd.yaml").splits["train"]
    store = ImageStore(index, 320, "none", 1)
    loader = TrainLoader(store, trainable_boxes(index), load_config(None), batch=8, seed=0, workers=1)
    targets = next(iter(loader.epoch(0))).targets
    assert targets.valid.sum() > 50
    net, size, rng = Net(head), (320, 320), np.random.default_rng(5)
    for taught in (False, True):
        check_against_peer(net, size, targets, outputs_of(net, size, targets, taught, rng), fill=True)


class OnTheDevice(TorchDispatchMode):
    """Refuses what waits for a device, makes shapes of values, or is on another device."""

    REFUSED = (
        "nonzero", "_local_scalar_dense", "masked_select", "unique", "repeat_interleave.Tensor", "is_nonzero", "equal",
        "lift_fresh", "bincount",
    )  # fmt: skip

    def __init__(self, device):
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.name().removeprefix("aten::")
        assert not name.startswith(self.REFUSED), name
        answer = function(*arguments, **keywords or {})
        tensors = [
            t for t in _flat((arguments, list((keywords or {}).values()), answer)) if isinstance(t, torch.Tensor)
        ]
        assert all(t.device.type == self.device for t in tensors), name
        if name.startswith("index"):
            assert not any(t.dtype == torch.bool for t in tensors), name
        return answer


def _flat(values):
    return [v for value in values for v in (_flat(value) if isinstance(value, list | tuple) else [value])]


@pytest.fixture(params=HEADS)
def scene(request):
    """A network's head, a size, targets with a crowd, and outputs."""
    rng = np.random.default_rng(6)
    net, size = Net(request.param), (96, 128)
    targets = targets_of([BOXES, (), ("any",) * 11], 3, size, 8, rng)
    crowds = torch.tensor([[[10.0, 10, 90, 60]]]).repeat(3, 1, 1)
    targets = Targets(targets.boxes, targets.classes, targets.valid, crowds, torch.tensor([[True], [True], [False]]))
    return net, size, targets, outputs_of(net, size, targets, True, rng)


@pytest.mark.parametrize("device", ["cpu", "meta"])  # on meta there is nothing to be read
def test_nothing_is_read_from_the_device(scene, device):
    net, size, targets, outputs = scene
    net.weight = nn.Parameter(net.weight.to(device))
    loss = DetectionLoss(net, static=True, **GAINS)
    tensors, made = leaves(_mapped(outputs, lambda t: t.to(device)))
    there = targets.to(torch.device(device))
    with OnTheDevice(device):
        total, items = loss(made, size, there)
        total.backward()
    assert items.shape == (3,) and all(t.grad.shape == t.shape for t in tensors)
    if device == "cpu":
        with pytest.raises(AssertionError, match="nonzero"), OnTheDevice(device):
            DetectionLoss(net, **GAINS)(made, size, targets)


def test_it_can_be_traced_whole(scene):
    net, size, targets, outputs = scene
    loss = DetectionLoss(net, static=True, **GAINS)
    traced = torch.compile(loss, backend="eager", fullgraph=True, dynamic=False)
    for epoch in (0, 3):  # another balance is not traced again
        loss.start_epoch(epoch)
        with torch._dynamo.config.patch(error_on_recompile=epoch > 0):
            found = evaluated(lambda made: traced(made, size, targets), outputs)
        expected = evaluated(lambda made: loss(made, size, targets), outputs)
        torch.testing.assert_close(found, expected)


def test_the_same_input_gives_the_same_bits(scene):
    net, size, targets, outputs = scene
    for static in (False, True):
        loss = DetectionLoss(net, static=static, **GAINS)
        first, again = (evaluated(lambda made, loss=loss: loss(made, size, targets), outputs) for _ in range(2))
        for a, b in zip([*first[:2], *first[2]], [*again[:2], *again[2]], strict=True):
            assert torch.equal(a, b)


def test_shares_of_a_batch_add_up_to_the_batch(scene):
    net, size, targets, outputs = scene
    loss = DetectionLoss(net, **GAINS)
    whole = evaluated(lambda made: loss(made, size, targets), outputs)

    def share(start, stop):
        return _mapped(outputs, lambda t: t[start:stop]), Targets(**_mapped(vars(targets), lambda t: t[start:stop]))

    shares, asked = [share(0, 1), share(1, 3)], []
    for made, part in shares:
        loss(made, size, part, total=lambda values: asked.append(values) or values)
    total = lambda values: sum(asked)  # noqa: E731
    found = [evaluated(lambda m, p=part: loss(m, size, p, images=3, total=total), made) for made, part in shares]
    torch.testing.assert_close(sum(f[0] for f in found), whole[0])
    for each in found:
        torch.testing.assert_close(each[1], whole[1])
    for mine, other in zip(zip(*(f[2] for f in found), strict=True), whole[2], strict=True):
        torch.testing.assert_close(torch.cat(mine), other)


@pytest.mark.parametrize("static", [False, True])
def test_what_stands_in_places_that_are_not_valid_counts_for_nothing(scene, static):
    net, size, targets, outputs = scene
    loss = DetectionLoss(net, static=static, **GAINS)
    expected = evaluated(lambda made: loss(made, size, targets), outputs)
    garbage = torch.tensor([20.0, 10, 80, 90])
    boxes = torch.where(targets.valid[..., None], targets.boxes, garbage)
    crowds = torch.where(targets.crowd_valid[..., None], targets.crowds, garbage)
    filled = Targets(boxes, torch.where(targets.valid, targets.classes, 2), targets.valid, crowds, targets.crowd_valid)
    found = evaluated(lambda made: loss(made, size, filled), outputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    seen = Targets(boxes, filled.classes, targets.valid, crowds, torch.ones_like(targets.crowd_valid))
    assert loss(outputs, size, seen)[0] < expected[0]  # where they are, they count


@pytest.mark.parametrize("where", ["boxes", "scores"])
@pytest.mark.parametrize("static", [False, True])
def test_outputs_that_are_no_numbers_are_noticed(scene, where, static):
    net, size, targets, outputs = scene
    branch = outputs.get("one2one", outputs)
    branch[where].fill_(float("nan"))
    _, items = DetectionLoss(net, static=static, **GAINS)(outputs, size, targets)
    assert not torch.isfinite(items).all()


@pytest.mark.parametrize("static", [False, True])
def test_low_precision_outputs_are_taken_as_they_are(scene, static):
    """In bf16 the loss is that of the same numbers in float32, and the gradients are those, rounded."""
    net, size, targets, outputs = scene
    loss = DetectionLoss(net, static=static, **GAINS)
    low = _mapped(outputs, torch.Tensor.bfloat16)
    high = _mapped(low, torch.Tensor.float)
    found, expected = (evaluated(lambda made: loss(made, size, targets), made) for made in (low, high))
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    for mine, other in zip(found[2], expected[2], strict=True):
        assert torch.equal(mine, other.bfloat16())
