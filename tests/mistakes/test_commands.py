"""Command lines of every entry point that ask for what cannot be."""

from __future__ import annotations

import subprocess
import sys

import pytest

from yolo_cosine import cli, dataset, find_lr, preview, train, val

RUN = ["--cfg", "run.yaml"]
VAL = ["--weights", "runs/run/weights/best.pt", "--data", "data/shapes.yaml"]
RANGE = "the rates are above 0 and the first is the lower one"
BATCHES = "is no number of batches; write 1 to 1000000000"
NO_PLACE = "its folder is not there or cannot be written; name another"
A_FOLDER = "is a folder; name a file"
STEPS = ["--steps-per-epoch", "4"]

LINES = [  # the command, its arguments, what is said
    # --- train
    (train, [], ["--cfg FILE is needed", "configs/quickstart.yaml"]),
    (train, ["--cfg"], ["--cfg", "expected one argument"]),
    (train, [*RUN, "--fast"], ["unrecognized arguments: --fast"]),
    (train, [*RUN, "--resume", "runs/run"], ["--cfg begins a run, --resume goes on with one", "give one of them"]),
    (train, [*RUN, "--branch", "runs/run"], ["--cfg begins a run", "give one of them"]),
    (train, [*RUN, "--extend", "stretch"], ["--extend goes with --resume RUN_DIR epochs=..."]),
    (train, ["--resume", "runs/run", "--extend", "bend", "epochs=3"], ["--extend", "'bend'"]),
    # --- find_lr
    (find_lr, [], ["--cfg"]),
    (find_lr, ["--cfg", "ruin.yaml"], ["ruin.yaml: there is no such file"]),
    (find_lr, [*RUN, "--from", "1", "--to", "0.1"], ["--from 1 --to 0.1", RANGE]),
    (find_lr, [*RUN, "--from", "1", "--to", "1"], ["--from 1 --to 1", RANGE]),
    (find_lr, [*RUN, "--from", "0"], ["--from 0", RANGE]),
    (find_lr, [*RUN, "--from=-1"], ["--from -1", RANGE]),
    (find_lr, [*RUN, "--from", "nan"], ["--from nan", RANGE]),
    (find_lr, [*RUN, "--to", "1e999"], ["--to inf", RANGE]),
    (find_lr, [*RUN, "--to", "high"], ["--to", "'high'"]),
    (find_lr, [*RUN, "--updates", "5"], ["--updates: 5 are too few", "write 20 or more"]),
    (find_lr, [*RUN, "--updates", "1e3"], ["--updates", "'1e3'"]),
    (find_lr, [*RUN, "--png", "none/x.png"], ["--png: none/x.png", NO_PLACE]),
    (find_lr, [*RUN, "--png", "data"], ["--png: data", A_FOLDER]),
    (find_lr, [*RUN, "--csv", "data"], ["--csv: data", A_FOLDER]),
    (find_lr, [*RUN, "--csv", "run.yaml/x.csv"], ["--csv: run.yaml/x.csv", NO_PLACE]),
    (find_lr, [*RUN, "lr0=x"], ["lr0: 'x'"]),
    # --- preview
    (preview, [], ["--cfg FILE or --from PEER.SCHEDULE is needed, one of them"]),
    (preview, [*RUN, "--from", "torch.StepLR"], ["is needed, one of them"]),
    (preview, ["--cfg", "ruin.yaml"], ["ruin.yaml: there is no such file"]),
    (preview, [*RUN, "data=nowhere"], ["data: 'nowhere' is no file", "add --steps-per-epoch N"]),
    (preview, [*RUN, "--steps-per-epoch", "0"], ["--steps-per-epoch: 0", BATCHES]),
    (preview, [*RUN, "--steps-per-epoch", "9" * 400], ["--steps-per-epoch: 999", BATCHES]),
    (preview, [*RUN, "--steps-per-epoch", "x"], ["--steps-per-epoch", "'x'"]),
    (preview, [*RUN, *STEPS, "--png", "none/x.png"], ["--png: none/x.png", NO_PLACE]),
    (preview, [*RUN, *STEPS, "--png", "data"], ["--png: data", A_FOLDER]),
    (preview, [*RUN, *STEPS, "--csv", "none/x.csv"], ["--csv: none/x.csv", NO_PLACE]),
    (preview, [*RUN, *STEPS, "--csv", "t.csv", "--png", "none/x.png"], ["--png: none/x.png", NO_PLACE]),
    (preview, [*RUN, "run.yaml", *STEPS, "--csv"], ["--csv: several configurations", "name a file"]),
    (preview, [*RUN, *STEPS, "phases=[]"], ["phases: [] is no list of phases", "write at least one"]),
    (preview, [*RUN, *STEPS, "preset=torch.StepLR", "preset_args={step_size: 0}"], ["step_size: 0 divides", "at least 1"]),
    (preview, ["--from", "torch"], ["--from: 'torch' names no schedule", "torch has", "StepLR"]),
    (preview, ["--from", "tourch.StepLR"], ["'tourch' is not known", "did you mean torch?"]),
    (preview, ["--from", "torch.StepL"], ["'StepL' is no schedule", "did you mean StepLR?"]),
    (preview, ["--from", "torch.StepLR"], ["step_size is missing", "write step_size=..."]),
    (preview, ["--from", "torch.StepLR", "step_size=x"], ["step_size: 'x' is no finite number", "write one"]),
    (preview, ["--from", "torch.StepLR", "step_size=3", "lr0=fast"], ["lr0: 'fast' is no finite number from 0 on"]),
    (preview, ["--from", "torch.StepLR", "step_size=3", "lr0=.nan"], ["lr0: nan is no finite number from 0 on"]),
    (preview, ["--from", "darknet.constant", "learning_rate=0"], ["the base rate is 0", "write lr0=... above 0"]),
    (preview, ["--from", "torch.StepLR", "size=3"], ["size: there is no such argument", "did you mean step_size?"]),
    (preview, ["--from", "darknet.step", "step=x"], ["step: 'x' is no finite number", "wrong type"]),
    (preview, ["--from", "ultralytics.linear", f"epochs={'9' * 400}", "iters_per_epoch=3"], ["ultralytics.linear: ", "too large"]),
    # --- val
    (val, [], ["--weights", "--data"]),
    (val, VAL[:2], ["--data"]),
    (val, [*VAL, "--split", "dev"], ["--split", "'dev'"]),
    (val, [*VAL, "--split", "test"], ["has no split 'test'", "it has train, val", "add `test:` to it"]),
    (val, [*VAL, "epochs=3"], ["epochs: 3: there is no such key", "the keys are device, precision"]),
    (val, [*VAL, "conf=2"], ["conf: 2", "less than 1", "by default it is 0.001"]),
    (val, [*VAL, "iou=0"], ["iou: 0", "greater than 0"]),
    (val, [*VAL, "imgsz=640000000"], ["imgsz: 640000000", "less than or equal to 16384"]),
    (val, [*VAL, "nms=false"], ["nms: false", "no NMS-free head", "write nms: auto"]),
    (val, [*VAL, "data=nowhere"], ["data: 'nowhere' is no file", "the names are"]),
    (val, [*VAL, "--json", "none/x.json"], ["--json: none/x.json", NO_PLACE]),
    (val, [*VAL, "--json", "data"], ["--json: data", A_FOLDER]),
    (val, [*VAL, "--predictions", "none/x.json"], ["--predictions: none/x.json", NO_PLACE]),
    # --- dataset
    (dataset, [], ["COMMAND"]),
    (dataset, ["fletch"], ["'fletch'", "fetch"]),
    (dataset, ["fetch"], ["NAME_OR_YAML"]),
    (dataset, ["fetch", "coc"], ["coc: there is no data set of this name", "did you mean coco?"]),
    (dataset, ["fetch", "ruin.yaml"], ["ruin.yaml: there is no such file", "did you mean run.yaml?"]),
    (dataset, ["fetch", "data/shapes.yaml"], ["has no fetch: list", "get the files by hand"]),
    (dataset, ["fetch", "./data"], ["data: cannot be read: it is a folder", "name a YAML file"]),
    (dataset, ["fetch", "shapes", "--to", "run.yaml"], ["run.yaml: is there already", "name a new or empty folder"]),
    # --- all of them
    (cli, ["trian"], ["'trian' is no command", "there are train, ablate, val"]),
    (cli, ["--fast"], ["'--fast' is no command"]),
    (cli, ["train", "--cfg", "ruin.yaml"], ["ruin.yaml: there is no such file"]),
    (cli, ["val"], ["--weights", "--data"]),
]  # fmt: skip


def name_of(command) -> str:
    return command.__name__.rpartition(".")[2]


@pytest.mark.parametrize(
    ("command", "arguments", "parts"), LINES, ids=[f"{name_of(c)} {' '.join(a)[:70]}" for c, a, _ in LINES]
)
def test_wrong_command_lines(desk, command, arguments, parts):
    desk.refuses(command.main, arguments, parts)


def test_no_command_at_all(desk):
    assert cli.main([]) == 2
    said = desk.capsys.readouterr().out
    assert all(f"  {command} " in said for command in cli.COMMANDS)


BROKEN = "data/annotations/instances_train.json"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(train, RUN), (find_lr, RUN), (preview, RUN), (val, [*VAL, "--split", "train"])],
    ids=["train", "find_lr", "preview", "val"],
)
def test_every_command_tells_a_mistake_in_the_data_alike(desk, command, arguments):
    desk.write(BROKEN, "[")
    desk.refuses(command.main, arguments, [f"{BROKEN}:1:2: is no JSON", "write or download it again"])


@pytest.mark.parametrize("command", [train, find_lr, preview], ids=name_of)
def test_every_command_tells_a_mistake_in_the_configuration_alike(desk, command):
    desk.write("run.yaml", "lr0: fast\nepocs: 3")
    parts = [
        "run.yaml: lr0: 'fast' should be a valid number",
        "run.yaml: epocs: 3: there is no such key; did you mean epochs?",
    ]
    desk.refuses(command.main, RUN, parts)


FETCHES = [  # the first entry of the list, or the whole; what is said
    ("x", ["fetch: is not a list of entries", "write `- url: https://...` below it"]),
    ("[]", ["fetch: is not a list of entries"]),
    ("[{url: somewhere}]", ["fetch.0: url: 'somewhere' is no URL to fetch", "write an http, https or file URL"]),
    ("[{url: ftp://x/a.zip}]", ["url: 'ftp://x/a.zip' is no URL to fetch"]),
    ("[{url: https://x/}]", ["url: 'https://x/' does not end in a file name"]),
    ("[{url: 'https://x:port/a.zip'}]", ["is no URL to fetch", "port", "write an http, https or file URL"]),
    ("[{url: 'https://[x/a.zip'}]", ["is no URL to fetch", "IPv6"]),
    ("[{url: 3}]", ["fetch.0: url: 3", "valid string"]),
    ("[{urll: https://x/a.zip}]", ["url: missing; write `url: ...`", "urll", "did you mean url?"]),
    ("[{url: https://x/a.zip, sha256: abc}]", ["sha256: 'abc'", "pattern"]),
    ("[{url: https://x/a.zip, size: -1}]", ["size: -1", "greater than or equal to 1"]),
    ("[{url: https://x/a.zip, to: ../x}]", ["to: '../x' is not below the data set's folder", "without .."]),
    ("[{url: https://x/a.zip, to: /x}]", ["to: '/x' is not below the data set's folder"]),
    ("[{url: file:///nowhere/a.zip}]", ["file:///nowhere/a.zip: cannot be read", "mend the URL"]),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "parts"), FETCHES, ids=[f[0] for f in FETCHES])
def test_wrong_lists_to_fetch(desk, entries, parts):
    desk.write("set.yaml", f"path: set\nfetch: {entries}\n")
    desk.refuses(dataset.main, ["fetch", "set.yaml"], parts)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("3", ["path: 3 is no folder", "write a path"]),
        ("${NOT_SET_ANYWHERE}", ["NOT_SET_ANYWHERE is not set", "set it or write"]),
        ("~nobody_of_this_name/x", ["path: '~nobody_of_this_name/x'", "no user of this name", "write the whole path"]),
        ("run.yaml", ["run.yaml: cannot be written", "use --to DIR for another folder"]),
    ],
)
def test_a_place_that_nothing_can_be_fetched_to(desk, path, parts):
    desk.write("set.yaml", f"path: {path}\nfetch: [{{url: file:///nowhere/a.zip}}]\n")
    desk.refuses(dataset.main, ["fetch", "set.yaml"], parts)


def test_val_finds_that_it_cannot_write_before_it_evaluates(desk):
    for option in ("--json", "--predictions"):
        arguments = [
            "--weights",
            "none.pt",
            "--data",
            "data/shapes.yaml",
            option,
            str(desk.folder / "no/such/file.json"),
        ]
        desk.refuses(val.main, arguments, [f"{option}: {desk.folder}/no/such/file.json: its folder is not there"])


def test_the_process_ends_with_the_code(tmp_path):
    command = [sys.executable, "-m", "yolo_cosine.train", "--cfg", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "there is no such file" in done.stderr and "Traceback" not in done.stderr
