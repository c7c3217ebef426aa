"""Ultralytics' trainer and ours in turn on the same data, model, batch and machine: how fast, how lean, how soon.

    python scripts/bench_train.py --data data/bccd.yaml --imgsz 320 --batch 16 --epochs 4 --out bench.json
    python scripts/bench_train.py --generate 16384 --model yolo11n.yaml yolo11s.yaml --batch 64 --epochs 3 --minutes 30

Every run is a process of its own, and they take turns: A B C, A B C. The modes that are compared are in
`bench/modes.py`: ours, Ultralytics at its defaults, and at its best; on a GPU also both compiled. Printed are medians
over the repeats with their range, and how many times as good ours is, repeat by repeat; `--out` has everything as JSON.
Nothing is downloaded. An epoch should have many more steps than Ultralytics' loader makes ready during an evaluation (4
for each worker), or its images a second look better than they are; where it has not, a note says so.

A machine with a PyTorch of its own keeps it without `scripts/setup.sh`, which installs the pinned one. Its Python needs

    pip install --no-deps -e . ultralytics ultralytics-thop torchvision
    pip install hotcoco matplotlib opencv-python-headless pillow plotly polars psutil pydantic pyyaml
    pip install requests rich scipy tensorboard

where any torchvision will do: if it does not fit that PyTorch, the benchmark has a stand-in.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))

from bench.data import prepare
from bench.figures import profile_table, summarize, table
from bench.launch import ask
from bench.modes import MODES, Setting
from bench.photos import generate
from bench.runs import Bench, chosen_device, chosen_modes, made_folder, positive
from bench.standin import NOTE

from yolo_cosine.cli import check_output, run_command
from yolo_cosine.config.load import load_config, parse_overrides
from yolo_cosine.errors import UserError
from yolo_cosine.files import replace_file
from yolo_cosine.processor import available_cores


def parser() -> argparse.ArgumentParser:
    """The command line."""
    text = __doc__ or ""
    p = argparse.ArgumentParser(prog="python scripts/bench_train.py", description=text.partition("\n")[0])
    data = p.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", help="what a configuration names as data: a YAML file, a folder, a name")
    data.add_argument("--generate", type=positive, metavar="N", help="make N photographs of COCO's sizes to train on")
    p.add_argument(
        "--limit", type=positive, metavar="N", help="train on the first N images, evaluate by a third as many"
    )
    p.add_argument("--model", nargs="+", default=["yolo11n.yaml"], help="one or more (default: yolo11n.yaml)")
    p.add_argument("--imgsz", type=positive, default=640, help="pixels (default: 640)")
    p.add_argument("--batch", type=positive, default=16, help="images in a step (default: 16)")
    p.add_argument("--nominal-batch", type=positive, metavar="N", help="default: the batch, so every step is an update")
    p.add_argument("--epochs", type=positive, default=4, help="at least 2: the first warms up (default: 4)")
    p.add_argument(
        "--only", default=None, metavar="MODE,MODE", help=f"of {','.join(MODES)}; default: all for the device"
    )
    p.add_argument("--repeats", type=positive, default=2, help="times that each mode is run (default: 2)")
    p.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the repeats, in turn (default: 0)")
    p.add_argument("--device", default="auto", help="auto, cpu, or the number of a GPU (default: auto)")
    p.add_argument("--target-map", type=float, metavar="X", help="also the time to this COCO mAP50-95, as 0.55")
    p.add_argument(
        "--ceiling-steps", type=int, default=20, metavar="N", help="of each round of the ceiling; 0: not measured"
    )
    p.add_argument("--profile", action="store_true", help="what some of our steps cost: a table, and a trace in --work")
    p.add_argument("--profile-steps", type=positive, default=5, metavar="N", help="steps of the profile (default: 5)")
    p.add_argument("--ours", nargs="+", default=[], metavar="key=value", help="other keys of our configuration")
    p.add_argument(
        "--best", nargs="+", default=[], metavar="key=value", help="other arguments of its best modes; threads=N too"
    )
    p.add_argument("--minutes", type=float, metavar="M", help="begin no run that would likely end later than this")
    p.add_argument(
        "--work", type=Path, default=Path("runs/bench"), metavar="DIR", help="data, runs, logs (default: runs/bench)"
    )
    p.add_argument("--out", type=Path, metavar="FILE", help="everything as JSON, written anew after each run")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 1 where a run failed, 2 for a mistake."""
    args = parser().parse_args(argv)
    return run_command(lambda: _bench(args))


def _bench(args: argparse.Namespace) -> int:
    deadline = time.monotonic() + (args.minutes or float("inf")) * 60
    ours, best = _check(args)
    machine = ask("bench.machine")
    device = chosen_device(args.device, machine["hardware"]["gpus"])
    modes = chosen_modes(args.only, "cpu" if device == "cpu" else "cuda")
    work = made_folder(args.work)
    if args.generate:
        args.data = str(generate(work / f"photos-{args.generate}", args.generate, 0, available_cores()))
    data = prepare(args.data, args.limit, work)
    record: dict[str, Any] = {
        "benchmark": "bench_train",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hardware": machine["hardware"],
        "software": machine["software"],
        "device": device,
        "modes": {mode: MODES[mode].what for mode in modes},
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()},
        "data": data.about,
        "notes": [] if machine["torchvision"] else [NOTE],
        "models": {model: {"runs": []} for model in args.model},
    }
    bench = Bench(work, not machine["torchvision"], args.target_map, args.ceiling_steps, args.profile_steps)
    overrides = {mode: ours if MODES[mode].trainer == "ours" else {} if mode == "defaults" else best for mode in modes}
    for repeat, model, mode in product(range(args.repeats), args.model, modes):
        found = record["models"][model]
        if time.monotonic() + _expected_seconds(record["models"], model, mode) > deadline:
            print(f"{model}, {mode}, {repeat + 1}: left out, it would end after {args.minutes:g} minutes", flush=True)
            continue
        seed = args.seeds[repeat % len(args.seeds)]
        setting = Setting(
            str(data.yaml), model, args.imgsz, args.batch, args.nominal_batch or args.batch, args.epochs, seed, device
        )
        begun = time.monotonic()
        run = bench.run(setting, mode, overrides[mode], repeat, profile=args.profile and repeat == 0)
        found["runs"].append({**run, "seconds": time.monotonic() - begun})
        print(_said(model, run), flush=True)
        found.update(summarize(found["runs"]))
        record["notes"] = list(dict.fromkeys([*record["notes"], *run.get("notes", [])]))
        if args.out:
            replace_file(args.out, [(json.dumps(record, indent=1) + "\n").encode()])
    _show(record)
    return int(any("error" in run for found in record["models"].values() for run in found["runs"]))


def _check(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Refuse what cannot work before anything is trained; returns the overrides of our mode and of its best ones."""
    check_output("--out", args.out)
    if args.epochs < 2:
        raise UserError(f"--epochs: {args.epochs} leaves nothing to measure, the first one warms up; write 2 or more")
    if args.target_map is not None and not 0 < args.target_map < 1:
        raise UserError(f"--target-map: {args.target_map:g} is no mAP; write a number between 0 and 1, as 0.55")
    if args.ceiling_steps < 0:
        raise UserError(f"--ceiling-steps: {args.ceiling_steps} is no number of steps; write 0 or more")
    if min(args.seeds) < 0:
        raise UserError(f"--seeds: {min(args.seeds)} is no seed; write numbers from 0 on")
    if args.minutes is not None and args.minutes <= 0:
        raise UserError(f"--minutes: {args.minutes:g} is no time; write a number above 0")
    ours, best = parse_overrides(args.ours), parse_overrides(args.best)
    load_config(None, args.ours)  # a wrong key or value
    unknown = sorted(best.keys() - _ultralytics_keys() - {"threads"})
    if unknown:
        raise UserError(f"--best: {unknown[0]!r} is no argument of Ultralytics' trainer, nor threads")
    return ours, best


def _expected_seconds(models: dict[str, Any], model: str, mode: str) -> float:
    """How long a run may take: the longest of its kind, or where there is none yet the longest of all; 0 for the first."""
    of_its_kind = [run["seconds"] for run in models[model]["runs"] if run["mode"] == mode]
    return max(of_its_kind or [run["seconds"] for found in models.values() for run in found["runs"]], default=0.0)


def _ultralytics_keys() -> set[str]:
    """Its arguments, without importing it."""
    spec = find_spec("ultralytics")
    assert spec is not None and spec.origin is not None
    return set(yaml.safe_load(Path(spec.origin).with_name("cfg").joinpath("default.yaml").read_text(encoding="utf-8")))


def _said(model: str, run: dict[str, Any]) -> str:
    """A run in a line, when it is done."""
    head = f"{model}, {run['mode']}, {run['repeat'] + 1}:"
    if "error" in run:
        return f"{head} failed: {run['error']}"
    figures = run["figures"]
    return f"{head} {figures['images_per_second']:.1f} img/s, {figures['epoch_seconds']:.2f} s an epoch"


def _show(record: dict[str, Any]) -> None:
    settings, images = record["settings"], record["data"]["train_images"]
    place = (
        record["hardware"]["cpu"] if record["device"] == "cpu" else record["hardware"]["gpus"][int(record["device"])]
    )
    for model, found in record["models"].items():
        print(
            f"\n{model}, {settings['imgsz']} px, batch {settings['batch']}, {settings['epochs']} epochs of {images:,} images, "
            f"{place}, {record['hardware']['cores']} cores, torch {record['software']['torch']}\n"
        )
        print(table(found) if "summary" in found else "no run")
        for run in found["runs"]:
            if "profile" in run.get("raw", {}):
                print("\n" + profile_table(run["raw"]["profile"]))
    for note in record["notes"]:
        print(f"\nnote: {note}")


if __name__ == "__main__":
    sys.exit(main())
