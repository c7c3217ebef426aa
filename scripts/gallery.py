"""Draw all schedules and say what each does at its ends: configs/schedules/GALLERY.md and the pictures beside it.

    python scripts/gallery.py

Everything is computed from the code; a test fails where the committed text is not what the code gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from yolo_cosine.config.load import load_config
from yolo_cosine.schedules.catalogue import EXAMPLES, LENGTH
from yolo_cosine.schedules.compose import Repeat
from yolo_cosine.schedules.curves import KINDS, Cosine
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.presets import peers, schedules_of
from yolo_cosine.schedules.table import SchedulePlan
from yolo_cosine.sinks.drawing import PALETTE

FOLDER = Path(__file__).parents[1] / "configs/schedules"
ARTICLE = {
    "as it stands (`cosine-periodic`)": CosinePeriodic(0.01, 0.0001, 10),
    "held (`cosine`)": Cosine(0.01, 0.0001, 10),
    "restarted (`repeat`)": Repeat(Cosine(0.01, 0.0001, 10)),
}


def grid(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path, past: float | None = None) -> None:
    """Small panels, one for each line (x, y); what is past `past` on a grey ground."""
    across = 5
    down = -(-len(lines) // across)
    figure = Figure(figsize=(13, 1.75 * down), dpi=80, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (name, (x, y)) in zip(panels, lines.items(), strict=False):
        axes.plot(x, y, color=PALETTE[0], linewidth=1.8)
        axes.set_title(name, fontsize=10)
        axes.set_ylim(0, 1.08 * max(y))
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        if past is not None:
            axes.axvspan(past, x[-1], color="#EEEEEE", zorder=0)
    for axes in panels[len(lines) :]:
        axes.set_axis_off()
    FigureCanvasAgg(figure).print_png(path)


def shipped() -> dict[str, SchedulePlan]:
    """The schedules of `configs/schedules`, over a run of 100 epochs of 50 steps."""
    return {
        path.stem: SchedulePlan.of(load_config(path, ["epochs=100"]), 50, path.stem)
        for path in sorted(FOLDER.glob("*.yaml"))
    }


def ends_table() -> str:
    """What each kind does at step 0, at its end and past it: values of the example in the catalogue."""
    rows = [
        "| kind | step 0 | last step but one | at its end | ten steps past | 10^9 steps past |",
        "|---|---|---|---|---|---|",
    ]
    for name, schedule in EXAMPLES.items():
        end = round(schedule.steps)
        values = [schedule(k) for k in (0, end - 1, end, end + 10, end + 10**9)]
        rows.append(f"| `{name}` | " + " | ".join(f"{v:.4g}" for v in values) + " |")
    return "\n".join(rows)


def kinds_list() -> str:
    """Every kind with the first sentences of its docstring."""
    return "\n".join(
        f"- **`{name}`** {(KINDS[name].__doc__ or '').split(chr(10) * 2)[0]}".replace("\n    ", " ")
        for name in EXAMPLES
    )


def article_table() -> str:
    """The article's example, epoch by epoch, and what could be meant instead."""
    rows = ["| after epoch | " + " | ".join(ARTICLE) + " |", "|---|---|---|---|"]
    for epoch in (0, 1, 5, 10, 11, 15, 20):
        rows.append(f"| {epoch} | " + " | ".join(f"{s(epoch):.7f}" for s in ARTICLE.values()) + " |")
    return "\n".join(rows)


def text() -> str:
    """The page."""
    configs = "\n".join(f"- [`{name}.yaml`]({name}.yaml): {first_comment(name)}" for name in shipped())
    natives = "\n".join(f"- `{peer}`: {', '.join(n for n in schedules_of(peer))}" for peer in peers())
    return f"""# Schedules

Made by `python scripts/gallery.py` from the code; edit that, not this.

## Ready to use

![the schedules of this folder over 100 epochs](configs.png)

`extends: configs/schedules/NAME.yaml` in a run's file takes one over, and
`python -m yolo_cosine.preview --cfg configs/schedules/*.yaml epochs=50 --steps-per-epoch 100` draws them over each other.

{configs}

## Kinds

![every kind of curve and combinator, and what it does past its end](kinds.png)

The ground is grey past step {LENGTH}. In YAML a phase names a kind as its `curve`; the other keys are the kind's arguments.

{kinds_list()}

Two more are states of a run rather than functions of the step: `plateau`, which lowers every rate when mAP50-95 stops getting
better (its state is in the checkpoint), and the `accumulate` ramp of Ultralytics' and YOLOv5's presets.

### At the ends

Values of the examples above. "At its end" is the step after the last one of its length: a curve whose end is to be used by
the last of N updates has a length of N - 1, and the last phase of a run is made so.

{ends_table()}

## The cosine that rises again

A much-read example trains a linear model on random sums for 20 epochs with Adam at 0.01 and
`CosineAnnealingLR(optimizer, T_max=10, eta_min=0.0001)`. With our scheduler in its place:

```python
from yolo_cosine.integrations.torch_scheduler import ScheduleLR
from yolo_cosine.schedules.cycles import CosinePeriodic

scheduler = ScheduleLR(optimizer, CosinePeriodic(1.0, 0.01, 10))  # multiples of the optimizer's rate: 0.01 down to 0.0001
```

The rate falls to 0.0001 after epoch 10, and then it climbs back, to 0.01 after epoch 20: the run ends at its highest rate.
Whoever wants the other half to stay low takes `Cosine`, and who wants it to start again, `Repeat`.

![the three of them over 20 epochs](article.png)

{article_table()}

## Other people's schedules

By their own names and arguments, at every step what their own code applies: `preset: transformers.cosine` with
`preset_args: {{num_warmup_steps: 500}}` in a run, `from_native("transformers", "cosine", {{...}}, {{...}})` in Python, and
`python -m yolo_cosine.preview --from transformers.cosine num_warmup_steps=500 num_training_steps=9000` for the YAML.

{natives}
"""


def first_comment(name: str) -> str:
    """The first line of a shipped file, which says what it is."""
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


def article_figure(path: Path) -> None:
    """The article's example and its two neighbours."""
    figure = Figure(figsize=(13, 2.6), dpi=80, layout="constrained")
    for axes, (name, schedule) in zip(figure.subplots(1, 3, sharey=True), ARTICLE.items(), strict=True):
        axes.plot(range(21), [schedule(k) for k in range(21)], "o-", color=PALETTE[0], markersize=4)
        axes.set(title=name.replace("`", ""), xlabel="epoch", ylim=(0, 0.0108))
        axes.set_xticks(range(0, 21, 5))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.axes[0].set_ylabel("learning rate")
    FigureCanvasAgg(figure).print_png(path)


def main() -> None:
    """Write the page and its pictures."""
    steps = range(LENGTH + 60)
    grid({name: (steps, [s(k) for k in steps]) for name, s in EXAMPLES.items()}, FOLDER / "kinds.png", LENGTH)
    lines = {}
    for name, plan in shipped().items():
        line = next(iter(plan.lines().values()))
        lines[name] = ([k / 50 for k in range(len(line))], [v / plan.config.lr0 for v in line])
    grid(lines, FOLDER / "configs.png")
    article_figure(FOLDER / "article.png")
    (FOLDER / "GALLERY.md").write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
