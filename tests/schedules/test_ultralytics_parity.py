"""`preset: ultralytics` against a real run of Ultralytics' own training loop."""

from __future__ import annotations

import types

import cv2
import numpy as np
import pytest

from yolo_cosine.config.load import load_config
from yolo_cosine.schedules.build import build_schedule
from yolo_cosine.schedules.run import Group

IMAGES, BATCH = 10, 4
STEPS_PER_EPOCH = 3


@pytest.fixture(scope="module")
def data_yaml(tmp_path_factory):
    root = tmp_path_factory.mktemp("peer")
    for folder in ("images", "labels"):
        (root / folder / "train").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        cv2.imwrite(str(root / f"images/train/{i}.png"), rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
        (root / f"labels/train/{i}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    path = root / "data.yaml"
    path.write_text(f"path: {root}\ntrain: images/train\nval: images/train\nnames: [thing]\n")
    return path


def record_peer(data_yaml, **arguments):
    """Every step of a real Ultralytics run: what its optimizer held, and whether it was stepped.

    Only validation and saving are stood in for: they need torchvision, and have no say in the learning rate.
    """
    from ultralytics.models.yolo.detect.train import DetectionTrainer

    steps = []

    class Recorded(DetectionTrainer):
        def get_validator(self):
            return types.SimpleNamespace(metrics=types.SimpleNamespace(keys=[]))

        def label_loss_items(self, loss_items=None, prefix="train"):
            return [] if loss_items is None else {}

        def validate(self):
            return {}, 0.0

        def save_model(self):
            return False

        def save_metrics(self, metrics):
            pass

        def final_eval(self):
            pass

        def optimizer_step(self):
            steps[-1]["updated"] = True
            super().optimizer_step()

    def started(trainer):
        steps.append({"updated": False})

    def ended(trainer):
        groups = trainer.optimizer.param_groups
        steps[-1]["lr"] = [(g["param_group"], g["lr"]) for g in groups if len(g["params"])]
        steps[-1]["momentum"] = groups[0].get("momentum")
        steps[-1]["accumulate"] = trainer.accumulate

    trainer = Recorded(
        overrides={
            "model": "yolo11n.yaml", "data": str(data_yaml), "batch": BATCH, "imgsz": 32, "workers": 0, "device": "cpu",
            "project": str(data_yaml.parent / "runs"), "plots": False, "val": False, "amp": False, "mosaic": 0.0,
            "close_mosaic": 0, "verbose": False, **arguments,
        }
    )  # fmt: skip
    trainer.add_callback("on_train_batch_start", started)
    trainer.add_callback("on_train_batch_end", ended)
    trainer.train()
    return steps


CASES = [
    {"cos_lr": True, "epochs": 6, "warmup_epochs": 2.0, "nbs": 16},
    {"cos_lr": False, "epochs": 6, "warmup_epochs": 2.0, "nbs": 16},
    {"cos_lr": True, "epochs": 4, "warmup_epochs": 0.0, "nbs": 4, "lrf": 0.2},
    {"cos_lr": True, "epochs": 3, "warmup_epochs": 9.0, "nbs": 64, "lr0": 0.02, "warmup_bias_lr": 0.05},
    {"cos_lr": False, "epochs": 4, "warmup_epochs": 1.5, "nbs": 10, "lrf": 0.0, "optimizer": "AdamW"},
    {"cos_lr": True, "epochs": 3, "warmup_epochs": 1.0, "nbs": 8, "optimizer": "MuSGD"},
]
KINDS = {"weight": "weight", "bn": "norm", "bias": "bias", "muon": "muon"}


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.get('optimizer', 'SGD')}-{c['cos_lr']}-{c['warmup_epochs']}")
def test_every_step_equals_the_peers(case, data_yaml):
    arguments = {"optimizer": "SGD", "lr0": 0.01, "lrf": 0.01, "warmup_bias_lr": 0.1, "momentum": 0.937, **case}
    steps = record_peer(data_yaml, **arguments)
    config = load_config(
        None,
        [
            "preset=ultralytics", f"curve={'cosine' if case['cos_lr'] else 'linear'}", f"batch={BATCH}",
            f"nominal_batch={case['nbs']}",
            *(f"{k}={arguments[k]}" for k in ("optimizer", "epochs", "warmup_epochs", "lr0", "lrf", "warmup_bias_lr")),
        ],
    )  # fmt: skip
    assert len(steps) == config.epochs * STEPS_PER_EPOCH
    peer_groups = [name for name, _ in steps[0]["lr"]]
    heads = [peer_groups[:k].count(name) == 0 and peer_groups.count(name) == 2 for k, name in enumerate(peer_groups)]
    groups = tuple(
        Group(f"{'head_' if head else ''}{KINDS[name]}", KINDS[name], config.lr0 * (3 if head else 1))
        for name, head in zip(peer_groups, heads, strict=True)
    )
    schedule = build_schedule(config, groups, STEPS_PER_EPOCH)
    pending, updates = 0, []
    for k, step in enumerate(steps):
        ours = [g.lr0 * schedule.lr[g.name](k) for g in groups]
        assert ours == pytest.approx([lr for _, lr in step["lr"]], rel=1e-12, abs=1e-12), f"step {k}"
        if step["momentum"] is not None:
            assert schedule.momentum(k) == pytest.approx(step["momentum"], rel=1e-12), f"step {k}"
        assert schedule.accumulate(k) == step["accumulate"], f"step {k}"
        pending += 1
        updates.append(pending >= schedule.accumulate(k))
        pending = 0 if updates[-1] else pending
    assert updates == [step["updated"] for step in steps]
