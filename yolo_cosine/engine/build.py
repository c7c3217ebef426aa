"""From a configuration to a `Trainer`: everything is read, checked and built before the first step."""

from __future__ import annotations

import os
import platform
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import ultralytics

import yolo_cosine
from yolo_cosine import events
from yolo_cosine.config.duration import parse_duration, parse_time
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.data.cache import UNREADABLE_IN_EVALUATION, UNREADABLE_IN_TRAINING
from yolo_cosine.data.dataset import Dataset, open_dataset
from yolo_cosine.data.index import trainable_boxes
from yolo_cosine.data.loader import TrainLoader
from yolo_cosine.data.places import images_folder
from yolo_cosine.data.prints import Print, digest, fingerprint
from yolo_cosine.engine.alike import check_same_data
from yolo_cosine.engine.checkpoint import CheckpointFolder
from yolo_cosine.engine.checks import check_boxes, check_network, check_smallest
from yolo_cosine.engine.compiling import Compiled, CompiledFunction, resolve_compile
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.environment import describe_environment
from yolo_cosine.engine.inputs import open_feeder, open_store, resolve_workers
from yolo_cosine.engine.learner import Learner
from yolo_cosine.engine.memory import keep_freed_memory
from yolo_cosine.engine.optim import build_optimizer
from yolo_cosine.engine.precision import Precision
from yolo_cosine.engine.saving import Saver
from yolo_cosine.engine.trainer import Trainer
from yolo_cosine.errors import UserError
from yolo_cosine.evaluate import Evaluator
from yolo_cosine.model import detector
from yolo_cosine.model.ema import Ema
from yolo_cosine.model.loss import DetectionLoss
from yolo_cosine.model.norm_silu import fuse_norms
from yolo_cosine.model.weights import load_weights
from yolo_cosine.schedules.build import build_schedule
from yolo_cosine.schedules.run import standard_groups


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed the global generators (the weights come from torch's) and ask for deterministic kernels."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        ask_for_deterministic_kernels()
        torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads memory before it is written
        torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = deterministic


def ask_for_deterministic_kernels() -> None:
    """What `torch.use_deterministic_algorithms(True, warn_only=True)` asks for, of PyTorch and of its compiler.

    That function imports the compiler to tell it, which takes a second. The other one that sets the same switch of
    PyTorch's does not, and the compiler reads its own from the environment when it is imported.
    """
    # warn: a few CUDA kernels have no deterministic version, and refusing to train would help nobody
    torch.set_deterministic_debug_mode("warn")
    os.environ["TORCHINDUCTOR_DETERMINISTIC"] = "1"
    compiler = sys.modules.get("torch._inductor.config")
    if hasattr(compiler, "deterministic"):
        compiler.deterministic = True


def build_trainer(
    config: RunConfig,
    make_run_dir: Callable[[], Path],
    emit: Callable[[events.Event], None],
    precision: Precision,
    world: World,
    fresh: bool = True,
    folder: Path | None = None,
    brief: bool = False,
) -> Trainer:
    """Open the data, build network, optimizer and schedule, and last of all, when nothing can fail any more, the folder.

    Args:
        fresh: whether the run begins with `config.weights`; else a checkpoint will be restored, and they are not needed.
        folder: where what takes long to read of the data set is kept; by default that of decoded images.
        brief: whether only some steps are taken: then no file of decoded images is made for want of memory.

    Raises:
        UserError: for whatever in the configuration or the data cannot work, before anything is trained.
    """

    def notify(text: str, warning: bool = False) -> None:
        emit(events.Notice(text, warning))

    if precision.device.type == "cpu":
        keep_freed_memory()
    seed_everything(config.seed, config.deterministic)
    workers = resolve_workers(config.workers, precision.device)
    with world.first_here():  # what it has read and kept is there at once for the others
        data = open_dataset(config.data, folder=folder or images_folder(config))
    train, val = data.splits["train"], data.splits["val"]
    labels = trainable_boxes(train)
    for note in (*data.notes, *labels.notes):
        notify(note, True)
    check_boxes(train, val, labels)
    if config.batch > len(train):
        raise UserError(
            f"batch: {config.batch} is larger than the training set, {len(train)} images; "
            f"write batch: {max(1, len(train) // 2)} or fewer"
        )

    # a mistake in the schedule is told before the images are read; how many steps there are is known afterwards
    build_schedule(config, standard_groups(config), -(-len(train) // config.batch))

    model = detector.build_detector(config.model, data.names)
    stride = detector.stride(model)
    check_network(config, model)
    if fresh:
        transfer = load_weights(model, config) if world.is_main else None  # which may download them
        if transfer is not None:
            notify(str(transfer), transfer.is_poor)
    world.share_state(model)
    frozen = detector.freeze(model, config.freeze)
    if frozen:
        notify(f"freeze: {frozen} parameter tensors are not trained")
    model = model.to(precision.device, memory_format=torch.channels_last)

    store = open_store(train, config, config.imgsz, notify, fate=UNREADABLE_IN_TRAINING, brief=brief, show=emit)
    val_store = open_store(val, config, config.imgsz, notify, fate=UNREADABLE_IN_EVALUATION, brief=brief, show=emit)
    loader = TrainLoader(
        store, labels, config, batch=config.batch, seed=config.seed, workers=workers, rank=world.rank, ranks=world.size,
        timeout=config.worker_timeout, stride=stride, feeder=open_feeder(store, labels, precision.device, notify),
        between=torch.get_num_threads() if config.workers == "auto" and precision.device.type == "cpu" and store.cached else 0,
    )  # fmt: skip
    check_smallest(config, stride, len(train))
    if left_out := loader.left_out():
        notify(left_out, True)
    loss = DetectionLoss(model, box=config.box, cls=config.cls, dfl=config.dfl, epochs=config.epochs)
    optimizer, groups = build_optimizer(model, config)
    schedule = build_schedule(config, groups, len(loader))
    for note in schedule.notes:
        notify(note)
    if parse_duration(config.eval_every).steps(len(loader), schedule.steps) < 1:
        raise UserError(f"eval_every: {config.eval_every} is less than a step of this run; write at least 1it")
    save_every = config.checkpoint.every
    if parse_time(save_every) is None and parse_duration(save_every).steps(len(loader), schedule.steps) < 1:
        raise UserError(f"checkpoint.every: {save_every} is less than a step of this run; write at least 1it")
    first_here = world.local_rank == 0
    prints = {split: fingerprint(index) for split, index in data.splits.items()} if first_here else None
    prints = check_same_data(world, prints)
    run_dir = make_run_dir()
    ema = Ema(model, config.ema_decay, config.ema_tau)  # before the norms become others
    world.synchronise(model, precision.device)
    mode = resolve_compile(
        config.compile, precision.device, schedule.steps, schedule.accumulate, config.multi_scale, world.size
    )
    fused = fuse_norms(model) if precision.device.type == "cpu" and world.size == 1 and mode == "off" else 0
    rows, compiled = detector.Rows(model), None
    if mode != "off":
        shape = (config.batch, 3, config.imgsz, config.imgsz)
        failed = (lambda why: notify(f"compile: not compiled: {why}", True)) if config.compile == "auto" else None
        compiled = Compiled(rows, loss, mode, shape, failed)
        if loader.feeder is not None:
            loader.feeder.draw = CompiledFunction(loader.feeder.draw, failed)
    return Trainer(
        config=config,
        run_dir=run_dir,
        saver=Saver(run_dir, CheckpointFolder(run_dir / "checkpoints", config.checkpoint.keep), emit),
        learner=Learner(model, rows, loss, ema, optimizer, precision, world, config.clip_norm, compiled),
        groups=groups,
        schedule=schedule,
        loader=loader,
        evaluator=Evaluator(
            val_store,
            config,
            batch=config.batch,
            workers=workers,
            precision=precision,
            world=world,
            timeout=config.worker_timeout,
        ),
        emit=emit,
        facts=_facts(config, data, prints, model, precision, world, loader),
        environment=describe_environment(precision, world, fused, mode, loader.kernel),
        data_prints=prints,
    )


def _facts(
    config: RunConfig, data: Dataset, prints: Mapping[str, Print], model: torch.nn.Module, precision: Precision,
    world: World, loader: TrainLoader,
) -> dict[str, object]:  # fmt: skip
    device = precision.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"
    return {
        "model": config.model,
        "parameters": detector.parameter_count(model),
        "weights": config.weights,
        "optimizer": config.optimizer,
        "data": data.name,
        "train_images": len(loader.store.index),
        "val_images": len(data.splits["val"]),
        "train_digest": digest(prints["train"]),
        "val_digest": digest(prints["val"]),
        "device": str(device),
        "hardware": f"{name}, {os.cpu_count()} cores",
        "precision": precision.name,
        "processes": world.size,
        "cached": loader.store.cached,
        "yolo_cosine": yolo_cosine.__version__,
        "torch": torch.__version__,
        "ultralytics": ultralytics.__version__,
        "python": platform.python_version(),
    }
