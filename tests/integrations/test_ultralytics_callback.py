"""A schedule in Ultralytics' own trainer: in real runs of it, and, for what these cannot be made to do, in its events."""

from __future__ import annotations

import pickle
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.models.yolo.detect.train import DetectionTrainer

from yolo_cosine.config.load import load_config
from yolo_cosine.errors import UserError
from yolo_cosine.integrations.ultralytics_callback import AttachedSchedule, attach
from yolo_cosine.schedules.curves import InvalidSchedule

CONFIGS = Path(__file__).parents[2] / "configs" / "schedules"
IMAGES, BATCH, STEPS_PER_EPOCH = 10, 4, 3


@pytest.fixture(scope="module")
def data_yaml(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for folder in ("images", "labels"):
        (root / folder / "train").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        cv2.imwrite(str(root / f"images/train/{i}.png"), rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        (root / f"labels/train/{i}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    path = root / "data.yaml"
    path.write_text(f"path: {root}\ntrain: images/train\nval: images/train\nnames: [thing]\n")
    return path


class Trainer(DetectionTrainer):
    """Ultralytics', but for its evaluation, which needs torchvision and has no say in the learning rate."""

    def get_validator(self):
        return types.SimpleNamespace(metrics=types.SimpleNamespace(keys=[]))

    def label_loss_items(self, loss_items=None, prefix="train"):
        return [] if loss_items is None else {}

    def validate(self):
        return {}, 0.5

    def final_eval(self):
        pass


def train(data_yaml, schedule, resume=None, events=(), **arguments):
    """A run with a schedule, as a user makes it."""
    model = YOLO(resume or "yolo11n.yaml")
    attached = attach(model, schedule) if schedule is not None else None
    for event, callback in events:
        model.add_callback(event, callback)
    settings = {
        "data": str(data_yaml), "batch": BATCH, "imgsz": 64, "workers": 0, "device": "cpu", "plots": False, "val": False,
        "amp": False, "mosaic": 0.0, "close_mosaic": 0, "verbose": False, "project": str(data_yaml.parent / "runs"),
    }  # fmt: skip
    model.train(trainer=Trainer, **(settings if resume is None else {"resume": True}), **arguments)
    return attached, model.trainer


def expected(attached, step):
    rates = {f"lr/{g.name}": g.lr0 * attached.schedule.lr[g.name](step) for g in attached.groups}
    return {**rates, "momentum": attached.schedule.momentum(step)}


def test_every_optimizer_step_of_a_real_run_has_the_schedules_values(data_yaml):
    logged = []
    attached, trainer = train(
        data_yaml,
        CONFIGS / "one_cycle.yaml",
        events=[("on_train_epoch_end", lambda t: logged.append(dict(t.lr)))],
        epochs=2,
        nbs=BATCH,
        lr0=0.5,  # does not count
    )
    assert type(trainer.optimizer) is torch.optim.SGD  # where train leaves it open
    assert [step for step, _ in attached.applied] == list(range(2 * STEPS_PER_EPOCH))
    for step, applied in attached.applied:
        assert applied == expected(attached, step), step
    rates = [applied["lr/weight"] for _, applied in attached.applied]
    assert max(rates) == pytest.approx(0.01) and rates[-1] == pytest.approx(4e-8)
    for epoch, rate in enumerate(logged):
        last = attached.applied[(epoch + 1) * STEPS_PER_EPOCH - 1][1]
        assert list(rate.values()) == [last["lr/weight"], last["lr/norm"], last["lr/bias"]]


def test_its_own_schedule_attached_is_what_it_does_by_itself(data_yaml):
    """MuSGD has the most groups; the warmup ramps the accumulation up."""
    arguments = {"epochs": 3, "nbs": 2 * BATCH, "optimizer": "MuSGD", "warmup_epochs": 1.0, "warmup_bias_lr": 0.1}
    config = load_config(CONFIGS / "ultralytics.yaml", ["warmup_epochs=1"])
    seen = {}
    for name, schedule in (("attached", config), ("alone", None)):
        steps = seen[name] = []

        def note(trainer, steps=steps):
            groups = [(g["lr"], g["momentum"], g["weight_decay"]) for g in trainer.optimizer.param_groups]
            steps.append((trainer.accumulate, *groups))

        attached, _ = train(data_yaml, schedule, events=[("on_train_batch_end", note)], momentum=0.937, **arguments)
        if attached is not None:
            assert {g.name for g in attached.groups} == {
                f"{head}{kind}" for head in ("", "head_") for kind in ("weight", "norm", "bias", "muon")
            }
            driven, applied = attached, dict(attached.applied)
    for mine, other in zip(seen["attached"], seen["alone"], strict=True):
        assert mine[0] == other[0]
        assert [v for g in mine[1:] for v in g] == pytest.approx([v for g in other[1:] for v in g], rel=1e-12)
    assert len(applied) < 3 * STEPS_PER_EPOCH  # two batches an update
    assert all(applied[step] == expected(driven, step) for step in applied)


def test_a_resumed_run_goes_on_where_it_was(data_yaml):
    config = load_config(
        None, ["warmup_epochs=0", "weight_decay_phases=[{curve: linear, start: 1, end: 0, for: rest}]"]
    )

    class Killed(Exception):
        pass

    def kill(trainer):
        if trainer.epoch == 1:
            raise Killed(str(trainer.last))

    with pytest.raises(Killed) as killed:
        train(data_yaml, config, events=[("on_train_epoch_start", kill)], epochs=3, nbs=BATCH, optimizer="SGD")
    decays = []
    note = ("on_train_batch_end", lambda t: decays.append(t.optimizer.param_groups[0]["weight_decay"]))
    attached, _ = train(data_yaml, config, resume=str(killed.value), events=[note])
    assert [step for step, _ in attached.applied] == list(range(STEPS_PER_EPOCH, 3 * STEPS_PER_EPOCH))
    assert all(applied == expected(attached, step) for step, applied in attached.applied)
    assert decays == pytest.approx([5e-4 * (1 - k / 8) for k in range(3, 9)], abs=1e-18)  # not of a decay of a decay


class Events:
    """What a trainer of Ultralytics has and calls, in its order, around a network of one layer."""

    def __init__(
        self, attached, epochs=4, batches=5, kinds=("weight", "bn", "bias"), make=torch.optim.SGD, **arguments
    ):
        defaults = {"lr0": 0.01, "nbs": 4, "close_mosaic": 0, "time": None, "val": True, "optimizer": "auto"}
        self.args = types.SimpleNamespace(warmup_epochs=3.0, **{**defaults, **arguments})
        self.attached, self.epochs, self.batch_size, self.world_size, self.start_epoch = attached, epochs, 4, 0, 0
        self.train_loader = range(batches)
        self.fitness, self.accumulate = None, 1
        groups = [{"params": [nn.Parameter(torch.ones(1))], "param_group": kind, "lr": 0.01} for kind in kinds]
        self.optimizer = make([{**g, "weight_decay": 5e-4 if g["param_group"] == "weight" else 0.0} for g in groups])
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda epoch: 0.5)

    def start(self):
        for event in ("on_pretrain_routine_start", "on_pretrain_routine_end", "on_train_start"):
            getattr(self.attached, event)(self)
        return self

    def epoch_of(self, epoch, batches=None):
        self.epoch = epoch
        self.attached.on_train_epoch_start(self)
        self.scheduler.step()
        for _ in self.train_loader[:batches]:
            self.attached.on_train_batch_start(self)
            for group in self.optimizer.param_groups:
                group["lr"] = 123.0  # someone else's
                group["params"][0].grad = torch.zeros(1)
            self.optimizer.step()

    def evaluated(self, fitness):
        self.fitness = np.float64(fitness)
        self.attached.on_fit_epoch_end(self)


def attached_to(*overrides):
    return AttachedSchedule(load_config(None, ["warmup_epochs=0", *overrides]))


@pytest.mark.filterwarnings("ignore:Detected call")
def test_what_others_write_in_between_is_not_applied():
    attached = attached_to("curve=constant")
    Events(attached).start().epoch_of(0)
    assert [r["lr/weight"] for _, r in attached.applied] == [0.01] * 5


@pytest.mark.filterwarnings("ignore:Detected call")
def test_a_run_that_begins_anew_with_smaller_batches():
    attached = attached_to("weight_decay_phases=[{curve: constant, value: 0.5, for: rest}]")
    trainer = Events(attached).start()
    trainer.epoch_of(0, batches=1)
    trainer.train_loader, trainer.batch_size = range(10), 2  # as after running out of memory
    trainer.optimizer.param_groups[0]["weight_decay"] = 4e-4
    trainer.epoch_of(0)
    assert attached.schedule.steps == 40 and attached.schedule.accumulate(0) == 2 == trainer.accumulate
    assert [step for step, _ in attached.applied] == [0, *range(10)]
    assert trainer.optimizer.param_groups[0]["weight_decay"] == 2e-4


@pytest.mark.filterwarnings("ignore:Detected call")
def test_a_plateau_sees_the_evaluations():
    attached = attached_to("curve=constant", "plateau={factor: 0.1, patience: 0}")
    trainer = Events(attached, batches=1).start()
    for epoch, fitness in enumerate((0.5, 0.4, 0.6, 0.6)):
        trainer.epoch_of(epoch)
        trainer.evaluated(fitness)
    assert [r["lr/norm"] for _, r in attached.applied] == pytest.approx([0.01, 0.01, 0.001, 0.001])


@pytest.mark.filterwarnings("ignore:Detected call")
def test_adams_beta1_is_reported_as_its_momentum():
    attached = attached_to("curve=linear")
    Events(attached, make=torch.optim.AdamW).start().epoch_of(0)
    assert {r["momentum"] for _, r in attached.applied} == {0.9}


def test_train_decides_what_it_is_told():
    trainer = Events(attached_to("optimizer=AdamW"), optimizer="auto").start()
    assert (trainer.args.optimizer, trainer.args.warmup_epochs) == ("AdamW", 0.0)
    trainer = Events(attached_to("optimizer=AdamW"), optimizer="MuSGD").start()
    assert trainer.args.optimizer == "MuSGD"


def test_it_can_be_sent_to_other_processes_before_the_start():
    attached = attached_to("lr0=0.5")
    assert pickle.loads(pickle.dumps(attached.on_train_start)).__self__.config == attached.config


MISTAKES = [
    ([], {"time": 2.0}, "time: a schedule is over a number of steps, and 2 hours"),
    (["warmup_epochs=4"], {}, "warmup_epochs: 4 takes up all of epochs=4; shorten the warmup or train longer"),
    (["plateau={patience: 1}"], {"val": False}, "plateau: val=False leaves its metric out; train with val=True"),
    (["group_phases={nose: [{curve: constant, for: rest}]}"], {}, "group_phases.nose: there is no such group"),
]


@pytest.mark.parametrize("overrides, arguments, message", MISTAKES, ids=[m for *_, m in MISTAKES])
def test_mistakes_are_told_before_the_first_step(overrides, arguments, message):
    with pytest.raises(UserError) as error:
        Events(attached_to(*overrides), **arguments).start()
    assert message in str(error.value)


@pytest.mark.parametrize(
    "name, value, message", [("start_epoch", 2, "cannot be resumed"), ("world_size", 2, "one device")]
)
def test_a_plateau_that_would_lose_its_state(name, value, message):
    trainer = Events(attached_to("plateau={patience: 1}"))
    setattr(trainer, name, value)
    with pytest.raises(InvalidSchedule, match=message):
        trainer.start()


def test_mistakes_of_the_file_are_told_at_once(tmp_path):
    path = tmp_path / "schedule.yaml"
    path.write_text("cruve: cosine")
    with pytest.raises(UserError, match="did you mean curve"):
        attach(types.SimpleNamespace(), path)
    path.write_text("lr_factors: {layers 0-9: 0.1}")
    with pytest.raises(InvalidSchedule, match="lr_factors: names layers"):
        attach(types.SimpleNamespace(), path)
