from __future__ import annotations

import contextlib
import copy
import math
from types import SimpleNamespace

import pytest
import torch

from yolo_cosine.config.schema import ModelConfig
from yolo_cosine.data.targets import pad_targets
from yolo_cosine.errors import UserError
from yolo_cosine.model import detector
from yolo_cosine.model.anchors import make_grid
from yolo_cosine.model.ema import Ema
from yolo_cosine.model.inference import InferenceCopy
from yolo_cosine.model.loss import DetectionLoss
from yolo_cosine.model.weights import export_ultralytics, load_weights

NAMES = ("a", "b", "c")
GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5, "epochs": 10}
FAMILIES = [
    "yolov5n",
    "yolov5nu",
    "yolov8n",
    "yolov9t",
    "yolov10n",
    "yolo11n",
    "yolo12n",
    "yolo26n",
    "yolov8n-p6",
    "yolov8n-p2",
]

IMAGE_OF_BOX = torch.tensor([0, 0, 1])
CLASSES = torch.tensor([0, 1, 2])
BOXES = torch.tensor([[10.0, 10, 90, 90], [50, 50, 160, 200], [5, 5, 100, 100]])
NO_CROWD = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))


def targets(image_of_crowd=NO_CROWD[0], crowds=NO_CROWD[1]):
    return pad_targets(2, *(t.numpy() for t in (IMAGE_OF_BOX, CLASSES, BOXES, image_of_crowd, crowds)))


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return detector.build_detector("yolo11n", NAMES)


def images(n=2, height=256, width=192):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_trains_and_detects(name):
    torch.manual_seed(0)
    model = detector.build_detector(name, NAMES)
    assert model.names == {0: "a", 1: "b", 2: "c"}
    loss = DetectionLoss(model, **GAINS)
    loss.start_epoch(0)
    total, items = loss(detector.Rows(model)(images()), (256, 192), targets())
    assert items.shape == (3,) and torch.isfinite(items).all()
    total.backward()
    grads = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in grads)
    fused = detector.inference_copy(model, 300)
    nms_free = name in {"yolov10n", "yolo26n"}
    assert detector.is_end_to_end(fused) == nms_free
    with torch.inference_mode():
        output = detector.predict(fused, images(), contextlib.nullcontext())
    assert output.shape == (2, 300, 6) if nms_free else (2, sum(256 * 192 // int(s) ** 2 for s in model.stride), 7)


@pytest.mark.parametrize(
    ("name", "layout"),
    [("yolov8n", torch.contiguous_format), ("yolov10n", torch.channels_last), ("yolo26n", torch.channels_last)],
)
def test_rows_are_the_networks_own_outputs(name, layout):
    torch.manual_seed(0)
    model = detector.build_detector(name, NAMES).train().to(memory_format=layout)
    peer = copy.deepcopy(model)
    x = images(height=64, width=96).contiguous(memory_format=layout)
    ours, theirs = detector.Rows(model)(x), peer(x)
    for branch in ("one2many", "one2one") if "one2one" in theirs else (None,):
        mine, other = (ours[branch], theirs[branch]) if branch else (ours, theirs)
        for key in ("boxes", "scores"):
            assert torch.equal(mine[key], other[key].permute(0, 2, 1)) and mine[key].is_contiguous()
            weights = torch.rand(mine[key].shape, generator=torch.Generator().manual_seed(2))
            (mine[key] * weights).sum().backward(retain_graph=True)
            (other[key].permute(0, 2, 1) * weights).sum().backward(retain_graph=True)
    for (key, p), q in zip(model.named_parameters(), peer.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-4, msg=key)


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_predict_equals_the_networks_own_forward(name):
    torch.manual_seed(0)
    model = detector.build_detector(name, NAMES)
    fused = detector.inference_copy(model, 300, nms=True)
    with torch.inference_mode():
        ours = detector.predict(fused, images(), contextlib.nullcontext())
        theirs = fused(images())[0].permute(0, 2, 1)
    center, half = theirs[..., :2], theirs[..., 2:4] / 2
    torch.testing.assert_close(ours, torch.cat((center - half, center + half, theirs[..., 4:]), -1))


def test_anchors_are_exact_in_bf16():
    """At 1280 px there are 160 cells in a row, and bf16 has no 128.5."""
    torch.manual_seed(0)
    model = detector.build_detector("yolo11n", NAMES)
    fused = detector.inference_copy(model, 300)
    with torch.inference_mode():
        detector.predict(fused, torch.rand(1, 3, 32, 1280), torch.autocast("cpu", torch.bfloat16))
    expected = torch.cat([(torch.arange(1280 // s) + 0.5).repeat(32 // s) for s in (8, 16, 32)])
    assert torch.equal(fused.model[-1].anchors[0], expected)


@pytest.mark.parametrize("name", ["yolo11n", "yolov10n", "yolo26n"])
def test_without_crowds_the_loss_is_ultralytics_own(name):
    torch.manual_seed(0)
    model = detector.build_detector(name, NAMES).train()
    peer = copy.deepcopy(model)
    loss = DetectionLoss(model, **GAINS)
    loss.start_epoch(4)
    total, items = loss(detector.Rows(model)(images()), (256, 192), targets())
    peer.args = SimpleNamespace(**GAINS)
    criterion = peer.init_criterion()
    for _ in range(4):  # the trainer calls it after each epoch
        getattr(criterion, "update", lambda: None)()
    scale = torch.tensor([192, 256, 192, 256])
    xywh = torch.cat(((BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]), 1) / scale
    expected, expected_items = criterion(peer(images()), {"batch_idx": IMAGE_OF_BOX, "cls": CLASSES, "bboxes": xywh})
    total.backward()
    expected.sum().backward()
    # on their way over relative centres and sides the boxes change in the last bits
    assert total.item() == pytest.approx(expected.sum().item(), rel=2e-6)
    assert items.tolist() == pytest.approx([v.item() for v in expected_items.values()], rel=2e-6)
    # gradients in another memory layout go through other kernels, which sum in another order
    mine, other = (torch.cat([p.grad.flatten() for p in m.parameters() if p.requires_grad]) for m in (model, peer))
    assert (mine - other).norm() < 1e-5 * other.norm()


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_nothing_inside_a_crowd_is_penalised_but_objects_in_it_still_count(name):
    torch.manual_seed(0)
    model = detector.build_detector(name, NAMES).train()
    loss = DetectionLoss(model, **GAINS)
    crowd = torch.tensor([[40.0, 40, 150, 180]])
    outputs = detector.Rows(model)(images())
    branch = outputs.get("one2one", outputs)
    branch["scores"].retain_grad()

    def gradient(*crowds):
        branch["scores"].grad = None
        total, _ = loss(outputs, (256, 192), targets(*crowds))
        total.backward(retain_graph=True)
        return branch["scores"].grad.clone()

    plain, ignoring = gradient(), gradient(torch.tensor([1]), crowd)
    centers = make_grid((256, 192), tuple(model.stride.tolist()), torch.device("cpu")).centers.T
    inside = ((centers >= crowd[0, :2]) & (centers <= crowd[0, 2:])).all(1)
    changed = (plain != ignoring).any(2)
    assert not changed[0].any()  # the other image
    assert not changed[1, ~inside].any()  # outside of it
    silent = (ignoring[1] == 0).all(1)
    assert (silent <= inside).all()  # only there is the gradient zero,
    assert silent[inside].float().mean() > 0.9  # and there it is,
    assert (~silent & inside).any()  # but for anchors with an object of their own
    assert torch.equal(plain[1][~silent], ignoring[1][~silent])


def test_unknown_architectures_and_heads_that_are_no_detectors(tmp_path):
    with pytest.raises(UserError, match=r"model: 'yolo99n'.*yolo11s\.yaml"):
        detector.build_detector("yolo99n", NAMES)
    with pytest.raises(UserError, match="Segment"):
        detector.build_detector("yolo11n-seg.yaml", NAMES)
    (tmp_path / "m.yaml").write_text("nc: 3\nbackbone: 7\nhead: []\n")
    with pytest.raises(UserError, match="cannot be built"):
        detector.build_detector(str(tmp_path / "m.yaml"), NAMES)


def save(model, path):
    path.write_bytes(export_ultralytics(model, {}, {}, 0))
    return str(path)


def test_weights_of_the_same_classes_are_taken_over_whole(small, tmp_path):
    path = save(small, tmp_path / "w.pt")
    torch.manual_seed(9)
    model = detector.build_detector("yolo11n", NAMES)
    transfer = load_weights(model, ModelConfig(weights=path))
    assert transfer.fresh == () and transfer.loaded == transfer.total
    for key, value in model.state_dict().items():
        assert torch.equal(value, small.state_dict()[key]), key


def test_a_class_head_of_another_size_is_reported_and_known_classes_are_kept(small, tmp_path):
    path = save(small, tmp_path / "w.pt")
    torch.manual_seed(9)
    model = detector.build_detector("yolo11n", ("new", "b", "x", "y", "z"))
    transfer = load_weights(model, ModelConfig(weights=path))
    assert "tensors taken over from" in str(transfer)
    assert torch.equal(model.model[0].conv.weight, small.model[0].conv.weight)
    ours, theirs = model.model[-1].cv3[0][-1], small.model[-1].cv3[0][-1]
    assert torch.equal(ours.weight[1], theirs.weight[1])  # the class "b"
    other = detector.build_detector("yolo11n", ("p", "q"))
    transfer = load_weights(other, ModelConfig(weights=path))
    assert any("cv3" in name for name in transfer.fresh)
    assert "start anew, in model.23.cv3" in str(transfer)
    # yolo11's class branch is as wide as there are classes, so with 80 its inner layers differ too
    coco = detector.build_detector("yolo11n", tuple(f"class {k}" for k in range(80)))
    three = detector.build_detector("yolo11n", ("p", "q", "r"))
    transfer = load_weights(three, ModelConfig(weights=save(coco, tmp_path / "coco.pt")))
    assert sorted(n for n in transfer.fresh if n.endswith("weight")) == [f"model.23.cv3.{k}.2.weight" for k in range(3)]
    assert len(transfer.fresh) == 6


class _Bomb:
    def __reduce__(self):
        return (print, ("this must not run",))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: p, "there is no such file"),
        (lambda p: (p.write_bytes(b"") and p) or p, "cannot be loaded"),
        (lambda p: p.write_bytes(b"PK\x03\x04 cut off") and p, "cannot be loaded"),
        (lambda p: torch.save({"model": _Bomb()}, p) or p, "trust_weights: true"),
        (lambda p: torch.save({"weights": torch.zeros(3)}, p) or p, "holds no network"),
        (lambda p: p.with_suffix(".onnx"), r"is no \.pt file"),
    ],
    ids=["missing", "empty", "truncated", "code", "no-network", "suffix"],
)
def test_bad_checkpoints(small, make, match, tmp_path, capsys):
    path = make(tmp_path / "w.pt")
    with pytest.raises(UserError, match=match):
        load_weights(copy.deepcopy(small), ModelConfig(weights=str(path)))
    assert "must not run" not in capsys.readouterr().out


def test_freeze(small):
    model = copy.deepcopy(small)
    assert detector.freeze(model, 10) > 50
    assert not any(p.requires_grad for n, p in model.named_parameters() if int(n.split(".")[1]) < 10)
    detector.train_mode(model, 10)
    assert not model.model[0].bn.training and model.model[16].cv1.bn.training
    assert detector.freeze(model, None) == 0
    assert sum(p.requires_grad for p in model.parameters()) == sum(1 for _ in model.parameters()) - 1  # the DFL's
    with pytest.raises(UserError, match="layers 0 to 23"):
        detector.freeze(model, [24])
    with pytest.raises(UserError, match="nothing to train"):
        detector.freeze(model, 24)


def test_the_average_equals_ultralytics_own(small):
    from ultralytics.utils.torch_utils import ModelEMA

    model = copy.deepcopy(small)
    ours, peer = Ema(model, 0.9999, 2000), ModelEMA(model)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=generator))
        model.model[0].bn.num_batches_tracked += 1
        ours.update()
        peer.update(model)
    for key, value in ours.model.state_dict().items():
        if "num_batches" not in key:
            torch.testing.assert_close(value, peer.ema.state_dict()[key], rtol=1e-6, atol=1e-6)
    assert ours.model.model[0].bn.num_batches_tracked == 3


def test_the_average_on_a_device_that_decides_is_that_of_the_host():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    host, device = (Ema(model, 0.9999, 20.0) for _ in range(2))
    for happened in (True, True, False, True, False):
        with torch.no_grad():
            for p in model.parameters():
                p += torch.randn_like(p)
        before = [v.clone() for v in device._average]
        host.update(torch.tensor(happened))
        device._update_on_device(torch.tensor(happened))
        assert int(host.updates) == int(device.updates)
        assert happened or all(torch.equal(a, b) for a, b in zip(before, device._average, strict=True))
        for a, b in zip(host._average, device._average, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    assert int(host.updates) == 3


@pytest.mark.parametrize(("decay", "tau"), [(0.9999, 2000.0), (0.99999, 100.0)])
def test_the_average_on_a_device_keeps_the_digits_of_its_formula_and_one_type(decay, tau):
    """In float32: what an update adds, of weights of 1 to an average of 0, is `1 - d`."""
    ema = Ema(torch.nn.Linear(1, 1, bias=False), decay, tau)
    ema._weights[0].fill_(1)
    for before in (0, 1, 99, 5_000, 40_000, 3_000_000):
        ema.updates = before
        ema._average[0].zero_()
        ema._update_on_device(torch.tensor(True))
        exact = 1 - decay * (1 - math.exp(-(before + 1) / tau))
        assert ema._average[0].item() == pytest.approx(exact, rel=1e-6, abs=0)
    assert ema.updates.dtype is torch.int64 and int(ema.updates) == 3_000_001


@pytest.mark.parametrize(
    ("architecture", "known"), [("yolo11n", True), ("yolov10n", False), ("yolo26n", True), ("yolov8n", True)]
)
def test_a_copy_for_evaluation_that_is_filled_anew_is_a_new_one(architecture, known):
    """Also where a part is fused in a way that is not known, and so the copy is made anew."""
    copies, images, made = InferenceCopy(300), torch.rand(1, 3, 64, 64), []
    models = [detector.build_detector(architecture, ("a", "b")) for _ in range(2)]
    for seed, model in enumerate((*models, models[1], models[0])):  # each a second time, with other weights than before
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                torch.nn.init.normal_(module.weight)
                torch.nn.init.normal_(module.bias)
            elif isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_uniform_(module.weight)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        own, new = copies.of(model), detector.inference_copy(model, 300)
        made.append(own)
        with torch.inference_mode():
            a, b = (detector.predict(m, images, contextlib.nullcontext()) for m in (own, new))
        if detector.is_end_to_end(own):  # the order of equal scores is anybody's
            a, b = a[..., 4], b[..., 4]
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert len({id(copied) for copied in made}) == (1 if known else 4)
