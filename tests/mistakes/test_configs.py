"""Mistakes in configuration files and in the keys of the command line."""

from __future__ import annotations

import os

import pytest
import torch

from yolo_cosine import train

LONG = "9" * 400
TAIL = "write whole steps, as in 500it"


def bomb(key: str) -> str:
    """Nine lines that stand for eleven million values."""
    lines = ["preset_args:", "  a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 7)]
    return "\n".join([*lines, f"{key}: *a6"])


VALUES = [  # in a file that extends run.yaml; what is said
    # --- wrong types
    ("lr0: fast", ["bad.yaml: lr0: 'fast'", "valid number", "by default it is 0.01"]),
    ("lr0: '0.01'", ["lr0: '0.01'", "valid number"]),
    ("lr0: 2020-01-01", ["lr0: '2020-01-01'", "valid number"]),
    ("lr0: [0.1]", ["lr0: [0.1]", "valid number"]),
    ("epochs: '3'", ["epochs: '3'", "valid integer", "by default it is 100"]),
    ("epochs: 1.5", ["epochs: 1.5", "valid integer"]),
    ("epochs: null", ["epochs: null", "valid integer"]),
    ("batch: true", ["batch: true", "valid integer"]),
    ("data: 3", ["data: 3", "valid string", 'by default it is "shapes"']),
    ("nms: maybe", ["nms: 'maybe'", "valid boolean", "'auto'"]),
    ("workers: many", ["workers: 'many'", "valid integer", "'auto'"]),
    ("freeze: all", ["freeze: 'all'", "valid integer", "valid list"]),
    ("checkpoint: 1ep", ["checkpoint: '1ep'", "dictionary", "write checkpoint: {every: ..., keep: ...}"]),
    ("plateau: 3", ["plateau: 3", "dictionary", "write plateau: {factor: ..., patience: ..."]),
    ("phases: cosine", ["phases: 'cosine'", "valid list"]),
    # --- unknown keys
    ("mosiac: 1", ["mosiac: 1", "no such key", "did you mean mosaic?"]),
    ("nbs: 64", ["nbs: 64", "no such key", "here it is called nominal_batch"]),
    ("checkpoint: {evry: 1ep}", ["checkpoint.evry: '1ep'", "no such key", "did you mean checkpoint.every?"]),
    ("plateau: {factr: 0.5}", ["plateau.factr: 0.5", "did you mean plateau.factor?"]),
    ("plateau: {x: 0.5}", ["plateau.x: 0.5", "the keys are factor, patience"]),
    ("checkpoint.every: 1ep", ["checkpoint.every: '1ep'", "in a file it is written checkpoint: {every: ...}"]),
    ("zzz: 1", ["zzz: 1", "no such key", "`--keys` lists all of them"]),
    ("3: 4", ["3: 3: there is no such key"]),
    # --- out of range
    ("lr0: 0", ["lr0: 0", "greater than 0", "by default it is 0.01"]),
    ("lr0: -1", ["lr0: -1", "greater than 0"]),
    ("lr0: .nan", ["lr0: NaN", "finite number"]),
    ("lr0: .inf", ["lr0: Infinity", "finite number"]),
    ("lr0: 1e999", ["lr0: Infinity", "finite number"]),
    ("epochs: 1e999", ["epochs: Infinity", "valid integer"]),
    (f"epochs: {LONG}", [f"epochs: {LONG[:57]}...", "less than or equal to 1000000"]),
    ("imgsz: 6400000", ["imgsz: 6400000", "less than or equal to 16384"]),
    ("lrf: 1.5", ["lrf: 1.5", "less than or equal to 1"]),
    ("momentum: 1", ["momentum: 1", "less than 1"]),
    ("seed: -1", ["seed: -1", "greater than or equal to 0"]),
    ("plateau: {factor: 2}", ["plateau.factor: 2", "less than 1", "by default it is 0.1"]),
    ("degrees: .inf", ["degrees: Infinity", "less than or equal to 180"]),
    ("clip_norm: .inf", ["clip_norm: Infinity", "finite number"]),
    ("freeze: [-1]", ["freeze.0: -1", "greater than or equal to 0"]),
    ("max_det: 0", ["max_det: 0", "greater than or equal to 1"]),
    # --- words that are none of those known
    ("optimizer: sgd", ["optimizer: 'sgd'", "'SGD', 'AdamW' or 'MuSGD'"]),
    ("curve: cosinus", ["curve: 'cosinus'", "'cosine'"]),
    ("cache: disc", ["cache: 'disc'", "'auto', 'ram', 'disk' or 'none'"]),
    ("extensions: [{how: bend, step: 1, epochs: 1}]", ["extensions.0.how: 'bend'", "'stretch'"]),
    # --- names and folders
    ("name: ../x", ["name: '../x'", "no name of a folder", "write letters, digits", "where the folder is in runs"]),
    ("name: a/b", ["name: 'a/b'", "no name of a folder"]),
    ('name: "a\\nb"', ["name: 'a\\nb'", "no name of a folder"]),
    ("name: ''", ["name: ''", "no name of a folder"]),
    (f"name: {'x' * 300}", ["no name of a folder", "at most 240 letters"]),
    ("runs: ''", ["runs: ''", "at least 1 character", 'by default it is "runs"']),
    ("runs: run.yaml", ["runs: run.yaml is a file", "name a folder for the runs"]),
    ('runs: "a\\0b"', ["bad.yaml:2:7", "null character", "take the \\0 out"]),
    ("data: ''", ["data: ''", "at least 1 character"]),
    ("data: ~nobody_of_this_name/x.yaml", ["data: '~nobody_of_this_name/x.yaml'", "no user", "write the whole path"]),
    (f"data: {'x' * 300}.yaml", ["x.yaml: cannot be read: File name too long", "name a YAML file"]),
    ("model: yolo11n.pt", ["model: 'yolo11n.pt' is a checkpoint", "model: yolo11n.yaml", "weights: yolo11n.pt"]),
    ("model: run.yaml", ["run.yaml' cannot be built", "backbone"]),
    # --- durations
    ("eval_every: 3", ["eval_every: 3 has no unit", "write 3ep for epochs or 3it for steps"]),
    ("eval_every: 3 epochs", ["eval_every: '3 epochs' is not a duration", "write epochs as 3ep"]),
    ("eval_every: 0ep", ["eval_every: '0ep' is no time at all", "write at least 1it"]),
    ("eval_every: 0.5it", ["eval_every: '0.5it' is a fraction of a step", TAIL]),
    ("checkpoint: {every: 5}", ["checkpoint.every: 5 has no unit", "write 5ep"]),
    ("checkpoint: {every: 0.01%}", ["checkpoint.every: 0.01% is less than a step", "write at least 1it"]),
    ("period: 3 parsecs", ["period: '3 parsecs' is not a duration"]),
    # --- the schedule
    ("warmup_epochs: 12\nepochs: 10", ["warmup_epochs: 12 is longer than epochs=10", "shorten the warmup"]),
    ("warmup_epochs: 1", ["warmup_epochs: 1 takes up all of epochs=1", "or train longer"]),
    ("period: 80%", ["period: 80% ends before the run does", "after_period: hold, rise or restart"]),
    ("after_period: hold", ["after_period: hold follows a period, and there is none", "write one"]),
    ("curve: exponential\nlrf: 0", ["lrf: 0 is where an exponential decay never gets", "as in lrf: 0.001"]),
    ("phases: []", ["phases: [] is no list of phases", "write at least one"]),
    ("phases: [{curve: cosine, end: 0, for: 3ep}]", ["the phases take 18 steps (3 epochs), more than the run's 6"]),
    ("phases: [{curve: cosine, end: 0, for: 50%}]", ["the phases take 3 steps", "less than", "write for: rest"]),
    ("phases: [{curve: cosin, end: 0, for: rest}]", ["phases.0.curve: 'cosin' is no curve", "did you mean cosine?"]),
    ("phases: [{curve: cosine, ende: 0, for: rest}]", ["phases.0.ende: cosine has no such argument", "mean end?"]),
    ("phases: [{curve: cosine, end: .nan, for: rest}]", ["phases.0.end: nan is not a finite number"]),
    ("phases: [{curve: cosine, end: 0}]", ["phases.0.for: missing", "write the phase's length"]),
    ("phases: [{curve: cosine, end: 0, for: 0ep}]", ["phases.0.for: 0ep is no time at all", "leave the phase out"]),
    ("phases: [{curve: constant, for: rest}, {curve: linear, end: 0, for: rest}]", ["phases.1.for: rest", "give one"]),
    ("phases: [{curve: exponential, gamma: 9e99, every: 1it, for: rest}]", ["is inf at the run's last step, 5"]),
    ("group_phases: {biass: [{curve: constant, for: rest}]}", ["group_phases.biass: there is no such group", "bias?"]),
    ("lr_factors: {bias: 0}", ["lr_factors.bias: 0", "greater than 0"]),
    ("lr_factors: {neck: 2}", ["lr_factors.neck", "is neither a group", "layers 0-9"]),
    ("lr_factors: {layers 90-99: 2}", ["lr_factors.layers 90-99", "layers 0 to 23"]),
    ("lr_factors: {layers 9-3: 2}", ["lr_factors.layers 9-3", "exchange them"]),
    ("preset: nonsense", ["preset: 'nonsense' is not known", "as in transformers.cosine"]),
    ("preset: ''", ["preset: ''", "at least 1 character"]),
    ("preset: transformers.cosin", ["'cosin' is no schedule", "did you mean cosine?"]),
    ("preset: transformers.cosine\npreset_args: {warmup: 3}", ["warmup: there is no such argument", "it has num_"]),
    ("preset: transformers.cosine\npreset_args: {num_warmup_steps: x}", ["wrong type", "num_warmup_steps: 'x'"]),
    ("preset: transformers.cosine\npreset_args: {num_warmup_steps: -1}", ["num_warmup_steps: -1", "write 0 or more"]),
    ("preset: torch.StepLR\npreset_args: {step_size: 0}", ["step_size: 0 divides the step", "write at least 1"]),
    ("preset: torch.OneCycleLR\npreset_args: {max_lr: 0.1, total_steps: 3}", ["total_steps", "3"]),
    ("preset: yolox\nphases: [{curve: constant, for: rest}]", ["phases and preset: yolox", "take one away"]),
    ("preset_args: {a: 1}", ["preset_args: are the arguments of a peer's schedule", "name it"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "parts"), VALUES, ids=[text[:60].replace("\n", "; ") for text, _ in VALUES])
def test_wrong_values_in_a_file(desk, text, parts):
    desk.write("bad.yaml", f"extends: run.yaml\n{text}\n")
    desk.refuses_to_train(parts=parts, config="bad.yaml")


FILES = [  # name, content, what is said
    ("list", "- a\n- b\n", ["bad.yaml: holds a list, not a mapping", "write `key: value` lines"]),
    ("word", "hello", ["bad.yaml: holds a str, not a mapping"]),
    ("key twice", "lr0: 1\nlr0: 2", ["bad.yaml:2:1", "the key 'lr0' stands twice", "keep one"]),
    ("key twice, once in quotes", "lr0: 1\n'lr0': 2", ["bad.yaml:2:1", "the key 'lr0' stands twice"]),
    ("key twice in a group", "checkpoint: {keep: 1, keep: 2}", ["bad.yaml:1:23", "'keep' stands twice"]),
    ("open bracket", "lr0: [", ["bad.yaml:1:7", "cannot read the YAML", "mend it there"]),
    ("tab", "checkpoint:\n\tkeep: 1", ["bad.yaml:2:1", "'\\t'", "indent with spaces, not tabs"]),
    ("two documents", "lr0: 1\n---\nlr0: 2\n", ["bad.yaml:2:1", "another document"]),
    ("template", "data: {{ DATA }}", ["bad.yaml:1:8", "put quotes around {{ ... }}"]),
    ("unknown alias", "lr0: *x", ["bad.yaml:1:6", "undefined alias 'x'"]),
    ("alias of itself", "phases: &a [*a]", ["bad.yaml:1:9", "recursive"]),
    ("aliases of aliases", bomb("zzz"), ["bad.yaml:1:1", "stand for 1.1e+07 values", "write out what you mean"]),
    ("aliases in a number", bomb("lr0"), ["bad.yaml:1:1", "stand for 1.1e+07 values"]),
    ("aliases in phases", bomb("phases"), ["bad.yaml:1:1", "stand for 1.1e+07 values"]),
    ("deep", "lr0: " + "[" * 2000, ["bad.yaml", "nested too deeply", "write it flatter"]),
    ("python object", "lr0: !!python/object/apply:os.system [touch executed]", ["bad.yaml:1:6", "!!python", "take it out"]),
    ("timestamp tag", "lr0: !!timestamp 2020", ["bad.yaml:1:6", "the tag !!timestamp", "take it out"]),
    ("own tag", "lr0: !rate 0.1", ["bad.yaml:1:6", "the tag !rate"]),
    ("int tag", "epochs: !!int ten", ["bad.yaml:1:9", "'ten' is no number", "write another"]),
    ("too many digits", f"epochs: {'9' * 5000}", ["bad.yaml:1:9", "too many digits", "write another"]),
    ("null byte", b"lr0: \x00", ["bad.yaml", "special characters are not allowed"]),
    ("binary", bytes(range(256)), ["bad.yaml: cannot be read", "save it as text, in UTF-8"]),
    ("latin-1", "name: gr\u00fcn".encode("latin-1"), ["bad.yaml: cannot be read", "0xfc", "in UTF-8"]),
    ("utf-16", "lr0: 1".encode("utf-16"), ["bad.yaml: cannot be read", "in UTF-8"]),
    ("extends nothing", "extends: ruin.yaml", ["bad.yaml: extends: ", "ruin.yaml: there is no such file", "run.yaml?"]),
    ("extends a number", "extends: 3", ["bad.yaml: extends: 3 is no file name", "name one YAML file"]),
    ("extends itself", "extends: bad.yaml", ["extends: goes in a circle: bad.yaml -> bad.yaml"]),
    ("extends a folder", "extends: data", ["extends: ", "it is a folder", "name a YAML file"]),
    ("all at once", "lr0: 0\nepochs: -2\nfoo: 1", ["lr0: 0", "epochs: -2", "foo: 1"]),
]  # fmt: skip


@pytest.mark.parametrize(("content", "parts"), [f[1:] for f in FILES], ids=[f[0] for f in FILES])
def test_wrong_files(desk, content, parts):
    desk.write("bad.yaml", content)
    desk.refuses_to_train(parts=parts, config="bad.yaml")


def test_a_circle_of_two_files(desk):
    desk.write("a.yaml", "extends: b.yaml")
    desk.write("b.yaml", "extends: a.yaml")
    desk.refuses_to_train(parts=["extends: goes in a circle: a.yaml -> b.yaml -> a.yaml"], config="a.yaml")


def test_a_mistake_in_the_file_below(desk):
    desk.write("b.yaml", "lr0: 1\nlr0: 2")
    desk.write("a.yaml", "extends: b.yaml")
    desk.refuses_to_train(parts=["a.yaml: extends: ", "b.yaml:2:1", "stands twice"], config="a.yaml")


def test_no_file(desk):
    desk.refuses_to_train(parts=["ruin.yaml: there is no such file", "did you mean", "run.yaml?"], config="ruin.yaml")


def test_a_folder_as_file(desk):
    desk.refuses_to_train(parts=["data: cannot be read: it is a folder", "name a YAML file"], config="data")


def test_a_link_to_itself(desk):
    (desk.folder / "loop.yaml").symlink_to("loop.yaml")
    desk.refuses_to_train(parts=["loop.yaml: cannot be read", "name a YAML file"], config="loop.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_must_not_be_read(desk):
    desk.write("bad.yaml", "lr0: 1").chmod(0)
    desk.refuses_to_train(parts=["bad.yaml: cannot be read: Permission denied"], config="bad.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_runs_folder_that_must_not_be_written(desk):
    (desk.folder / "runs").chmod(0o500)
    desk.refuses_to_train(parts=["runs: ", "cannot be written", "name a folder that can be"])


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ("data=nowhere.yaml", ["nowhere.yaml", "no such file"]),
        ("data=shaeps", ["'shaeps'", "did you mean shapes?"]),
        ("data=./run.txt", ["run.txt: there is no such file or folder", "name a data set YAML"]),
        ("data=data/images", ["is no folder in COCO's layout", "write a data set YAML"]),
        ("epocs=3", ["epocs", "did you mean epochs?"]),
        ("batch=500", ["batch: 500 is larger than the training set, 24 images", "write batch: 12"]),
        ("imgsz=100", ["imgsz: 100 is no multiple of the stride 32", "write 96"]),
        ("imgsz=32 batch=23", ["imgsz: at 32", "batch of one image"]),
        ("imgsz=96 multi_scale=0.4 batch=23", ["imgsz: at 96 with multi_scale: 0.4", "no size is below 64"]),
        ("model=yolo77n.yaml", ["model: 'yolo77n.yaml'", "yolo11s.yaml"]),
        ("model=yolo11n-pose.yaml", ["Pose", "box-detection"]),
        ("weights=missing/best.pt", ["missing/best.pt", "no such file"]),
        ("weights=ruin.yaml", ["'ruin.yaml' is no .pt file", "name an Ultralytics checkpoint"]),
        ("weights=run.yaml", ["run.yaml' is no .pt file"]),
        ("device=cuda:7", ["device: 'cuda:7' is not here", "auto or cpu"]),
        ("device=gpu", ["device: 'gpu' is no device"]),
        ("device=9", ["device: '9' is not here", "auto or cpu"]),
        ("device=-1", ["device: -1", "greater than or equal to 0"]),
        ("weights=data", ["'data' is no .pt file"]),
        ("eval_every=2", ["eval_every: 2 has no unit", "write 2ep for epochs or 2it for steps"]),
        ("precision=fp16", ["precision: 'fp16' needs a GPU"]),
        ("freeze=99", ["freeze: 99", "layers 0 to 23"]),
        ("freeze=24", ["freeze: 24", "nothing to train"]),
        ("nms=false", ["nms: false", "no NMS-free head"]),
        ("eval_every=0.01%", ["eval_every: 0.01%", "at least 1it"]),
        ("lr0", ["command line: 'lr0' is no override", "write key=value"]),
        ("=3", ["command line: '=3' is no override", "write key=value"]),
        ("lr0=", ["lr0: null", "valid number"]),
        ("lr0==3", ["lr0: '=3'", "valid number"]),
        ("lr0=[", ["command line: lr0:1:2", "cannot read the YAML"]),
        ("lr0=0.1 lr0=x", ["with", "lr0: 'x'", "valid number"]),
        ("lr0.x=3", ['lr0: {"x": 3}', "valid number"]),
        ("checkpoint.evry=1ep", ["checkpoint.evry: '1ep'", "did you mean checkpoint.every?"]),
        ("checkpoint..every=1ep", ["'checkpoint..every=1ep' is no override", "write key=value"]),
        ("checkpoint={keep:1}", ["checkpoint.keep:1: null: there is no such key", "did you mean checkpoint.keep?"]),
        ("checkpoint={'keep':1,'keep':2}", ["command line: checkpoint:1:11", "'keep' stands twice"]),
        ("phases.0.for=3ep", ["phases", "valid list"]),
        ("extends=run.yaml", ["command line: extends=run.yaml", "name run.yaml as the configuration"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_wrong_overrides(desk, overrides, parts):
    if overrides.startswith("device=") and torch.cuda.device_count() > 7:
        pytest.skip("there are more than seven GPUs here")
    desk.refuses_to_train(*overrides.split(), parts=parts)


def test_a_runs_folder_that_is_a_file(desk):
    desk.write("taken", "")
    desk.refuses_to_train("runs=taken", parts=["is a file"])


def names_and_times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_full_disk_before_the_start(desk, monkeypatch):
    from yolo_cosine.engine import run

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "JsonlSink", full)
    earlier = names_and_times(desk.folder / "runs")
    assert train.main(["--cfg", "run.yaml"]) == 2
    error = desk.capsys.readouterr().err
    assert "cannot be written: No space left on device" in error and "Traceback" not in error
    assert names_and_times(desk.folder / "runs") == earlier


def test_a_full_disk_at_a_checkpoint(desk, monkeypatch):
    from yolo_cosine.engine import saving

    def full(path, data, facts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "write_checkpoint", full)
    earlier = names_and_times(desk.earlier)
    assert train.main(["--cfg", "run.yaml"]) == 1
    error = desk.capsys.readouterr().err
    assert "runs/run-2: cannot be written: No space left on device" in error and "Traceback" not in error
    assert (desk.folder / "runs/run-2/results.csv").exists()  # what was measured is kept
    assert names_and_times(desk.earlier) == earlier
