"""Files that are no checkpoint, no whole one, or one that nobody should load."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from ultralytics.nn import tasks

from yolo_cosine import train, val
from yolo_cosine.model import detector, weights

NAMES = ("circle", "square", "triangle", "star", "ring")
DANGER = "loading it could run any code"


class Runs:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("open('executed', 'w').close()",)


class RunsACommand:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def network() -> torch.nn.Module:
    """Of the classes of the data set; the current folder is the desk."""
    return detector.build_detector("tiny.yaml", NAMES)


def checkpoint() -> bytes:
    return weights.export_ultralytics(network(), {}, {}, 0)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/readme.txt", "hello")
    return buffer.getvalue()


def flipped() -> bytes:
    """A checkpoint in whose pickle a few bits of the name of a class are wrong."""
    return checkpoint().replace(b"ultralytics.nn.tasks", b"ultralytics.nn.tusks", 1)


def not_a_number() -> bytes:
    model = network()
    model.model[2].conv.weight.data[0, 0, 0, 0] = float("nan")
    return weights.export_ultralytics(model, {}, {}, 0)


def script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), buffer)
    return buffer.getvalue()


NONE = ["cannot be loaded", "it is no PyTorch file, or cut short", "get it again"]
NO_NETWORK = ["holds no network", "name an Ultralytics checkpoint such as yolo11n.pt"]
UNSAFE = ["holds objects that Ultralytics' safe loader does not know", DANGER, "write trust_weights: true"]
PICKLE = ["a pickle of something else", DANGER, "with trust_weights: true too", "get a PyTorch checkpoint"]
FILES = {  # what the file holds, what is said
    "empty": (lambda: b"", NONE),
    "text": (lambda: b"hello", NONE),
    "page": (lambda: b"<!DOCTYPE html><html>404</html>", NONE),
    "random bytes": (lambda: np.random.default_rng(0).bytes(1000), NONE),
    "cut in the middle": (lambda: checkpoint()[: len(checkpoint()) // 2], NONE),
    "cut at the end": (lambda: checkpoint()[:-100], NONE),
    "zip of a text": (zipped, ["a zip archive without PyTorch's data.pkl", "get it again"]),
    "wrong bits": (flipped, ["is damaged, its checksums do not hold", "get it again"]),
    "script": (script, ["a TorchScript archive, which cannot be trained", "name the checkpoint"]),
    "pickle": (lambda: pickle.dumps([1, 2]), PICKLE),
    "malicious pickle": (lambda: pickle.dumps(Runs()), PICKLE),
    "malicious pickle, as text": (lambda: pickle.dumps(RunsACommand(), 0), NONE),
    "malicious checkpoint": (lambda: saved({"model": Runs()}), UNSAFE),
    "malicious checkpoint, a command": (lambda: saved({"model": RunsACommand()}), UNSAFE),
    "malicious checkpoint, older format": (
        lambda: saved({"model": Runs()}, _use_new_zipfile_serialization=False), UNSAFE),
    "list": (lambda: saved([1, 2]), NO_NETWORK),
    "tensor": (lambda: saved(torch.ones(3)), NO_NETWORK),
    "no model": (lambda: saved({"model": None, "ema": None}), NO_NETWORK),
    "state dict": (lambda: saved(network().state_dict()), NO_NETWORK),
    "model as state dict": (lambda: saved({"model": network().state_dict()}), NO_NETWORK),
    "not a number": (not_a_number, ["holds values that are no numbers", "the first in model.2.conv.weight", "earlier one"]),
}  # fmt: skip


@pytest.mark.parametrize(("content", "parts"), FILES.values(), ids=FILES)
def test_files_that_are_no_checkpoint(desk, content, parts):
    desk.write("w.pt", content())
    desk.refuses_to_train("model=tiny.yaml", "weights=w.pt", parts=["weights: ", "w.pt", *parts])
    desk.refuses(val.main, ["--weights", "w.pt", "--data", "data/shapes.yaml"], ["weights: ", "w.pt", *parts])
    assert not (desk.folder / "executed").exists()


def test_a_pickle_of_something_else_is_not_trusted_either(desk):
    desk.write("w.pt", pickle.dumps(Runs()))
    desk.refuses_to_train("model=tiny.yaml", "weights=w.pt", "trust_weights=true", parts=PICKLE)
    assert not (desk.folder / "executed").exists()


@pytest.mark.parametrize("malice", [Runs, RunsACommand])
def test_the_malice_is_real(desk, malice):
    pickle.loads(pickle.dumps(malice()))
    assert (desk.folder / "executed").exists()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("missing/best.pt", ["missing/best.pt: there is no such file"]),
        ("yolo77n.pt", ["yolo77n.pt: there is no such file", "no checkpoint of Ultralytics' of this name"]),
        ("run.yaml", ["run.yaml' is no .pt file", "name an Ultralytics checkpoint"]),
        ("w.onnx", ["'w.onnx' is no .pt file"]),
        ("", ["'' is no .pt file"]),
        ("folder.pt", ["folder.pt cannot be read: Is a directory", "name a .pt file"]),
    ],
)
def test_no_such_weights(desk, name, parts):
    (desk.folder / "folder.pt").mkdir()
    desk.refuses_to_train(f"weights='{name}'", "model=tiny.yaml", parts=["weights: ", *parts])
    parts = [part.removeprefix("run.yaml") for part in parts]
    desk.refuses(val.main, ["--weights", name, "--data", "data/shapes.yaml"], ["weights: ", *parts])


def test_the_loader_deletes_no_file_that_has_the_name_of_an_official_one(desk):
    desk.write("yolo11n.pt", flipped())
    desk.refuses_to_train("weights=yolo11n.pt", parts=["yolo11n.pt is damaged"])


def test_a_network_of_which_nothing_fits(desk):
    desk.write("w.pt", saved({"model": torch.nn.Linear(3, 3)}))
    parts = ["weights: nothing of ", "w.pt fits model ", "tiny.yaml", "choose the same architecture"]
    desk.refuses_to_train("model=tiny.yaml", "weights=w.pt", parts=parts)


def test_val_of_a_classification_network(desk):
    with detector.quiet():
        model = tasks.ClassificationModel("yolo11n-cls.yaml", nc=5, verbose=False)
    desk.write("w.pt", saved({"model": model}))
    parts = ["w.pt ends in Classify", "no box-detection head", "use a detection network"]
    desk.refuses(val.main, ["--weights", "w.pt", "--data", "data/shapes.yaml"], parts)


def test_training_from_a_network_of_another_scale_warns(desk):
    desk.write("wide.yaml", (desk.folder / "tiny.yaml").read_text().replace("[8,", "[24,").replace("[16,", "[32,"))
    desk.write("w.pt", weights.export_ultralytics(detector.build_detector("wide.yaml", NAMES), {}, {}, 0))
    assert train.main(["--cfg", "run.yaml", "model=tiny.yaml", "weights=w.pt"]) == 0
    said = " ".join(desk.capsys.readouterr().out.split())
    assert "start anew, in model.0.conv" in said and "is the checkpoint of another architecture or scale" in said


@pytest.mark.parametrize("names", [list(NAMES), None, {}], ids=["list", "none", "empty"])
def test_val_of_a_network_whose_classes_have_no_names(desk, names):
    model = network()
    model.names = names
    desk.write("w.pt", saved({"model": model, "train_args": ["no dictionary either"]}))
    arguments = ["--weights", "w.pt", "--data", "data/shapes.yaml", "imgsz=64"]
    if names:
        assert val.main(arguments) == 0
    else:
        desk.refuses(val.main, arguments, ["w.pt: has 0 classes and lacks circle, square", "data with classes that it"])


def test_val_of_a_network_without_the_data_sets_classes(desk):
    model = detector.build_detector("yolo11n", ("circle", "cat"))
    desk.write("w.pt", weights.export_ultralytics(model, {}, {}, 0))
    parts = ["has 2 classes and lacks square, triangle, star, ring of the data set's 5"]
    desk.refuses(val.main, ["--weights", "w.pt", "--data", "data/shapes.yaml"], parts)
