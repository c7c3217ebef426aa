"""What a run exports is at home elsewhere: `ultralytics.YOLO` opens it, predicts with it, and exports it to ONNX."""

from __future__ import annotations

import contextlib
import importlib.machinery
import sys
import types

import numpy as np
import pytest
import torch

from yolo_cosine.model import detector, nms, weights

NAMES = ("circle", "blood cell", "ünïcode")
SIZE = 64


@pytest.fixture(scope="module")
def model():
    """A network whose scores spread over 0..1, so that there is something to compare."""
    torch.manual_seed(3)
    model = detector.build_detector("yolo11n", NAMES).train()
    with torch.no_grad():
        for _ in range(100):  # fresh norms would let the signal fade away
            model(torch.rand(4, 3, SIZE, SIZE))
        model.eval()
        for branch in model.model[-1].cv3:
            branch[-1].weight.normal_(0, 0.5)
            branch[-1].bias.zero_()
    return model


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "best.pt"
    path.write_bytes(weights.export_ultralytics(model, {"imgsz": SIZE, "lr0": 0.02, "data": "x.yaml"}, {}, 4))
    return path


@pytest.fixture
def torchvision_stand_in(monkeypatch):
    """Ultralytics' predictor imports torchvision at its top; where that cannot be imported, an empty one will do."""
    try:
        import torchvision  # noqa: F401
    except Exception:  # built for another torch
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            monkeypatch.delitem(sys.modules, name)
    else:
        return
    modules = {
        name: types.ModuleType(name)
        for name in ("torchvision", "torchvision.transforms", "torchvision.ops", "torchvision.datasets")
    }
    for name, module in modules.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    modules["torchvision"].__version__ = "0.0"
    modules["torchvision"].transforms = modules["torchvision.transforms"]
    modules["torchvision"].ops = modules["torchvision.ops"]
    modules["torchvision.ops"].nms = _torchvision_nms
    modules["torchvision.datasets"].ImageFolder = object


def _torchvision_nms(boxes, scores, iou):
    order = scores.argsort(descending=True, stable=True)
    return order[nms.greedy_nms(boxes[order], torch.zeros(len(order)), iou, len(order))]


def decoded(model, image):
    """(1, A, 7): every anchor's box and scores, before NMS."""
    tensor = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        return detector.predict(detector.inference_copy(model, 300), tensor, contextlib.nullcontext())


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)


def test_it_opens_with_names_weights_and_arguments(model, checkpoint):
    from ultralytics import YOLO

    yolo = YOLO(checkpoint)
    assert yolo.task == "detect" and yolo.names == dict(enumerate(NAMES))
    for name, value in yolo.model.state_dict().items():
        assert value.dtype == model.state_dict()[name].dtype  # full precision
        assert torch.equal(value, model.state_dict()[name]), name
    assert yolo.ckpt["train_args"]["imgsz"] == SIZE and yolo.ckpt["train_args"]["lr0"] == 0.02


def test_it_passes_ultralytics_safe_loader(checkpoint):
    loaded, size = weights.read_checkpoint(str(checkpoint))
    assert size == SIZE and tuple(loaded.names.values()) == NAMES


def test_predict_finds_the_same_boxes(model, checkpoint, image, torchvision_stand_in):
    from ultralytics import YOLO

    everything = decoded(model, image)
    best = everything[0, :, 4:].max(1)
    conf = best.values.quantile(0.6).item()
    # Ultralytics keeps the best class of a box
    everything[0, :, 4:] *= torch.nn.functional.one_hot(best.indices, len(NAMES))
    expected = nms.suppress(everything, conf, 0.5, 300)()[0]
    result = YOLO(checkpoint).predict(image, conf=conf, iou=0.5, imgsz=SIZE, device="cpu", verbose=False)[0]
    assert len(expected) > 3
    clipped = expected[:, :4].clamp(0, SIZE)
    torch.testing.assert_close(result.boxes.data, torch.cat((clipped, expected[:, 4:]), 1), atol=1e-3, rtol=1e-4)


def test_onnx_gives_the_same_boxes(model, checkpoint, image, torchvision_stand_in):
    import onnxruntime
    from ultralytics import YOLO

    path = YOLO(checkpoint).export(format="onnx", imgsz=SIZE, simplify=False, device="cpu", verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    tensor = (image[..., ::-1].transpose(2, 0, 1)[None] / 255).astype(np.float32)
    output = session.run(None, {session.get_inputs()[0].name: tensor})[0]  # (1, 4 + classes, anchors), xywh
    expected = decoded(model, image)[0].numpy()
    center, half, scores = output[0, :2].T, output[0, 2:4].T / 2, output[0, 4:].T
    np.testing.assert_allclose(np.hstack((center - half, center + half)), expected[:, :4], atol=2e-3)
    np.testing.assert_allclose(scores, expected[:, 4:], atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert "blood cell" in metadata["names"]
