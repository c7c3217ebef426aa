"""The same mAP or better? Ultralytics' trainer and ours with several seeds each, by COCO's metric, with intervals.

    python scripts/bench_seeds.py --data data/bccd.yaml --seeds 0 1 2 3 4 --out seeds.json

Each seed of each trainer has a folder in `--work`, `ours-seed0`, `ultralytics-seed0`, ... What is there is not done
again: `scores.json` holds the metrics, and where only `done.json` and `run/weights/best.pt` and `last.pt` are, they are
evaluated. So a run can be stopped and gone on with, and what was trained elsewhere be put there. Both files hold their
settings, and those of others are refused; one without settings is taken as it is, and a note says so. `--report` trains
nothing. All weights are evaluated alike, in float32, by what `python -m yolo_cosine.val` does.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from bench.compare import WEIGHTS, compare, report
from bench.data import prepare
from bench.launch import ask
from bench.modes import MODES, Setting
from bench.runs import Bench, chosen_device, chosen_modes, made_folder, positive
from bench.standin import NOTE

from yolo_cosine.cli import check_output, run_command
from yolo_cosine.errors import TrainingFailed, UserError
from yolo_cosine.files import replace_file


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python scripts/bench_seeds.py", description=(__doc__ or "").partition("\n")[0])
    p.add_argument(
        "--data", default="data/bccd.yaml", help="what a configuration names as data (default: data/bccd.yaml)"
    )
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    p.add_argument("--model", default="yolo11n.yaml", help="default: yolo11n.yaml")
    p.add_argument("--imgsz", type=positive, default=320, help="pixels (default: 320)")
    p.add_argument(
        "--batch", type=positive, default=16, help="images in a step, each of which is an update (default: 16)"
    )
    p.add_argument("--epochs", type=positive, default=40, help="default: 40")
    p.add_argument(
        "--mode", default="best", help="how Ultralytics is run, of the table in bench/modes.py (default: best)"
    )
    p.add_argument("--device", default="auto", help="auto, cpu, or the number of a GPU (default: auto)")
    p.add_argument("--report", action="store_true", help="train and evaluate nothing, tell what is there")
    p.add_argument(
        "--work", type=Path, default=Path("runs/bench_seeds"), metavar="DIR", help="default: runs/bench_seeds"
    )
    p.add_argument("--out", type=Path, metavar="FILE", help="everything as JSON, written anew after each run")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 1 where a run failed, 2 for a mistake."""
    args = parser().parse_args(argv)
    return run_command(lambda: _compare(args))


def _compare(args: argparse.Namespace) -> int:
    check_output("--out", args.out)
    if any(seed < 0 for seed in args.seeds) or len(set(args.seeds)) < len(args.seeds):
        raise UserError(f"--seeds: {' '.join(map(str, args.seeds))}: write different numbers from 0 on")
    work, failed = args.work.resolve(), False
    scores: dict[str, dict[int, Any]] = {"ours": {}, "ultralytics": {}}
    setting = Setting("", args.model, args.imgsz, args.batch, args.batch, args.epochs, 0, "")
    if args.report:
        about = _about_in(args.out)
    else:
        about, bench, setting = _prepare(args, work, setting)
    about["notes"] = list(dict.fromkeys([*about.get("notes", []), *_check_folders(args, work, setting)]))
    for seed in args.seeds:
        for trainer, mode in (("ours", "ours"), ("ultralytics", args.mode)):
            folder = work / f"{trainer}-seed{seed}"
            known = folder / "scores.json"
            if not known.exists() and not args.report:
                try:
                    _measure(bench, replace(setting, seed=seed), mode, folder)
                except TrainingFailed as error:
                    print(f"{folder.name}: failed: {error}", file=sys.stderr, flush=True)
                    failed = True
            if known.exists():
                scores[trainer][seed] = _read(known)
        _save(args.out, about, args, scores)
    if not any(scores.values()):
        raise UserError(f"--work: {work}: has no scores of these seeds; train without --report")
    print(report(scores, compare(scores)))
    for note in about["notes"]:
        print(f"\nnote: {note}")
    return int(failed)


def _prepare(args: argparse.Namespace, work: Path, setting: Setting) -> tuple[dict[str, Any], Bench, Setting]:
    machine = ask("bench.machine")
    device = chosen_device(args.device, machine["hardware"]["gpus"])
    there = chosen_modes(None, "cpu" if device == "cpu" else "cuda")
    if args.mode not in there or MODES[args.mode].trainer != "ultralytics":
        raise UserError(f"--mode: {args.mode!r} is no mode of Ultralytics on this device; write defaults or best")
    made_folder(work)
    data = prepare(args.data, None, work)
    about = {
        "hardware": machine["hardware"], "software": machine["software"], "data": data.about,
        "mode": MODES[args.mode].what, "notes": [] if machine["torchvision"] else [NOTE],
    }  # fmt: skip
    return about, Bench(work, not machine["torchvision"]), replace(setting, data=str(data.yaml), device=device)


def _about_in(out: Path | None) -> dict[str, Any]:
    """What a record tells of the machine and the data, which a report alone does not know, and must not lose."""
    record = {} if out is None or not out.exists() else _content(out)
    return {key: record[key] for key in ("hardware", "software", "data", "mode", "notes") if key in record}


def _settings(setting: Setting, mode: str) -> dict[str, Any]:
    """What scores depend on. The data is told by the name of its folder, which `prepare` makes from its content."""
    data, device = Path(setting.data).parent.name, setting.device_type
    return {**vars(setting), "data": data, "device": device, "mode": mode}


def _check_folders(args: argparse.Namespace, work: Path, setting: Setting) -> list[str]:
    """Refuse what was trained with other settings, before anything is; returns notes on what does not tell its own."""
    asked, notes = _settings(setting, ""), []
    if args.report:
        del asked["data"], asked["device"]  # whichever they were, they must be the same for all
    for seed in args.seeds:
        for trainer, mode in (("ours", "ours"), ("ultralytics", args.mode)):
            folder, own = work / f"{trainer}-seed{seed}", {"seed": seed, "mode": mode}
            file = next((path for path in (folder / "scores.json", folder / "done.json") if path.exists()), None)
            found = _content(file).get("settings") if file else {}
            if found is None:
                notes.append(f"{file} holds no settings; they are taken to be those asked for")
                continue
            other = [k for k, v in found.items() if v != (own[k] if k in own else asked.setdefault(k, v))]
            if other:
                held, wanted = (", ".join(f"{k}={of[k]}" for k in other) for of in (found, {**asked, **own}))
                raise UserError(f"--work: {folder}: holds a seed of {held}, not {wanted}; name another folder")
    return notes


def _measure(bench: Bench, setting: Setting, mode: str, folder: Path) -> None:
    """Train and evaluate what is not there yet, up to `scores.json` in `folder`."""
    done = folder / "done.json"
    weights = [folder / "run/weights" / f"{name}.pt" for name in WEIGHTS]
    if not all(path.exists() for path in (done, *weights)):
        print(f"{folder.name}: training", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        raw = bench.train(setting, mode, MODES[mode].options(setting.device_type) or {}, folder)
        about = {"seconds": raw["about"]["total_seconds"], **raw["about"]}
        _write(done, {"settings": _settings(setting, mode), **about})
    scores = bench.score([str(path) for path in weights], setting, folder / "score")
    kept = {key: value for key, value in _content(done).items() if key in ("settings", "seconds")}
    _write(folder / "scores.json", {**dict(zip(WEIGHTS, scores, strict=True)), **kept})


def _read(path: Path) -> dict[str, Any]:
    found = _content(path)
    try:
        for weights in WEIGHTS:
            float(found[weights]["metrics/mAP50-95"]), float(found[weights]["metrics/mAP50"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is no file of scores ({error!r}); delete it, and they are computed anew") from None
    return found


def _content(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path}: is no JSON of this benchmark; delete it, and it is made anew")
    return found


def _save(out: Path | None, about: dict[str, Any], args: argparse.Namespace, scores: dict[str, dict[int, Any]]) -> None:
    if out is None:
        return
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    if args.report:
        del settings["data"], settings["device"]  # nothing was read or trained; `data` tells what was
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    record = {
        "benchmark": "bench_seeds", "created": now, **about, "settings": settings, "scores": scores,
        "comparison": compare(scores),
    }  # fmt: skip
    _write(out, record)


def _write(path: Path, content: dict[str, Any]) -> None:
    replace_file(path, [(json.dumps(content, indent=1) + "\n").encode()])


if __name__ == "__main__":
    sys.exit(main())
