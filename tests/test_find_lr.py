"""The learning-rate range test."""

from __future__ import annotations

import itertools
import json
import math
from types import SimpleNamespace

import pytest
from torch import nn

from tests.conftest import TINY
from yolo_cosine import find_lr
from yolo_cosine.config.load import load_config
from yolo_cosine.engine import lr_range
from yolo_cosine.engine.lr_range import Point, suggest


def curve(loss, n=100, low=1e-5, high=1.0):
    rates = [low * (high / low) ** (k / (n - 1)) for k in range(n)]
    return [Point(r, loss(r), loss(r)) for r in rates]


def test_the_suggestion_is_where_the_loss_falls_fastest():
    # a fall in the logarithm of the rate that is steepest at 1e-2, and a rise from 0.3 on
    points = curve(lambda r: 10 - 5 / (1 + math.exp(-3 * (math.log10(r) + 2))) + max(0.0, r - 0.3) * 30)
    found = suggest(points, complete=True)
    assert found.lr == pytest.approx(1e-2, rel=0.3)
    assert 1e-2 < found.lowest < 0.4
    assert "falls fastest at" in found.reason and "has not exploded" in found.reason


def test_a_flat_loss_suggests_nothing():
    found = suggest(curve(lambda r: 10.0), complete=True)
    assert found.lr is None and "never falls" in found.reason


def test_an_early_explosion_suggests_to_start_lower():
    found = suggest(curve(lambda r: 10.0, n=8), complete=False)
    assert found.lr is None and "start lower" in found.reason


@pytest.fixture
def config(tmp_path, small_shapes):
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({
        "model": str(TINY), "imgsz": 64, "batch": 8, "nominal_batch": 8, "epochs": 2, "warmup_epochs": 0,
        "data": str(small_shapes), "runs": str(tmp_path / "runs"), "workers": 1,
    }))  # fmt: skip
    return path


def test_norms_of_frozen_layers_stay_in_evaluation_mode(config, monkeypatch):
    class Enough(Exception):
        pass

    def stop(epoch):
        raise Enough

    model = nn.Module()
    model.model = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1))
    trainer = SimpleNamespace(model=model, loss=SimpleNamespace(start_epoch=stop))
    monkeypatch.setattr(lr_range, "build_trainer", lambda *arguments, **named: trainer)
    with pytest.raises(Enough):
        lr_range.lr_range_test(load_config(config, ["freeze=1"]), 1e-5, 1.0, 1, lambda point, k: None)
    assert [layer.training for layer in model.model] == [False, True]


def test_the_command_draws_and_touches_nothing(config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = find_lr.main(
        ["--cfg", str(config), "--updates", "24", "--to", "0.1", "--csv", "table.csv", "--png", "chart.png"]
    )
    out = capsys.readouterr().out
    assert code in (0, 1) and "reason: " in out
    rows = (tmp_path / "table.csv").read_text().splitlines()
    assert rows[0] == "lr,loss,smoothed" and float(rows[1].split(",")[0]) == 1e-5
    rates = [float(row.split(",")[0]) for row in rows[1:]]
    assert all(b / a == pytest.approx(1e4 ** (1 / 23)) for a, b in itertools.pairwise(rates))
    assert (tmp_path / "chart.png").stat().st_size > 10_000
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "1", "--to", "0.1"], "the first is the lower one"),
        (["--from", "0"], "the rates are above 0"),
        (["--updates", "5"], "too few"),
        (["lr0=x"], "lr0: 'x'"),
        (["--png", "nowhere/x.png"], "--png: nowhere/x.png: its folder is not there or cannot be written"),
    ],
)
def test_mistakes(config, capsys, arguments, message):
    try:
        assert find_lr.main(["--cfg", str(config), *arguments]) == 2
    except SystemExit as error:
        assert error.code == 2
    assert message in capsys.readouterr().err
