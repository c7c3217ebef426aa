"""What the console says, as text: pure functions from values to lines of at most 80 columns, where that can be."""

from __future__ import annotations

import math
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from yolo_cosine import events

_LABEL = 9  # width of the labels in the block at the start


def clock(seconds: float) -> str:
    """`42s`, `3:07` or `1:02:03`."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def short_name(loss: str) -> str:
    """`train/box_loss` or `epoch/box_loss` as people read it: `box`."""
    return loss.removeprefix(events.LOSS).removeprefix(events.EPOCH_LOSS).removesuffix("_loss")


def number(value: float | None, missing: str = "-") -> str:
    """A number that is 0 or more in at most five characters; `missing` for None and NaN."""
    if value is None or math.isnan(value):
        return missing
    if value >= 1e5:
        return "inf" if math.isinf(value) else f"{value:.0e}"
    return f"{value:.{3 if value < 9.9995 else 2 if value < 99.995 else 1 if value < 999.95 else 0}f}"


def metric(value: float | None, missing: str = "-") -> str:
    """A metric, 0 to 1; COCO's -1 says that there was nothing to measure."""
    return missing if value is None or value < 0 else number(value, missing)


def rate(value: float | None) -> str:
    """A learning rate in at most eight characters."""
    return "-" if value is None else f"{value:.3g}"


def speed(images_per_second: float | None) -> str:
    """Images per second, whole from ten on."""
    if images_per_second is None or not math.isfinite(images_per_second):
        return "-"
    return f"{images_per_second:.{0 if images_per_second >= 10 else 1}f}"


def main_rate(scalars: Mapping[str, float]) -> float | None:
    """The learning rate of the weights; where there is no such group, of the first."""
    rates = {name: value for name, value in scalars.items() if name.startswith(events.LR)}
    return rates.get(events.LR + "weight", next(iter(rates.values()), None))


def start_block(event: events.RunStarted, width: int) -> str:
    """What is trained, on what, and where it goes."""
    facts = event.facts

    def has(*names: str) -> bool:
        return all(facts.get(name) is not None for name in names)

    model = [str(facts["model"])] if has("model") else []
    model += [f"{facts['parameters']:,} parameters"] if has("parameters") else []
    model += [f"weights {facts['weights']}" if has("weights") else "from scratch"] if "weights" in facts else []
    data = [str(facts["data"])] if has("data") else []
    if has("train_images", "val_images"):
        data.append(f"{facts['train_images']:,} training and {_count(facts['val_images'], 'validation image')}")
    data.append(_classes(event.names))
    plan = [f"{_count(event.epochs, 'epoch')} of {_count(event.steps_per_epoch, 'step')}, batch {event.batch}"]
    plan += [str(facts["optimizer"])] if has("optimizer") else []
    device = [str(facts[name]) for name in ("device", "hardware", "precision") if has(name)]
    rows = {"model": model, "data": data, "training": plan, "device": device}
    lines = [_row(label, ", ".join(parts), width) for label, parts in rows.items() if parts]
    if event.start_step:
        epoch, inside = divmod(event.start_step, event.steps_per_epoch)
        lines.append(_row("resumed", f"at step {event.start_step}, epoch {epoch + 1}, batch {inside + 1}", width))
    # a path or a command is for copying, and is never broken
    folder = shlex.quote(str(event.run_dir))
    lines.append(f"{'folder':{_LABEL}}{folder}")
    if event.config.get("tensorboard", True):
        lines.append(f"{'curves':{_LABEL}}tensorboard --logdir {folder} --host localhost")
    return "\n".join(lines)


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number:,} {what}{plural if number != 1 else ''}"


def _classes(names: Sequence[str]) -> str:
    count = _count(len(names), "class", "es")
    return f"{count} ({', '.join(names)})" if sum(map(len, names)) <= 60 else count


def _row(label: str, text: str, width: int) -> str:
    return textwrap.fill(f"{label:{_LABEL}}{text}", width, subsequent_indent=" " * _LABEL, break_on_hyphens=False)


# Columns of the table of epochs: heading, width. With three losses a line has 78 columns.
_METRICS = {
    events.MAP: ("mAP50-95", 9),
    events.MAP50: ("mAP50", 6),
    events.PRECISION: ("P", 6),
    events.RECALL: ("R", 6),
}


def _epoch_width(epochs: int) -> int:
    return max(2 * len(str(epochs)) + 1, 7)


def _loss_width(loss: str) -> int:
    return max(len(short_name(loss)) + 1, 6)


def table_header(start: events.RunStarted) -> str:
    """The heading of the table of epochs."""
    cells = [f"{'epoch':>{_epoch_width(start.epochs)}}"]
    cells += [f"{short_name(loss):>{_loss_width(loss)}}" for loss in start.losses]
    cells += [f"{'lr':>9}", *(f"{heading:>{width}}" for heading, width in _METRICS.values())]
    return "".join([*cells, f"{'time':>8}", f"{'img/s':>7}"])


def table_line(
    start: events.RunStarted, lr: float | None, done: events.EpochDone | None, found: events.Evaluated | None
) -> str:
    """A line of the table: an epoch, its evaluation or both; a star at its end marks a new best.

    An evaluation inside an epoch has the epochs that were over, as 2.5, and no losses.
    """
    trained, metrics = (event.scalars if event else {} for event in (done, found))
    if done:
        epoch = f"{done.epoch + 1}/{start.epochs}"
    else:
        epoch = f"{(found.step + 1) / start.steps_per_epoch:.4g}" if found else ""
    cells = [f"{epoch:>{_epoch_width(start.epochs)}}"]
    for loss in start.losses:
        text = number(trained.get(events.EPOCH_LOSS + loss), "nan") if done else ""
        cells.append(f"{text:>{_loss_width(loss)}}")
    cells.append(f"{rate(lr):>9}")
    cells += [f"{metric(metrics.get(name)) if found else '':>{width}}" for name, (_, width) in _METRICS.items()]
    seconds = (done.seconds if done else 0) + metrics.get(events.EVAL_SECONDS, 0)
    cells += [f"{clock(seconds):>8}", f"{speed(trained.get(events.IMAGES_PER_SECOND)):>7}" if done else ""]
    return "".join(cells).rstrip() + (" *" if found and found.best else "")


def end_block(event: events.RunEnded, weights: Mapping[str, str], width: int) -> str:
    """How the run ended, its best metrics, AP by class and where the weights are."""
    whole = event.reason in {"finished", "stopped early"}
    place = f"after epoch {event.epoch + 1}" if whole else f"in epoch {event.epoch + 1}, after step {event.step},"
    lines = [f"{event.reason} {place} in {clock(event.seconds)}"]
    if event.best:
        metrics = {"mAP50-95": events.MAP, "mAP50": events.MAP50, "mAP75": events.MAP75}
        metrics |= {"precision": events.PRECISION, "recall": events.RECALL}
        shown = ", ".join(f"{title} {metric(event.best.get(name))}" for title, name in metrics.items())
        where = f"best, epoch {event.best_epoch + 1}: " if event.best_epoch is not None else "best: "
        lines.append(textwrap.fill(where + shown, width, subsequent_indent="  "))
    if event.best_per_class:
        lines.append(class_table(event.best_per_class, width))
    lines += [f"{kind + ' weights':14}{shlex.quote(path)}" for kind, path in weights.items()]
    return "\n".join(lines)


def class_table(per_class: Mapping[str, float], width: int) -> str:
    """AP50-95 of each class, best first; of more than 20 classes the best and the worst five."""
    known = sorted((item for item in per_class.items() if not math.isnan(item[1])), key=lambda item: -item[1])
    without = len(per_class) - len(known)
    lacking = f"{without} without boxes" if without else ""
    if len(per_class) <= 20:
        lines = ["AP50-95 of each class" + (f" ({lacking})" if lacking else "")]
        return "\n".join([*lines, *_columns([*known, *((n, v) for n, v in per_class.items() if math.isnan(v))], width)])
    title = f"AP50-95 of {len(per_class)} classes" + (f" ({lacking})" if lacking else "")
    if len(known) <= 10:
        return "\n".join([title, *_columns(known, width)])
    best, worst = _columns(known[:5], width), _columns(known[-5:], width)
    return "\n".join([f"{title}, the best five", *best, "and the worst five", *worst])


def _columns(items: Sequence[tuple[str, float]], width: int) -> list[str]:
    """`name 0.512` cells in as many columns as fit, read downwards."""
    longest = min(max((len(name) for name, _ in items), default=0), 30)
    cells = [f"  {_cut(name, longest):{longest}} {number(value):>5}" for name, value in items]
    across = max(min(width // (longest + 8), -(-len(cells) // 5)), 1)
    down = -(-len(cells) // across)
    return ["".join(cells[k::down]) for k in range(down)]


def _cut(name: str, longest: int) -> str:
    return name if len(name) <= longest else name[: longest - 3] + "..."


@dataclass(frozen=True)
class Progress:
    """Where a run is in its epoch."""

    epoch: str  # as 3/40
    done: int  # steps of this epoch
    steps: int  # in an epoch
    losses: Mapping[str, float]  # means since the epoch's start
    lr: float | None
    images_per_second: float | None  # None before the epoch's first step
    left: float  # seconds to the end of the run

    @property
    def shown_losses(self) -> str:
        return " ".join(f"{short_name(name)} {number(value, 'nan')}" for name, value in self.losses.items())

    @property
    def shown_speed(self) -> str:
        return f"{speed(self.images_per_second)} img/s" if self.images_per_second is not None else ""


def reading_line(at: events.Reading) -> str:
    """How far the reading of images is, in words; for logs and files."""
    return f"{at.source}: {at.done:,} of {at.total:,} images read into {at.place}"


def reading_bar(at: events.Reading, seconds: float, width: int, blocks: str = "━─") -> str:
    """The same as one line of at most `width` columns.

    Args:
        seconds: since it began.
    """
    share = at.done / at.total
    left = f"  {clock(seconds * (at.total - at.done) / at.done)} left" if at.done and seconds >= 1 else ""
    end = f" {share:4.0%}  {at.done:,} of {at.total:,} images{left}"
    start = "reading images "
    bar = _bar(share, max(min(width - len(start) - len(end), 40), 0), blocks)
    return (start + bar + end)[:width]


def _bar(share: float, length: int, blocks: str) -> str:
    filled = round(share * length)
    return blocks[0] * filled + blocks[1] * (length - filled)


def progress_line(at: Progress) -> str:
    """Where an epoch is, in words; for logs and files."""
    parts = [f"epoch {at.epoch}, step {at.done} of {at.steps}", at.shown_losses, f"lr {rate(at.lr)}"]
    parts += [at.shown_speed, f"{clock(at.left)} left"]
    return ", ".join(part for part in parts if part)


def progress_bar(at: Progress, width: int, blocks: str = "━─") -> str:
    """One line of at most `width` columns. Where it is narrow, speed and learning rate are left out, in this order.

    Args:
        blocks: the characters for what is done and what is not.
    """
    share = at.done / at.steps
    shown_rate = f"lr {rate(at.lr)}"
    parts = [part for part in (at.shown_losses, shown_rate, at.shown_speed, f"{clock(at.left)} left") if part]
    for dropped in ("", at.shown_speed, shown_rate):
        parts = [part for part in parts if part != dropped]
        rest = "  ".join(parts)
        bar = width - len(f"{at.epoch}  {share:4.0%}  {rest}")
        if bar >= 6:
            break
    return f"{at.epoch} {_bar(share, max(min(bar, 40), 0), blocks)} {share:4.0%}  {rest}"[:width]
