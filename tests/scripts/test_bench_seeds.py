"""The comparison of mAP over seeds: its figures, and what is trained, taken and refused."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_ind

from yolo_cosine import events

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import bench_seeds
from bench import runs
from bench.compare import compare, report, welch_interval


@pytest.mark.parametrize(("a", "b"), [([0.5, 0.52, 0.57], [0.4, 0.44]), ([1.0, 2.0, 4.0, 9.0], [3.0, 3.5, 3.1])])
def test_the_unpaired_interval_is_welchs(a, b):
    expected = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    difference, low, high = welch_interval(a, b)
    assert difference == pytest.approx(np.mean(a) - np.mean(b))
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_one_seed_has_no_interval():
    assert all(math.isnan(v) for v in welch_interval([0.5], [0.4, 0.5])[1:])


def _scores(path: Path, value: float, **rest) -> None:
    path.mkdir(parents=True)
    row = {"metrics/mAP50-95": value, "metrics/mAP50": value + 0.3}
    (path / "scores.json").write_text(json.dumps({"best": row, "last": row, **rest}))


def test_seeds_that_are_there_are_compared(tmp_path, capsys):
    values = {"ours": [0.58, 0.57, 0.59], "ultralytics": [0.57, 0.565]}
    for trainer, column in values.items():
        for seed, value in enumerate(column):
            _scores(tmp_path / f"{trainer}-seed{seed}", value)
    out = tmp_path / "seeds.json"
    assert bench_seeds.main(["--report", "--work", str(tmp_path), "--out", str(out)]) == 0
    found = json.loads(out.read_text())["comparison"]["best"][events.MAP]
    assert found["ours"]["n"] == 3 and found["ultralytics"]["n"] == 2
    assert found["unpaired"]["mean"] == pytest.approx(0.58 - 0.5675) and found["paired"]["n"] == 2
    assert found["paired"]["mean"] == pytest.approx(0.0075)
    said = capsys.readouterr().out
    assert "mAP50-95 of best.pt" in said and "ours - ultralytics, unpaired: +0.0125 (" in said


def test_one_trainer_alone_is_reported(tmp_path):
    scores = {"ours": {0: {w: {events.MAP: 0.5, events.MAP50: 0.8} for w in ("best", "last")}}, "ultralytics": {}}
    assert "0.5000 (too few for an interval)" in report(scores, compare(scores)) and "none yet" in report(
        scores, compare(scores)
    )


@pytest.fixture
def seeds(monkeypatch, small_shapes):
    """The command, whose processes train nothing and leave weights and a score; and what was asked of them."""
    asked = []

    def measure(module, spec, folder, extra=None):
        asked.append((module, folder.name))
        if module == "bench.score":
            return {"scores": [{events.MAP: 0.5, events.MAP50: 0.75}] * len(spec["weights"])}
        (folder / "run/weights").mkdir(parents=True)
        for name in ("best", "last"):
            (folder / f"run/weights/{name}.pt").touch()
        return {"about": {"total_seconds": 66.0}}

    machine = {"hardware": {"gpus": [], "cpu": "a CPU"}, "software": {"torch": "2"}, "torchvision": True}
    monkeypatch.setattr(bench_seeds, "ask", lambda module: machine)
    monkeypatch.setattr(runs, "measure", measure)

    def run(work, *arguments):
        asked.clear()
        code = bench_seeds.main(["--data", str(small_shapes), "--seeds", "0", "--work", str(work), *arguments])
        return code, list(asked)

    return run


def test_seeds_of_other_settings_are_refused(tmp_path, seeds, capsys):
    out = ["--out", str(tmp_path / "seeds.json")]
    assert seeds(tmp_path / "w", *out)[0] == 0 and seeds(tmp_path / "w") == (0, [])
    record = json.loads((tmp_path / "seeds.json").read_text())
    # they are told by either file
    assert seeds(tmp_path / "w", "--epochs", "10") == (2, [])
    assert "ours-seed0: holds a seed of epochs=40, not epochs=10; name another folder" in capsys.readouterr().err
    for folder in ("ours-seed0", "ultralytics-seed0"):
        (tmp_path / "w" / folder / "scores.json").unlink()
    assert seeds(tmp_path / "w", "--report", "--mode", "defaults") == (2, [])
    assert "holds a seed of mode=best, not mode=defaults" in capsys.readouterr().err
    # a report keeps what it does not know
    assert seeds(tmp_path / "w") == (0, [("bench.score", "score")] * 2)
    assert seeds(tmp_path / "w", "--report", *out) == (0, [])
    again = json.loads((tmp_path / "seeds.json").read_text())
    assert all(again[key] == record[key] for key in ("hardware", "software", "data", "scores"))
    # what holds no settings is taken, and told
    file = tmp_path / "w/ours-seed0/scores.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "settings"}))
    capsys.readouterr()
    assert seeds(tmp_path / "w", "--report")[0] == 0
    assert f"note: {file} holds no settings; they are taken to be those asked for" in capsys.readouterr().out
    # other data for one of the two
    _scores(tmp_path / "w/ours-seed1", 0.5, settings={"data": "x"})
    assert seeds(tmp_path / "w", "--report", "--seeds", "0", "1")[0] == 2
    assert "holds a seed of data=x, not data=data-" in capsys.readouterr().err


def test_a_seed_without_its_weights_is_trained_again(tmp_path, seeds):
    every = [("bench.ours", "ours-seed0"), ("bench.score", "score"), ("bench.theirs", "ultralytics-seed0")]
    assert seeds(tmp_path) == (0, [*every, ("bench.score", "score")])
    (tmp_path / "ours-seed0/scores.json").unlink()
    (tmp_path / "ours-seed0/run/weights/last.pt").unlink()
    assert seeds(tmp_path) == (0, every[:2])


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--imgsz", "-1"], ["--batch", "1.5"]])
def test_numbers_are_above_0(arguments, capsys):
    with pytest.raises(SystemExit):
        bench_seeds.main(arguments)
    assert f"{arguments[0]}: '{arguments[1]}' is no whole number above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "arguments", "said"),
    [
        ({}, ["--report"], "has no scores of these seeds"),
        ({}, ["--report", "--seeds", "1", "1"], "write different numbers"),
        ({"ours-seed0/scores.json": "{}"}, ["--report"], "is no file of scores"),
        ({"ours-seed0/done.json": "{"}, ["--report"], "is no JSON of this benchmark; delete it"),
    ],
)
def test_mistakes_with_seeds(files, arguments, said, tmp_path, capsys):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    assert bench_seeds.main([*arguments, "--work", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
