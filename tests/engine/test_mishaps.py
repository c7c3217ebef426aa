"""What goes wrong inside a run: numbers that are none, memory that runs out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from yolo_cosine import train
from yolo_cosine.config.load import load_config
from yolo_cosine.engine.checkpoint import load_checkpoint
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.mishaps import GoBack, is_out_of_memory, leave_out, smaller_parts
from yolo_cosine.engine.progress import Progress
from yolo_cosine.engine.trainer import Trainer
from yolo_cosine.engine.verdicts import Verdicts
from yolo_cosine.errors import TrainingFailed
from yolo_cosine.model.loss import DetectionLoss
from yolo_cosine.sinks.jsonl import read_records

NAN = float("nan")


def poison(monkeypatch, is_bad):
    """Let the loss be no number in the calls (counted from 0) that `is_bad` picks."""
    calls = iter(range(10_000))
    original = DetectionLoss.__call__

    def poisoned(self, *arguments):
        loss, items = original(self, *arguments)
        return (loss * NAN, items * NAN) if is_bad(next(calls)) else (loss, items)

    monkeypatch.setattr(DetectionLoss, "__call__", poisoned)


def records(tmp_path, *kinds):
    return [r for r in read_records(tmp_path / "runs/run/metrics.jsonl") if r["event"] in kinds]


def state_after(tmp_path, steps):
    return load_checkpoint(tmp_path / f"runs/run/checkpoints/step-{steps:08d}.pt")


def test_an_update_that_is_no_number_is_left_out(write_run, tmp_path, monkeypatch):
    from yolo_cosine.engine.trainer import Trainer

    original, seen = Trainer._take_step, {}

    def watched(self, batch, step):
        def state():
            return {
                k: v.clone() for m in (self.model, self.ema.model) for k, v in m.state_dict(prefix=f"{id(m)}").items()
            }

        before, updated = state(), original(self, batch, step)
        after = state()
        seen[step] = updated, [k for k in after if not torch.equal(before[k], after[k])], self.progress.skipped
        return updated

    monkeypatch.setattr(Trainer, "_take_step", watched)
    poison(monkeypatch, lambda call: call == 4)
    assert train.main(["--cfg", str(write_run())]) == 0
    updated, changed, skipped = seen[4]
    assert not updated and skipped == 1 and all(name.endswith("num_batches_tracked") for name in changed)
    assert seen[3][0] and seen[3][1] and seen[5][0] and seen[5][2] == 0
    incidents = records(tmp_path, "incident")
    assert [(i["kind"], i["step"]) for i in incidents] == [("nonfinite", 4)]
    for part in ("step 4 (epoch 2): the loss is no finite number", "box_loss nan", ".jpg", "left out"):
        assert part in incidents[0]["text"]
    assert all(torch.isfinite(v).all() for v in state_after(tmp_path, 9)["ema"].values())
    # the means leave it out as well
    assert records(tmp_path, "step")[5]["train/box_loss"] is not None


def test_a_host_that_hears_later_comes_to_the_same_weights(write_run, tmp_path, monkeypatch):
    """On a GPU the host learns of an update when the next one is on its way; the device has left it out by itself."""
    from yolo_cosine.engine import learner

    states = []
    for lag in (0, 1):
        with monkeypatch.context() as patch:
            patch.setattr(learner, "Verdicts", lambda lag, wanted=lag: Verdicts(wanted))
            poison(patch, lambda call: call in (0, 4, 5, 8))
            config = write_run(name=f"lag{lag}", nonfinite={"skips": 3})
            assert train.main(["--cfg", str(config)]) == 0
        run = tmp_path / f"runs/lag{lag}"
        states.append(load_checkpoint(run / "checkpoints/step-00000009.pt"))
        told = [r for r in read_records(run / "metrics.jsonl") if r["event"] == "incident"]
        assert [(t["step"], "the 2. of" in t["text"]) for t in told] == [(0, False), (4, False), (5, True), (8, False)]
    for part in ("model", "ema"):
        for name, value in states[0][part].items():
            assert torch.equal(value, states[1][part][name]), name
    assert states[0]["ema_updates"] == states[1]["ema_updates"] == 5


def test_the_statistics_of_the_norms_are_those_of_good_updates(write_run, tmp_path, monkeypatch):
    """Activations that overflow spoil the norms' running means before any loss is known."""
    from yolo_cosine.engine.trainer import Trainer

    original = Trainer.train_step

    def overflowing(self, batch, step):
        if step == 4:
            next(b for b in self.model.buffers() if b.is_floating_point() and b.ndim).fill_(NAN)
        return original(self, batch, step)

    monkeypatch.setattr(Trainer, "train_step", overflowing)
    poison(monkeypatch, lambda call: call == 4)
    assert train.main(["--cfg", str(write_run())]) == 0
    assert all(torch.isfinite(v).all() for v in state_after(tmp_path, 9)["model"].values())


def test_too_many_in_a_row_lead_back_with_a_lower_rate(write_run, tmp_path, monkeypatch):
    poison(monkeypatch, lambda call: call in (4, 5))
    keys = {"nonfinite": {"skips": 1, "rewinds": 2, "lr_factor": 0.5}, "checkpoint": {"every": "1ep", "keep": 99}}
    assert train.main(["--cfg", str(write_run(curve="constant", **keys))]) == 0
    steps = records(tmp_path, "step")
    assert [s["step"] for s in steps] == list(range(9))
    assert [s["lr/weight"] for s in steps][3:] == [0.005] * 6  # the run went back to step 3
    (rewind,) = records(tmp_path, "rewind")
    assert "goes back to where it was after 3 steps" in rewind["text"] and "multiplied with 0.5" in rewind["text"]
    progress = state_after(tmp_path, 9)["progress"]
    assert (progress["rewinds"], progress["lr_factor"], progress["skipped"]) == (1, 0.5, 0)


def test_a_run_that_cannot_be_mended_stops_and_says_where(write_run, tmp_path, monkeypatch, capsys):
    poison(monkeypatch, lambda call: call >= 4)
    config = write_run(nonfinite={"skips": 1, "rewinds": 2})
    assert train.main(["--cfg", str(config)]) == 1
    error = capsys.readouterr().err
    for part in ("error: step", "is no finite number", "box_loss nan", ".jpg", "2 time(s)", "Lower lr0 (now 0.01)"):
        assert part in error
    assert len(records(tmp_path, "rewind")) >= 1
    end = records(tmp_path, "end")[-1]
    assert end["reason"] == "failed" and "no finite number" in end["detail"]


def test_out_of_memory_makes_smaller_parts(write_run, tmp_path, monkeypatch):
    original = DetectionLoss.__call__

    def small_memory(self, outputs, *arguments):
        if len(outputs["boxes"]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")
        return original(self, outputs, *arguments)

    monkeypatch.setattr(DetectionLoss, "__call__", small_memory)
    assert train.main(["--cfg", str(write_run())]) == 0
    assert [s["step"] for s in records(tmp_path, "step")] == list(range(9))
    assert all(s["accumulate"] == 1 for s in records(tmp_path, "step"))
    assert state_after(tmp_path, 9)["progress"]["parts"] == 4
    text = " ".join(r["text"] for r in records(tmp_path, "rewind"))
    assert "in 2 parts of 4 image(s)" in text and "in 4 parts of 2 image(s)" in text and "nominal_batch stay" in text


def test_out_of_memory_with_one_image_ends_the_run(write_run, monkeypatch, capsys):
    def no_memory(self, *arguments):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(DetectionLoss, "__call__", no_memory)
    assert train.main(["--cfg", str(write_run())]) == 1
    error = capsys.readouterr().err
    assert "step 0: out of memory" in error and "smaller imgsz (now 64)" in error and "Traceback" not in error


def test_no_memory_for_the_images_of_a_step_makes_smaller_parts_too():
    """On a GPU they are made while the batch before is trained on, and so not in the step."""

    def epoch(number, mosaic, first):
        yield "a batch"
        raise torch.OutOfMemoryError("CUDA out of memory. Tried\nto allocate")

    trainer = SimpleNamespace(
        loader=SimpleNamespace(epoch=epoch),
        mosaic_free_from=1,
        progress=Progress(step=7),
        config=load_config(None),
        world=World(),
        learner=SimpleNamespace(compiled=None),
    )
    batches = Trainer._batches(trainer, 0, 0)
    assert next(batches) == "a batch"
    with pytest.raises(
        GoBack, match=r"step 7: out of memory for its images \(CUDA out of memory. Tried\).*in 2 parts"
    ) as found:
        next(batches)
    assert found.value.changes == {"parts": 2}


def test_the_parts_of_a_batch_hold_all_of_it(small_shapes):
    from yolo_cosine.data.cache import ImageStore
    from yolo_cosine.data.dataset import open_dataset
    from yolo_cosine.data.index import trainable_boxes
    from yolo_cosine.data.loader import TrainLoader

    index = open_dataset(str(small_shapes)).splits["train"]
    store = ImageStore(index, 64, "ram", 1)
    loader = TrainLoader(store, trainable_boxes(index), load_config(None), batch=7, seed=0, workers=1)
    batch = next(iter(loader.epoch(0)))
    for count in (1, 2, 3, 7, 20):
        parts = batch.parts(count)
        assert torch.equal(torch.cat([p.images for p in parts]), batch.images)
        for name, whole in vars(batch.targets).items():
            assert torch.equal(torch.cat([getattr(p.targets, name) for p in parts]), whole)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("size mismatch"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA out of memory"), False),
    ],
)
def test_what_is_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected


def test_the_limits_of_leaving_out():
    config = load_config(None, ["nonfinite.skips=2", "nonfinite.rewinds=1", "nonfinite.lr_factor=0.1"])
    progress = Progress()
    assert "the 1. of at most 2" in leave_out("x", progress, config)
    assert "the 2. of at most 2" in leave_out("x", progress, config)
    with pytest.raises(GoBack, match=r"multiplied with 0\.1") as found:
        leave_out("x", progress, config)
    assert found.value.changes == {"rewinds": 1, "lr_factor": 0.1}
    progress = Progress(skipped=2, rewinds=1)
    with pytest.raises(TrainingFailed, match=r"the 3\. in a row, and the run went back for that 1 time"):
        leave_out("x", progress, config)


@pytest.mark.parametrize(("parts", "batch", "ranks"), [(8, 8, 1), (1, 1, 1), (1, 8, 2)])
def test_where_there_are_no_smaller_parts(parts, batch, ranks):
    with pytest.raises(TrainingFailed, match="smaller batch"):
        smaller_parts(without_memory(parts, batch, ranks), "x")


@pytest.mark.parametrize("compiled", [None, object()])
def test_parts_are_not_compiled_and_that_is_said(compiled):
    said = smaller_parts(without_memory(2, 30, 1, compiled), "x").text
    assert "in 4 parts of 8 image(s)" in said and ("a new run with batch: 8" in said) is (compiled is not None)


def without_memory(parts, batch, ranks, compiled=None):
    return SimpleNamespace(
        progress=Progress(parts=parts),
        config=load_config(None, [f"batch={batch}"]),
        world=World(size=ranks),
        learner=SimpleNamespace(compiled=compiled),
    )


def test_out_of_memory_in_an_evaluation(write_run, tmp_path, monkeypatch):
    from yolo_cosine import evaluate

    original = evaluate.detect

    def small_memory(*arguments, batch, **keys):
        if batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")
        return original(*arguments, batch=batch, **keys)

    monkeypatch.setattr(evaluate, "detect", small_memory)
    assert train.main(["--cfg", str(write_run())]) == 0
    texts = [i["text"] for i in records(tmp_path, "incident")]
    assert len(texts) == 2 and "out of memory in the evaluation" in texts[0] and "2 image(s) at a time" in texts[1]
    assert len(records(tmp_path, "eval")) == 3
