"""Going on where nothing is to go on from, or as something else than was begun."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from yolo_cosine import train
from yolo_cosine.data.shapes import generate


def checkpoints(desk, suffix=".pt"):
    return sorted((desk.earlier / "checkpoints").glob(f"*{suffix}"))


def config(change):
    """A change of the text of the run's configuration."""
    return lambda desk: desk.write("runs/run/config.yaml", change((desk.earlier / "config.yaml").read_text()))


def cut(desk):
    for path in checkpoints(desk):
        path.write_bytes(path.read_bytes()[:-10])


def rewrite(suffix, content):
    def change(desk):
        for path in checkpoints(desk, suffix):
            path.write_bytes(content)

    return change


def without_best(desk):
    for path in checkpoints(desk, ".json"):
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "best"}))


def delete(suffix):
    return lambda desk: [path.unlink() for path in checkpoints(desk, suffix)]


def as_folder(desk):
    (desk.earlier / "config.yaml").unlink()
    (desk.earlier / "config.yaml").mkdir()


NO_RUN = ["is no folder of a run", "it has no config.yaml", "name one below runs"]
NOT_WHOLE = ["runs/run: has no whole checkpoint to go on from", "begin the run anew"]
TORN = [*NOT_WHOLE, "step-00000006.pt: differs from what its sidecar describes", "step-00000003.pt: differs"]
RUNS = [  # name, what happened to the run, what is said
    ("no configuration", lambda d: (d.earlier / "config.yaml").unlink(), NO_RUN),
    ("a folder as configuration", as_folder, NO_RUN),
    ("configuration cut short", config(lambda text: text[:200].rpartition(":")[0]), ["config.yaml:", "cannot read"]),
    ("configuration with a wrong value", config(lambda t: t.replace("lr0: 0.01", "lr0: fast")), ["lr0: 'fast'"]),
    ("configuration with a wrong key", config(lambda t: t + "\nlr00: 3\n"), ["lr00: 3", "did you mean lr0?"]),
    ("configuration as list", config(lambda t: "- a"), ["config.yaml: holds a list, not a mapping"]),
    ("configuration of bytes", lambda d: d.write("runs/run/config.yaml", b"\xff\xfe"), ["cannot be read", "UTF-8"]),
    ("no folder of checkpoints", lambda d: shutil.rmtree(d.earlier / "checkpoints"), NOT_WHOLE),
    ("no checkpoints", delete(".*"), NOT_WHOLE),
    ("no sidecars", delete(".json"), [*NOT_WHOLE, "step-00000006.pt: is not a whole checkpoint"]),
    ("checkpoints cut short", cut, TORN),
    ("checkpoints empty", rewrite(".pt", b""), TORN),
    ("checkpoints of something else", rewrite(".pt", b"hello"), TORN),
    ("sidecars of words", rewrite(".json", b"hello"), [*NOT_WHOLE, "step-00000006.pt: is not a whole checkpoint"]),
    ("sidecars of a list", rewrite(".json", b"[]"), TORN),
    ("sidecars that miss a key", without_best, [*NOT_WHOLE, "step-00000006.pt: its sidecar cannot be read"]),
    ("sidecars of bytes", rewrite(".json", b"\xff"), [*NOT_WHOLE, "step-00000006.pt: is not a whole checkpoint"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "parts"), [r[1:] for r in RUNS], ids=[r[0] for r in RUNS])
def test_runs_that_cannot_go_on(desk, change, parts):
    change(desk)
    desk.refuses(train.main, ["--resume", "runs/run"], parts)


GOES_ON = "a run goes on with the configuration that it was begun with, and this would change "
WAYS = ["--extend stretch", "--extend continue", "--extend restart"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nowhere"], ["--resume: nowhere ", *NO_RUN]),
        (["run.yaml"], ["--resume: run.yaml ", *NO_RUN]),
        (["runs"], ["--resume: runs ", *NO_RUN]),
        (["runs=data"], ["--resume: there is no run in data to go on with", "name its folder"]),
        (["runs=run.yaml"], ["--resume: there is no run in run.yaml", "name its folder"]),
        (["runs/run", "lr0=0.5"], [GOES_ON + "lr0 (was 0.01, now 0.5)", "leave that out, or begin a new run"]),
        (["runs/run", "batch=8"], [GOES_ON + "batch (was 4, now 8)", "leave that out"]),
        (["runs/run", "lr0=0.5", "seed=1"], ["lr0 (was 0.01, now 0.5), seed (was 0, now 1)"]),
        (["runs/run", "model=yolo11n.yaml"], [GOES_ON + "model (was ", "now 'yolo11n.yaml'"]),
        (["runs/run", "epocs=3"], ["command line: epocs: 3: there is no such key", "did you mean epochs?"]),
        (["runs/run", "lr0=x"], ["command line: lr0: 'x'", "valid number"]),
        (["runs/run", "lr0"], ["command line: 'lr0' is no override", "write key=value"]),
        (["runs/run", "epochs=3"], ["epochs: 3 is more than the run's 1", *WAYS]),
        (["runs/run", "epochs=0"], ["epochs: 0", "greater than or equal to 1"]),
        (["runs/run", "--extend", "stretch"], ["--extend: the run has epochs=1 already", "as in epochs=200"]),
        (["runs/run", "epochs=1", "--extend", "restart"], ["--extend: the run has epochs=1 already"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_wrong_ways_to_go_on(desk, arguments, parts):
    desk.refuses(train.main, ["--resume", *arguments], parts)


def test_a_length_that_was_edited(desk):
    config(lambda text: text.replace("\nepochs: 1\n", "\nepochs: 5\n"))(desk)
    parts = ["config.yaml: epochs: 5 is not what the run was begun with, 1", "put it back", "--extend"]
    desk.refuses(train.main, ["--resume", "runs/run", "epochs=2"], parts)


def test_data_that_is_gone(desk, yesterday):
    data = next(line for line in (yesterday / "config.yaml").read_text().splitlines() if line.startswith("data: "))
    config(lambda text: text.replace(data, "data: gone/set.yaml"))(desk)
    desk.refuses(train.main, ["--resume", "runs/run"], ["gone/set.yaml: there is no such file"])


def test_data_that_has_become_less(desk, tmp_path_factory, yesterday):
    """Twelve images where there were twenty-four."""
    less = generate(tmp_path_factory.mktemp("less") / "shapes", train=12, val=10)
    data = next(line for line in (yesterday / "config.yaml").read_text().splitlines() if line.startswith("data: "))
    config(lambda text: text.replace(data, f"data: {less}"))(desk)
    desk.refuses(
        train.main,
        ["--resume", "runs/run"],
        [
            "is not the data that the run was begun with: train: images were 24 images",
            "and are 12 images",
            "put it back, or begin a new run from its weights",
        ],
    )


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nowhere", "epochs=3"], ["--branch: nowhere is neither a run's folder nor a checkpoint in it", "name one"]),
        (["runs", "epochs=3"], ["--branch: runs is neither a run's folder nor a checkpoint"]),
        (["runs/run"], ["--branch: say where the new run ends, as in epochs=60"]),
        (["runs/run", "epochs=1"], ["step 6 is not inside a run of 6 steps"]),
        (["runs/run", "epochs=3", "lr0=3"], [GOES_ON + "lr0 (was 0.01, now 3.0)"]),
        (["runs/run", "epochs=3", "curve=bent"], ["command line: curve: 'bent'", "'cosine'"]),
        (["runs/run/checkpoints/step-00000099.pt", "epochs=3"], ["is not a whole checkpoint", "name another"]),
        (["runs/run/weights/best.pt", "epochs=3"], ["best.pt: is not a whole checkpoint", "name another checkpoint"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_wrong_branches(desk, arguments, parts):
    desk.refuses(train.main, ["--branch", *arguments], parts)


def test_a_branch_off_torn_checkpoints(desk):
    cut(desk)
    parts = ["--branch: runs/run has no whole checkpoint", "step-00000006.pt: differs from what its sidecar describes"]
    desk.refuses(train.main, ["--branch", "runs/run", "epochs=3"], parts)
    parts = ["--branch: ", "step-00000003.pt: differs from what its sidecar describes", "name another checkpoint"]
    desk.refuses(train.main, ["--branch", "runs/run/checkpoints/step-00000003.pt", "epochs=3"], parts)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_checkpoints_that_must_not_be_read(desk):
    for path in checkpoints(desk):
        path.chmod(0)
    desk.refuses(train.main, ["--resume", "runs/run"], [*NOT_WHOLE, "Permission denied"])
