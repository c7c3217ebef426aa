"""Every key of a run's configuration, with its type, range, default and meaning.

The keys are flat and named as the field names them; here they stand in groups, one for each part of the program, so
that a function asks for the group it needs (`AugmentConfig`) and not for everything. `RunConfig` is all of them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from yolo_cosine.config.duration import parse_duration, parse_time, shown_number

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _check_duration(text: str) -> str:
    if parse_duration(text).value == 0:
        raise ValueError("is no time at all; write at least 1it")
    return text


def _refuse_bare_number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        shown = shown_number(value)
        raise ValueError(f"has no unit; write {shown}ep for epochs or {shown}it for steps")
    return value


DurationText = Annotated[str, BeforeValidator(_refuse_bare_number), AfterValidator(_check_duration)]


_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_NAME_LENGTH = 240  # file systems have room for 255, and a taken name gets a number


def _check_name(value: Any) -> Any:
    if isinstance(value, str) and not (re.fullmatch(_NAME, value) and len(value) <= _NAME_LENGTH):
        raise ValueError(
            f"is no name of a folder (the pattern is {_NAME}, of at most {_NAME_LENGTH} letters); write letters, digits, dots, dashes "
            "and underscores, and where the folder is in runs"
        )
    return value


class KeyGroup(BaseModel):
    """Keys that belong together."""

    # strict: no "16" for 16, no 1 for true. forbid: an unknown key is an error, never ignored.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ModelConfig(KeyGroup):
    model: str = Field(
        "yolo11n.yaml",
        description="Ultralytics detection architecture: a name (yolov5nu.yaml, yolov8n.yaml, yolo11s.yaml, "
        "yolo26n.yaml, ...) or the path of a model YAML.",
    )
    weights: str | None = Field(
        None,
        description="Checkpoint to start from: a local .pt file or the name of an official one (yolo11n.pt). Layers "
        "that do not fit, such as a class head of another size, start anew and are reported.",
    )
    trust_weights: bool = Field(
        False,
        description="Load `weights` even where Ultralytics' safe loader refuses. A .pt file is a pickle: loading one "
        "that you do not trust can run any code.",
    )
    freeze: Annotated[int, Field(ge=0)] | list[Annotated[int, Field(ge=0)]] | None = Field(
        None, description="Layers that are not trained: the first N, or a list of layer indices."
    )


class DataConfig(KeyGroup):
    data: Annotated[str, Field(min_length=1)] = Field(
        "shapes",
        description="The data set: a YAML file (COCO JSON, YOLO txt or Pascal VOC), a folder in COCO's layout, or "
        "`shapes`, the embedded one.",
    )
    imgsz: Annotated[int, Field(ge=32, le=16384)] = Field(640, description="Side of the square training image, pixels.")
    batch: Annotated[int, Field(ge=1)] = Field(16, description="Images in a step, over all devices.")
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="Threads that decode and augment; what is trained on does not depend on it."
    )
    worker_timeout: Positive = Field(
        300.0, description="Seconds after which a worker that is still busy with one batch is given up and replaced."
    )
    cache: Literal["auto", "ram", "disk", "none"] = Field(
        "auto",
        description="Keep decoded images: in memory (`ram`), or in a file (`disk`) that all runs on this machine share, and "
        "later ones use again as long as the images are the same. `auto`: in memory where they fit in half of what is free, "
        "else in a file where they fit in half of the free disk.",
    )
    cache_dir: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Folder of the files of `cache: disk`, and of what takes long to read of a large data set's annotations; "
        "by default .images in `runs`. With a folder named, `cache: auto` keeps them there also where they fit into "
        "memory, as an ablation does for its runs and several processes of a run do. It may be deleted at any time.",
    )


class AugmentConfig(KeyGroup):
    """Strengths and probabilities, named as Ultralytics names them and with its defaults."""

    mosaic: Fraction = Field(1.0, description="Probability of a mosaic of four images.")
    close_mosaic: Annotated[int, Field(ge=0)] = Field(
        10, description="Final epochs without mosaic (and without MixUp and CutMix)."
    )
    mixup: Fraction = Field(0.0, description="Probability that an image is blended with another one (MixUp).")
    cutmix: Fraction = Field(
        0.0, description="Probability that an area without objects is replaced by a part of another image (CutMix)."
    )
    degrees: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="Rotation, +/- degrees.")
    translate: Fraction = Field(0.1, description="Translation, +/- fraction of the image.")
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="Scale gain, 1 +/- this.")
    shear: Annotated[float, Field(ge=0, lt=90)] = Field(0.0, description="Shear, +/- degrees.")
    perspective: Annotated[float, Field(ge=0, le=0.001)] = Field(0.0, description="Perspective, +/- this.")
    flipud: Fraction = Field(0.0, description="Probability of an upside-down flip.")
    fliplr: Fraction = Field(0.5, description="Probability of a left-right flip.")
    hsv_h: Fraction = Field(0.015, description="Hue shift, +/- fraction of the circle.")
    hsv_s: Fraction = Field(0.7, description="Saturation gain, 1 +/- this.")
    hsv_v: Fraction = Field(0.4, description="Value (brightness) gain, 1 +/- this.")
    multi_scale: Fraction = Field(
        0.0, description="Resize each batch by up to this fraction of imgsz, up or down, to multiples of the stride."
    )

    @property
    def mixes(self) -> bool:
        """Whether any training image is mixed with another one."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def combines(self) -> bool:
        """Whether any training image is made of several: what ends with the last `close_mosaic` epochs."""
        return self.mosaic > 0 or self.mixes


class PlateauConfig(KeyGroup):
    """A rate that falls when the metric stops getting better, named as PyTorch's ReduceLROnPlateau names it."""

    factor: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="What the rate is multiplied with.")
    patience: Annotated[int, Field(ge=0)] = Field(
        10, description="Evaluations without a better mAP50-95 that are let pass."
    )
    threshold: NonNegative = Field(1e-4, description="By how much better is better.")
    threshold_mode: Literal["rel", "abs"] = Field(
        "rel", description="Whether `threshold` is a share of the best, or mAP."
    )
    cooldown: Annotated[int, Field(ge=0)] = Field(0, description="Evaluations after a fall that do not count.")
    min_factor: Fraction = Field(0.0, description="The rate falls to no less than this share.")


Curve = Literal["cosine", "linear", "constant", "exponential", "one-minus-sqrt", "rex", "tanh"]


class ExtensionConfig(KeyGroup):
    """How a run went on past the length that it was begun with; `--extend` and `--branch` write it."""

    how: Literal["stretch", "continue", "restart", "decay"] = Field(
        description="What the learning rate does from there."
    )
    step: Annotated[int, Field(ge=1)] = Field(description="First step of the new part.")
    epochs: Annotated[int, Field(ge=1)] = Field(description="Length of the run before.")
    curve: Curve | None = Field(None, description="Shape of the new decay; by default the run's.")
    lrf: Fraction | None = Field(None, description="End of the new decay; by default the run's.")


Phases = list[dict[str, Any]]


class ScheduleConfig(KeyGroup):
    preset: Annotated[str, Field(min_length=1)] = Field(
        "yolo-cosine",
        description="Whose conventions the schedule follows. `yolo-cosine`: warmup and decay per step, the decay's "
        "clock starts after the warmup and its last step has lr0*lrf. `ultralytics`, `yolov5`, ...: that trainer's, "
        "exactly. `peer.schedule`, as in `transformers.cosine`: any schedule of a peer, with `preset_args`.",
    )
    preset_args: dict[str, Any] = Field({}, description="Arguments of a peer's schedule, by the peer's own names.")
    curve: Curve = Field(
        "cosine", description="The decay after the warmup; for others, and those with arguments, see `phases`."
    )
    lr_update: Literal["step", "epoch"] = Field(
        "step", description="Whether the decay moves at every step or, as in Ultralytics, at the start of each epoch."
    )
    lr0: Positive = Field(0.01, description="Base learning rate.")
    lrf: Fraction = Field(0.01, description="Final learning rate as a fraction of lr0.")
    period: DurationText | None = Field(
        None, description="Length of the decay, where it is not what remains after the warmup: 80%, 50ep, 120%."
    )
    after_period: Literal["hold", "rise", "restart"] | None = Field(
        None, description="What follows a `period` that is over before the run: hold the end, rise again, or restart."
    )
    warmup_epochs: NonNegative = Field(3.0, description="Length of the warmup, epochs; may be fractional.")
    warmup_curve: Literal["linear", "constant", "quadratic", "exponential", "cosine"] = Field(
        "linear", description="Shape of the warmup."
    )
    warmup_start: Fraction = Field(0.0, description="Where the warmup starts, as a fraction of lr0 (not of biases).")
    warmup_momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.8, description="Momentum where the warmup starts.")
    warmup_bias_lr: NonNegative = Field(0.1, description="Learning rate of biases where the warmup starts.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.937, description="SGD momentum, or Adam's beta1.")
    phases: Phases | None = Field(
        None,
        description="The learning rate composed of phases, in place of curve, lrf and warmup: a list of "
        "{curve, start, end, for, ...} in multiples of lr0, one after another. `for` is 3ep, 500it, 5% or rest.",
    )
    group_phases: dict[str, Phases] = Field({}, description="Phases of one parameter group (weight, norm, bias).")
    momentum_phases: Phases | None = Field(None, description="Phases of the momentum; values are the momentum itself.")
    weight_decay_phases: Phases | None = Field(
        None, description="Phases of the weight decay, in multiples of weight_decay."
    )
    lr_factors: dict[str, Positive] = Field(
        {}, description="Multiples of lr0 for a parameter group (bias: 2) or for layers (layers 0-9: 0.1)."
    )
    plateau: PlateauConfig | None = Field(
        None, description="Let the rate fall when mAP50-95 stops getting better, on top of the curve."
    )


class OptimizerConfig(KeyGroup):
    optimizer: Literal["SGD", "AdamW", "MuSGD"] = Field(
        "SGD", description="SGD with Nesterov momentum, AdamW, or Ultralytics' MuSGD."
    )
    weight_decay: NonNegative = Field(
        5e-4, description="Decay of weights (not of norms and biases), scaled by batch*accumulate/nominal_batch."
    )
    nominal_batch: Annotated[int, Field(ge=1)] = Field(
        64, description="Gradients of round(nominal_batch/batch) steps are accumulated into one update."
    )
    clip_norm: NonNegative = Field(10.0, description="Largest gradient norm of an update; 0 for no clipping.")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(0.9999, description="Decay of the weights' moving average.")
    ema_tau: Positive = Field(2000.0, description="Updates over which the average's decay ramps up.")
    box: NonNegative = Field(7.5, description="Gain of the box loss.")
    cls: NonNegative = Field(0.5, description="Gain of the class loss.")
    dfl: NonNegative = Field(1.5, description="Gain of the distribution focal loss (L1 where a head has no DFL).")


class EvalConfig(KeyGroup):
    conf: Annotated[float, Field(ge=0, lt=1)] = Field(0.001, description="Least confidence of a detection.")
    iou: Annotated[float, Field(gt=0, le=1)] = Field(0.7, description="IoU above which NMS drops a detection.")
    nms: bool | Literal["auto"] = Field(
        "auto", description="auto: none for heads that need none (YOLOv10, YOLO26); true or false to choose the head."
    )
    max_det: Annotated[int, Field(ge=1)] = Field(300, description="Most detections kept for an image.")


class DeviceConfig(KeyGroup):
    device: str | Annotated[int, Field(ge=0)] = Field(
        "auto", description="auto, cpu, cuda, mps, or the number of a GPU. For several GPUs use torchrun."
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto",
        description="auto: bf16 where the hardware is faster at it (some CPUs, too), fp16 on older GPUs, fp32 elsewhere.",
    )


def _check_interval(text: str) -> str:
    return text if parse_time(text) else _check_duration(text)


IntervalText = Annotated[str, BeforeValidator(_refuse_bare_number), AfterValidator(_check_interval)]


class CheckpointConfig(KeyGroup):
    """When a run is saved, and what is kept. A best evaluation and the end are always saved."""

    every: IntervalText = Field("1ep", description="Save at this interval: 1ep, 500it, 5%, or by the clock: 10min, 2h.")
    keep: Annotated[int, Field(ge=1)] = Field(2, description="Newest checkpoints kept; the best is kept besides.")


class NonfiniteConfig(KeyGroup):
    """What becomes of a run whose loss or gradients are no finite numbers."""

    skips: Annotated[int, Field(ge=0)] = Field(
        5, description="Updates in a row that are left out; after that the run goes back to its last checkpoint."
    )
    rewinds: Annotated[int, Field(ge=0)] = Field(2, description="Times that it goes back; after that it stops.")
    lr_factor: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="What every learning rate is multiplied with each time that it goes back."
    )


def _refuse_unitless_time(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        shown = shown_number(value)
        raise ValueError(f"has no unit; write {shown}h for hours or {shown}min for minutes")
    return value


def _check_time(text: str) -> str:
    if parse_time(text) is None:
        raise ValueError("is no time; write it as 90min or 2h")
    return text


AUTO_BATCH_SHARE = 0.7  # of a GPU's memory


def _check_batch(value: Any) -> Any:
    if isinstance(value, str) and value != "auto":
        match = re.fullmatch(r"(\d{1,3})%", value)
        if match is None or not 1 <= int(match[1]) <= 100:
            raise ValueError(
                "is neither a number of images nor auto nor a share of the GPU's memory; write 16, auto or 60%"
            )
    return value


class RunConfig(ModelConfig, DataConfig, AugmentConfig, ScheduleConfig, OptimizerConfig, EvalConfig, DeviceConfig):
    """All keys of a training run."""

    batch: Annotated[Annotated[int, Field(ge=1)] | str, BeforeValidator(_check_batch)] = Field(
        16,
        description="Images in a step, over all devices. `auto`: as many as 70% of the GPU's memory holds, or `60%`: of that share; "
        "nominal_batch stays.",
    )

    name: Annotated[str, Field(pattern=_NAME, max_length=_NAME_LENGTH), BeforeValidator(_check_name)] | None = Field(
        None, description="Folder of the run below `runs`; by default the config's name. A taken name gets a number."
    )
    runs: Annotated[str, Field(min_length=1)] = Field("runs", description="Folder that holds the runs.")
    labels: dict[str, str | int | float] = Field(
        {},
        description="Words of your own about the run: columns in TensorBoard's HParams. `variant` says what it is a run of.",
    )
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = Field(100, description="Epochs to train.")
    time: Annotated[str, BeforeValidator(_refuse_unitless_time), AfterValidator(_check_time)] | None = Field(
        None,
        description="Time budget: 90min, 2h. Once the warmup is over, `epochs` is set to what fits by the measured speed, "
        "and the schedule ends with it.",
    )
    extensions: list[ExtensionConfig] = Field(
        [], description="How the run was made longer than it began; written by --extend and --branch, not by hand."
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        0, description="Seed of weights, sample order and augmentation."
    )
    eval_every: DurationText = Field("1ep", description="Evaluate at this interval (2ep, 500it, 10%), and at the end.")
    checkpoint: CheckpointConfig = Field(
        CheckpointConfig(), description="When to save (every), how many to keep (keep)."
    )
    nonfinite: NonfiniteConfig = Field(
        NonfiniteConfig(), description="What to do when a loss or gradient is no finite number."
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        100, description="Epochs without a better mAP50-95 after which training stops early; 0 for never."
    )
    deterministic: bool = Field(
        True, description="Only deterministic kernels, so that a run can be repeated bit for bit."
    )
    compile: Literal["auto", "off", "default", "max-autotune"] = Field(
        "auto",
        description="PyTorch's compiler for network and loss: `default`, or `max-autotune`, which tries kernels out and uses CUDA "
        "graphs, but where batches are accumulated. With `deterministic: true` no kernel is chosen by its speed. It takes minutes "
        "at the start; `auto` compiles long runs on a GPU.",
    )
    sync_norms: bool = Field(
        True,
        description="With several processes the norms take their statistics over the images of all, so that weights are those "
        "of one process with the same batch. false: each over its own, as YOLOv5 and Ultralytics do it; fewer messages.",
    )
    log_every: Annotated[int, Field(ge=1)] = Field(10, description="Steps over which a logged loss is averaged.")
    tensorboard: bool = Field(True, description="Write TensorBoard logs.")
    plots: bool = Field(True, description="Write PNG plots of LR, losses and mAP into the run.")
    predictions: bool = Field(True, description="Write predictions.json (COCO results of the best weights) at the end.")
    image_resamples: Annotated[int, Field(ge=0, le=100_000)] = Field(
        0,
        description="Resamples of the validation images, from which image_intervals.json says at the end how far mAP is a "
        "matter of these images; 1000 is plenty, 0 for none.",
    )


class ValConfig(DataConfig, EvalConfig, DeviceConfig):
    """All keys of an evaluation by itself."""

    trust_weights: bool = Field(False, description="Load the checkpoint even where the safe loader refuses.")


# Keys of a run that change nothing in what is computed once it has begun, so that a run may go on with others.
HARMLESS = frozenset({
    "workers", "cache", "cache_dir", "tensorboard", "plots", "predictions", "checkpoint", "trust_weights", "runs", "name",
    "weights", "nonfinite", "worker_timeout", "patience", "labels", "image_resamples",
    "data",  # the content is compared, wherever it lies
})  # fmt: skip
