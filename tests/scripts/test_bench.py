"""The benchmarks against Ultralytics: what they ask of both trainers, and what they make of the figures."""

from __future__ import annotations

import inspect
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from yolo_cosine import events
from yolo_cosine.config.load import load_config
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.data.shapes import generate as generate_shapes
from yolo_cosine.errors import TrainingFailed, UserError
from yolo_cosine.model import detector

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import bench_train
from bench import launch, runs, standin
from bench.clock import Clock
from bench.data import prepare
from bench.figures import figures, profile_table, summarize, table
from bench.modes import MODES, Setting, our_config, ultralytics_arguments
from bench.ours import Listener, ceiling, evaluation, profile
from bench.photos import generate, photograph
from bench.theirs import Callbacks, prefetch_note

SETTING = Setting("data.yaml", "yolo11n.yaml", 320, 16, 16, 40, 3, "cpu")


@pytest.fixture(scope="module")
def theirs() -> dict:
    """Ultralytics' arguments with their defaults."""
    return yaml.safe_load(Path(find_spec("ultralytics").origin).with_name("cfg").joinpath("default.yaml").read_text())


# --- what both are asked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", MODES)
def test_a_mode_names_keys_of_its_trainer_and_changes_them(name, device, theirs):
    mode = MODES[name]
    options = mode.options(device)
    if options is None:
        assert device == "cpu"
        return
    own = RunConfig().model_dump() if mode.trainer == "ours" else {**theirs, "threads": None}
    assert options.keys() <= own.keys()
    assert all(own[key] != value or key == "workers" for key, value in options.items())
    assert "full" not in options.values()


def test_on_a_gpu_each_trainer_is_compiled_too():
    assert runs.chosen_modes(None, "cpu") == ["ours", "defaults", "best"]
    assert runs.chosen_modes(None, "cuda") == ["ours", "ours-compiled", "defaults", "best", "compiled"]
    assert MODES["ours-compiled"].options("cuda") == {"compile": "default", "deterministic": False}


def test_both_trainers_are_asked_the_same(theirs):
    ours = load_config(None, [f"{k}={json.dumps(v)}" for k, v in our_config(SETTING, {}, "runs").items()])
    asked = ultralytics_arguments(SETTING, {"threads": 2}, "runs")
    assert asked.keys() <= theirs.keys()
    asked = {**theirs, **asked}
    assert asked["cos_lr"] and ours.curve == "cosine" and asked["nbs"] == ours.nominal_batch
    # what has one name in both means the same, also where neither is told anything
    apart = {"data", "model", "runs", "name", "device", "batch", "conf", "freeze", "plots", "compile", "nms"}
    apart |= {"cache", "time", "workers"}  # each trainer's own way
    shared = (ours.model_dump().keys() & asked.keys()) - apart
    assert {"lr0", "lrf", "momentum", "weight_decay", "warmup_epochs", "mosaic", "scale", "close_mosaic"} <= shared
    assert {k: getattr(ours, k) for k in shared} == {k: asked[k] for k in shared}


@pytest.mark.parametrize(("epochs", "warmup", "mosaic_free"), [(3, 1.0, 0), (9, 3.0, 0), (40, 3.0, 10)])
def test_a_short_run_has_mosaics_and_does_more_than_warm_up(epochs, warmup, mosaic_free):
    setting = Setting("d.yaml", "m.yaml", 320, 16, 16, epochs, 0, "cpu")
    assert setting.warmup_epochs == warmup and setting.close_mosaic == mosaic_free


def test_our_run_can_be_listened_to():
    from yolo_cosine.engine import run

    assert list(inspect.signature(run.build_trainer).parameters)[:3] == ["config", "make_run_dir", "emit"]


MISTAKES = {
    "epochs": (["--data", "x", "--epochs", "1"], "the first one warms up; write 2 or more"),
    "target": (["--data", "x", "--target-map", "55"], "is no mAP; write a number between 0 and 1"),
    "best": (["--data", "x", "--best", "cahce=ram"], "'cahce' is no argument of Ultralytics' trainer"),
    "ours": (["--data", "x", "--ours", "lr_0=1"], "lr_0"),
    "out": (["--data", "x", "--out", "no/where.json"], "its folder is not there"),
    "seeds": (["--data", "x", "--seeds", "0", "-1"], "-1 is no seed"),
    "minutes": (["--data", "x", "--minutes", "0"], "is no time"),
}


@pytest.mark.parametrize("arguments", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_before_anything_is_trained(arguments, tmp_path, capsys):
    given, said = arguments
    assert bench_train.main([*given, "--work", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "device", "said"),
    [
        ("ours,bset", "cpu", "'bset' is no mode"),
        ("compiled", "cpu", "is not for a cpu"),
        (",", "cuda", "names no mode"),
    ],
)
def test_a_mode_that_is_not_there_is_a_mistake(names, device, said):
    with pytest.raises(UserError, match=said):
        runs.chosen_modes(names, device)


def test_devices():
    assert [runs.chosen_device(name, []) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    assert [runs.chosen_device(name, ["A", "B"]) for name in ("auto", "1", "cuda:1", "cpu")] == ["0", "1", "1", "cpu"]
    for name in ("2", "cuda:7", "tpu", "-1"):
        with pytest.raises(UserError, match=r"is not here, there are 2 GPU\(s\)"):
            runs.chosen_device(name, ["A", "B"])


def test_a_folder_that_cannot_be_made_is_a_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--work: .* cannot be made"):
        runs.made_folder(tmp_path / "file/work")
    assert runs.made_folder(tmp_path / "a/b").is_dir()


# --- what is noted ----------------------------------------------------------------------------------------------------


@pytest.fixture
def seconds(monkeypatch) -> list[float]:
    """The time that clocks tell, to be set."""
    now = [0.0]
    monkeypatch.setattr(Clock, "now", lambda self: now[0])
    return now


def test_the_times_of_our_run(seconds):
    clock = Clock(0.0)
    told: list[events.Event] = []
    hear = Listener(clock)._before(told.append)

    def at(second: float, event: events.Event) -> None:
        seconds[0] = second
        hear(event)

    at(5, events.RunStarted(Path(), {}, (), (), (), 2, 2, 8, {}))
    at(6, events.StepDone(0, 0, {}, 8, updated=False))
    at(7, events.StepDone(1, 0, {}, 5, updated=True))
    at(8, events.EpochDone(1, 0, {}, 3.0))
    at(10, events.Evaluated(1, 0, {events.MAP: 0.25}, {}, np.zeros(1), np.zeros(1), True))
    at(11, events.Saved(1, Path(), True))
    at(14, events.StepDone(2, 1, {}, 8, updated=True))
    at(15, events.Notice("by the way", step=2))
    at(16, events.StepDone(3, 1, {}, 5, updated=True))
    at(17, events.EpochDone(3, 1, {}, 6.0))
    at(19, events.Evaluated(3, 1, {events.MAP: 0.5}, {}, np.zeros(1), np.zeros(1), True))
    assert len(told) == 11
    assert clock.first_step == 7
    first, second = clock.epochs
    assert (first["begun"], first["train_seconds"], first["eval_seconds"], first["ended"]) == (5, 3, 2, 11)
    assert (second["begun"], second["train_seconds"], second["eval_seconds"], second["ended"]) == (11, 6, 2, 19)
    assert (first["images"], second["images"]) == (13, 13)
    assert clock.evaluations == [{"epoch": 0, "at": 10, "map": 0.25}, {"epoch": 1, "at": 19, "map": 0.5}]


def test_the_times_of_ultralytics_run(seconds):
    loader = SimpleNamespace(batch_size=8, num_workers=3, dataset=range(13))
    trainer = SimpleNamespace(
        train_loader=loader, ema=SimpleNamespace(updates=0), args=SimpleNamespace(amp=True), amp=False, epoch=0, batch_size=8,
        optimizer=SimpleNamespace(param_groups=[{"lr": 0.5}]), wdir=Path("w"), metrics={"metrics/mAP50-95(B)": 0.5},
    )  # fmt: skip
    validator = SimpleNamespace(speed={"inference": 250.0}, seen=4)
    callbacks = Callbacks(Clock(0.0), None, True)

    def at(second: float, name: str, who=trainer) -> None:
        seconds[0] = second
        getattr(callbacks, name)(who)

    at(5, "on_train_epoch_start")
    at(5.5, "on_train_epoch_start")  # memory ran out
    at(6, "on_train_batch_end")
    trainer.ema.updates = 1
    at(7, "on_train_batch_end")
    at(8, "on_train_epoch_end")
    at(10, "on_val_end", validator)
    at(11, "on_model_save")
    at(11.5, "on_fit_epoch_end")
    at(12, "on_train_epoch_start")
    at(12.1, "on_train_batch_end")
    at(12.2, "on_train_epoch_end")
    at(12.3, "on_val_end", validator)  # a loss was no number: the epoch begins again, and has taken from 11.5 on
    at(12.4, "on_train_epoch_start")
    at(13, "on_train_batch_end")
    at(14, "on_train_epoch_end")
    at(15, "on_val_end", validator)
    at(16, "on_fit_epoch_end")
    at(20, "on_val_end", validator)  # best.pt at the end
    at(21, "on_fit_epoch_end")
    first, second = callbacks.clock.epochs
    assert callbacks.clock.first_step == 7
    assert (first["begun"], first["train_seconds"], first["eval_seconds"], first["ended"]) == (5, 3, 2, 11.5)
    assert (second["begun"], second["train_seconds"], second["eval_seconds"], second["ended"]) == (11.5, 2.5, 1, 16)
    assert first["forward_seconds"] == 1 and (first["images"], second["images"]) == (13, 8)
    assert len(callbacks.clock.epochs) == 2
    assert callbacks.clock.evaluations[0]["weights"] == str(Path("w/epoch0.pt"))


def test_batches_that_were_ready_before_an_epoch_began_are_told():
    assert prefetch_note(2048, 16, 16) == [] == prefetch_note(13, 8, 0)
    (note,) = prefetch_note(2032, 16, 16)
    assert "up to 64 batches ready during an evaluation, and an epoch has 127" in note


def test_a_process_that_fails_is_told_by_its_log(tmp_path):
    with pytest.raises(
        TrainingFailed, match=r"bench.nothing ended with 1; its log, .*\n.*No module named bench.nothing"
    ):
        launch.measure("bench.nothing", {}, tmp_path / "run")


@pytest.mark.parametrize(("sizes", "peak"), [((5, 4, 9), 5), ((1, 2, 9), 3)])
def test_the_memory_is_that_of_the_training(sizes, peak, tmp_path, monkeypatch):
    """A process with helpers whose training is over after 10 s, and that had 3 bytes itself."""
    (tmp_path / "trained.py").write_text(
        "import json, sys; json.dump({'own_peak': 3, 'about': {'total_seconds': 10}}, open(sys.argv[2], 'w'))"
    )

    def watch(process):
        process.wait()
        started = float(process.args[-1])
        return list(zip((started + 1, started + 9, started + 11), sizes, strict=True))

    monkeypatch.setattr(launch, "_watch", watch)
    assert launch.measure("trained", {}, tmp_path, {"PYTHONPATH": str(tmp_path)})["host_peak"] == peak


# --- figures ----------------------------------------------------------------------------------------------------------


def raw(train: float = 4.0, **rest) -> dict:
    """What a process notes of three epochs of 40 images, the first of them slow."""
    epochs = [
        {"begun": 10.0, "images": 40, "train_seconds": 30.0, "trained": 40.0, "eval_seconds": 5.0, "ended": 46.0},
        {"begun": 46.0, "images": 40, "train_seconds": train, "trained": 50.0, "eval_seconds": 2.0, "ended": 53.0},
        {"begun": 53.0, "images": 40, "train_seconds": train, "trained": 57.0, "eval_seconds": 2.0, "ended": 60.0},
    ]
    evaluations = [{"epoch": k, "at": 45.0 + 7 * k, "map": 0.25 * (k + 1)} for k in range(3)]
    about = {"total_seconds": 66.0, "threads": 2, "gpu_allocated": 3 * 2**20}
    found = {"epochs": epochs, "evaluations": evaluations, "first_step": 12.0, "host_peak": 5 * 2**20, "about": about}
    return {**found, **rest}


def test_figures_leave_out_the_first_epoch_and_the_evaluation():
    found = figures(raw(ceiling={"images_per_second": 12.5}, evaluation={"ratio": 1.1}), 0.5)
    assert found == {
        "images_per_second": 10.0, "epoch_seconds": 7.0, "first_step_seconds": 12.0, "total_seconds": 66.0,
        "host_peak_mib": 5.0, "gpu_allocated_mib": 3.0, "gpu_reserved_mib": None, "evaluation_seconds": 2.0,
        "evaluation_ratio": 1.1, "ceiling_images_per_second": 12.5, "share_of_ceiling": 0.8, "target_seconds": 52.0,
        "threads": 2,
    }  # fmt: skip
    bare = raw()
    bare["epochs"][2]["forward_seconds"] = 1.6
    assert figures(bare, None)["evaluation_ratio"] == 1.25
    assert "target_seconds" not in figures(bare, None) and figures(bare, 0.9)["target_seconds"] is None
    with pytest.raises(ValueError, match="a second epoch"):
        figures(raw(epochs=bare["epochs"][:1]), None)


def test_the_table_has_medians_ranges_and_ratios_repeat_by_repeat():
    targets = {"ours": [0.9, 0.9, 0.9], "best": [0.7, 0.8, 0.7]}  # the highest there is is 0.75
    done = [
        {"mode": mode, "repeat": repeat, "figures": figures(raw(train), targets[mode][repeat])}
        for repeat, pair in enumerate([(4.0, 12.0), (5.0, 10.0), (2.0, 8.0)])
        for mode, train in zip(("ours", "best"), pair, strict=True)
    ]
    found = summarize([*done, {"mode": "defaults", "repeat": 0, "error": "no memory"}])
    assert found["summary"]["ours"]["images_per_second"] == {"median": 10.0, "low": 8.0, "high": 20.0, "n": 3}
    assert found["times_as_good"]["ours/best"]["images_per_second"] == {"median": 3.0, "low": 2.0, "high": 4.0, "n": 3}
    assert found["summary"]["defaults"] == {} and found["times_as_good"].keys() == {"ours/best"}
    rows = {row[:32].strip(): row for row in table(found).splitlines()}
    assert "10.0 (8.0-20.0)" in rows["training, img/s"] and rows["training, img/s"].endswith("3.00x (2.00-4.00)")
    target = rows["to the mAP50-95 asked for, s"]
    assert "not reached" in target and target.endswith("59.0 (59.0-59.0), 2 of 3")
    assert "peak GPU memory reserved, MiB" not in rows
    quick = {"mode": "ours-compiled", "repeat": 1, "figures": figures(raw(2.5), None)}
    found = summarize([*done, quick])["times_as_good"]
    assert found.keys() == {"ours/best", "ours-compiled/best"}
    assert found["ours-compiled/best"]["images_per_second"] == {"median": 4.0, "low": 4.0, "high": 4.0, "n": 1}


def test_no_run_begins_that_would_end_after_the_limit(tmp_path, small_shapes, monkeypatch, capsys):
    """A minute for each run of one network, three for those of the other."""
    now, done = [0.0], []

    def run(self, setting, mode, overrides, repeat, profile):
        done.append((setting.model[6:7], mode, overrides))
        now[0] += 60 if setting.model == "yolo11n.yaml" else 180
        return {"mode": mode, "repeat": repeat, "figures": figures(raw(), None)}

    machine = {"hardware": {"gpus": ["a GPU"], "cores": 2}, "software": {"torch": "2"}, "torchvision": True}
    monkeypatch.setattr(bench_train, "ask", lambda module: machine)
    monkeypatch.setattr(bench_train.Bench, "run", run)
    monkeypatch.setattr(bench_train, "time", SimpleNamespace(monotonic=lambda: now[0]))
    code = bench_train.main(
        ["--data", str(small_shapes), "--model", "yolo11n.yaml", "yolo11s.yaml", "--only", "ours-compiled,defaults,best",
         "--minutes", "11.5", "--work", str(tmp_path), "--ours", "lr0=0.5", "--best", "lr0=0.25"]
    )  # fmt: skip
    modes = [("ours-compiled", {"lr0": 0.5}), ("defaults", {}), ("best", {"lr0": 0.25})]
    # of best there is no run of the larger network, and the longest so far would end after 12
    assert code == 0 and done == [(model, *modes[k]) for model, k in zip("nnnssnn", (0, 1, 2, 0, 1, 0, 1), strict=True)]
    assert "yolo11s.yaml, best, 1: left out, it would end after 11.5 minutes" in capsys.readouterr().out


@pytest.fixture(scope="module")
def small_photos(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("photos"), 6, seed=1, workers=2)


def test_the_record_of_a_benchmark(tmp_path, small_photos, monkeypatch, capsys):
    """With processes that measure nothing: what is asked of them, in which order, and what is saved."""
    asked = []

    def measure(module, spec, folder, extra=None):
        asked.append((module, spec))
        if module == "bench.score":
            return {"scores": [{events.MAP: 0.6, events.MAP50: 0.9}]}
        if spec.get("arguments", {}).get("deterministic") is False:
            raise TrainingFailed("no memory")
        ours = module == "bench.ours"
        done = [{"epoch": 2, "at": 50.0, **({"map": 0.8} if ours else {"weights": "epoch2.pt", "own_map": 0.58})}]
        return raw(4.0 if ours else 8.0, evaluations=done, notes=[] if ours else ["a note"])

    machine = {
        "hardware": {"gpus": [], "cpu": "a CPU", "cores": 2}, "software": {"torch": "2"}, "torchvision": False
    }  # fmt: skip
    monkeypatch.setattr(bench_train, "ask", lambda module: machine)
    monkeypatch.setattr(runs, "measure", measure)
    out, work = tmp_path / "out.json", tmp_path / "work"
    code = bench_train.main(
        ["--data", str(small_photos), "--limit", "4", "--batch", "2", "--epochs", "3", "--seeds", "7", "8", "--out", str(out),
         "--work", str(work), "--target-map", "0.6", "--best", "workers=5"]
    )  # fmt: skip
    said, record = capsys.readouterr().out, json.loads(out.read_text())
    assert code == 1 and "best, 1: failed: no memory" in said  # and the others went on
    modules = ["bench.ours", "bench.theirs", "bench.score", "bench.theirs"]
    assert [module for module, _ in asked] == modules * 2
    assert all(spec["stand_in"] and spec["keep_weights"] for module, spec in asked if module == "bench.theirs")
    assert asked[3][1]["arguments"]["workers"] == 5 and "workers" not in asked[1][1]["arguments"]
    assert asked[2][1]["weights"] == ["epoch2.pt"] and asked[2][1]["until"] == 0.6
    assert record.keys() >= {
        "hardware",
        "software",
        "settings",
        "data",
        "notes",
        "models",
        "modes",
        "device",
        "created",
    }
    assert record["data"]["train_images"] == 4 and record["data"]["val_images"] == 1
    assert len(record["notes"]) == 2 and record["settings"]["seeds"] == [7, 8]
    found = record["models"]["yolo11n.yaml"]
    assert [(run["mode"], run["repeat"], run["seed"]) for run in found["runs"]] == [
        (mode, repeat, seed) for repeat, seed in enumerate((7, 8)) for mode in ("ours", "defaults", "best")
    ]
    assert found["times_as_good"]["ours/defaults"]["images_per_second"]["median"] == 2.0
    assert found["summary"]["defaults"]["target_seconds"]["median"] == 50.0


TINY = {
    "nc": 80,
    "backbone": [[-1, 1, "Conv", [channels, 3, 2]] for channels in (8, 16, 32, 32)],
    "head": [[[2, 3], 1, "Detect", ["nc"]]],
}


def test_both_trainers_are_measured(tmp_path, small_photos, monkeypatch):
    """The processes themselves, with a network and photographs that are hardly any."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    model, out = tmp_path / "tiny.yaml", tmp_path / "out.json"
    model.write_text(json.dumps(TINY))
    code = bench_train.main(
        ["--data", str(small_photos), "--model", str(model), "--imgsz", "32", "--batch", "2", "--epochs", "2", "--only",
         "ours,defaults", "--repeats", "1", "--ceiling-steps", "1", "--device", "cpu", "--ours", "precision=fp32", "--out",
         str(out), "--work", str(tmp_path / "work")]
    )  # fmt: skip
    assert code == 0
    found = json.loads(out.read_text())["models"][str(model)]
    for run in found["runs"]:
        assert [epoch["images"] for epoch in run["raw"]["epochs"]] == [6, 6] and run["raw"]["about"]["updates"] == 6
        missing = {name for name, value in run["figures"].items() if value is None}
        assert missing - {"gpu_allocated_mib", "gpu_reserved_mib"} == (
            set() if run["mode"] == "ours" else {"ceiling_images_per_second", "share_of_ceiling"}
        )
    assert found["times_as_good"]["ours/defaults"]["images_per_second"]["median"] > 0


# --- data, and the stand-in -------------------------------------------------------------------------------------------


def test_photographs_are_a_function_of_the_seed_and_boxes_lie_in_them():
    for k in range(2):
        picture, boxes, classes = photograph((3, k))
        again = photograph((3, k))
        assert all(np.array_equal(a, b) for a, b in zip((picture, boxes, classes), again, strict=True))
        height, width = picture.shape[:2]
        assert len(boxes) == len(classes) and (boxes[:, :2] >= 0).all() and (boxes[:, 2:] >= 4).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= [width, height]).all()


def test_generated_photographs_are_made_once_and_read_by_both(small_photos, tmp_path):
    first = {path: path.stat().st_mtime_ns for path in small_photos.rglob("*.jpg")}
    assert len(first) == 6 + 8
    generate(small_photos, 6, seed=1, workers=1)
    assert {path: path.stat().st_mtime_ns for path in small_photos.rglob("*.jpg")} == first
    data = prepare(str(small_photos), 4, tmp_path / "work")
    assert prepare(str(small_photos), 4, tmp_path / "work") == data
    whole, cut = open_dataset(str(small_photos)).splits["train"], open_dataset(str(data.yaml)).splits["train"]
    assert data.about["train_images"] == len(cut) == 4 and data.about["classes"] == 80
    assert np.array_equal(cut.boxes, whole.boxes[: whole.offsets[4]])
    labels = (data.yaml.parent / "labels/train").glob("*.txt")
    assert sum(len(path.read_text().splitlines()) for path in labels) == len(cut.boxes)


def test_data_that_was_changed_is_converted_anew(tmp_path):
    data = tmp_path / "shapes"
    before = prepare(str(generate_shapes(data, train=4, val=2)), None, tmp_path / "work")
    file = data / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"].pop()
    file.write_text(json.dumps(content))
    now = prepare(str(data), None, tmp_path / "work")
    assert now.yaml != before.yaml
    count = len(open_dataset(str(before.yaml)).splits["train"].boxes)
    assert len(open_dataset(str(now.yaml)).splits["train"].boxes) == count - 1
    moved = data.rename(tmp_path / "moved")  # the same elsewhere
    assert prepare(str(moved), None, tmp_path / "work").yaml == now.yaml


def test_the_stand_in_keeps_the_boxes_that_ultralytics_own_nms_keeps():
    from ultralytics.utils.nms import TorchNMS

    generator = torch.Generator().manual_seed(0)
    for count in (0, 1, 40, 700):
        corner = torch.rand(count, 2, generator=generator) * 60 + 7680 * torch.randint(
            0, 3, (count, 1), generator=generator
        )
        boxes = torch.cat((corner, corner + 5 + torch.rand(count, 2, generator=generator) * 40), 1)
        scores = torch.rand(count, generator=generator)
        assert torch.equal(standin.nms(boxes, scores, 0.7), TorchNMS.nms(boxes, scores, 0.7)[:300])


def test_our_step_and_evaluation_are_measured_by_themselves(small_shapes, tmp_path):
    """Times of a network that is hardly one: only that everything is measured, and of what."""
    from yolo_cosine.engine.build import build_trainer
    from yolo_cosine.engine.distributed import World
    from yolo_cosine.engine.precision import Precision

    setting = Setting(str(small_shapes), "yolo11n.yaml", 32, 6, 6, 3, 0, "cpu")
    own = {"ema_tau": 10.0, "workers": 1}
    config = load_config(None, [f"{k}={json.dumps(v)}" for k, v in our_config(setting, own, str(tmp_path)).items()])
    trainer = build_trainer(
        config, lambda: tmp_path, lambda event: None, Precision("fp32", torch.device("cpu")), World()
    )
    before = trainer.model.model[0].conv.weight.clone()
    found = ceiling(trainer, 1)
    assert found["images_per_second"] > 0 and len(found["rounds"]) == 3 and found["boxes"] > 0
    assert not torch.equal(trainer.model.model[0].conv.weight, before)  # steps that move the weights
    assert trainer.ema.updates == 6 and trainer.optimizer.param_groups[0]["lr"] > 0
    predict = detector.predict
    found = evaluation(trainer)
    assert detector.predict is predict
    assert found["forward_seconds"] > 0 and found["ratio"] > 0 and len(found["rounds"]) == 3
    found = profile(trainer, 1, str(tmp_path / "trace.json"))
    assert found["steps"] == 1 and 0 < found["largest"][0]["share"] < 1
    assert "convolution" in profile_table(found) and json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
