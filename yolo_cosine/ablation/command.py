"""What `python -m yolo_cosine.ablate` does, step by step."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from yolo_cosine.ablation.collect import read_results
from yolo_cosine.ablation.estimate import measure
from yolo_cosine.ablation.executor import Executor, LocalExecutor
from yolo_cosine.ablation.folder import saved_ablation, take_folder
from yolo_cosine.ablation.overview import Overview
from yolo_cosine.ablation.places import shared_images
from yolo_cosine.ablation.plan import Key, Plan, make_plan
from yolo_cosine.ablation.plan_text import estimate_text, plan_text
from yolo_cosine.ablation.resources import Resources, find_resources
from yolo_cosine.ablation.results import AblationResults
from yolo_cosine.ablation.run import Loop
from yolo_cosine.ablation.spec import Ablation, load_ablation
from yolo_cosine.ablation.tensorboard_overview import write_overview
from yolo_cosine.ablation.verdict import decide
from yolo_cosine.config.load import parse_overrides
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.errors import Interrupted, UserError
from yolo_cosine.files import IMAGE_INTERVALS
from yolo_cosine.report.ablation_report import write_report


def plan_only(path: str, overrides: Sequence[str]) -> int:
    """Say what would be trained and what it would cost."""
    ablation = load_ablation(path, overrides)
    plan = _plan(ablation)
    print(plan_text(plan, ablation), flush=True)
    found = find_resources(ablation, plan)
    print("\n" + estimate_text(measure(plan, found.places, found.threads, found.gpus)))
    return 0


def train_all(path: str, overrides: Sequence[str]) -> int:
    """Train what is not trained yet, and report."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(
            "torchrun: an ablation starts the processes of its runs itself; start it without, or write executor: ray"
        )
    ablation = load_ablation(path, overrides)
    plan = _plan(ablation)
    resources = find_resources(ablation, plan)
    ablation = ablation.with_threads(resources.threads)
    lock = take_folder(ablation, plan)
    try:
        so_far = read_results(ablation.folder, ablation)
        write_overview(so_far)  # so that a TensorBoard can be opened from the start
        finished = _finished(so_far)
        executor = _executor(ablation, resources)
        overview = Overview(plan, ablation.metric, executor.places, finished, select=ablation.select)
        with _asked_to_stop() as asked:
            loop = Loop(plan, executor, overview, resources.threads, set(finished), lambda: bool(asked))
            try:
                loop.train()
            finally:
                overview.close()
        _report(read_results(ablation.folder, ablation), in_words=not asked)
    finally:
        lock.release()
    if asked:
        same = shlex.join(["--cfg", path, *overrides])
        text = f"stopped; every run is saved. The same command goes on:\n  python -m yolo_cosine.ablate {same}"
        raise Interrupted(asked[0], text)
    return 1 if loop.failed or loop.interrupted else 0


def report_anew(folder: str, overrides: Sequence[str]) -> int:
    """Make the report of an ablation from its records."""
    ablation = saved_ablation(folder, overrides)
    _report(read_results(Path(folder), ablation))
    return 0


def compare(run_dirs: Sequence[str], overrides: Sequence[str], out: str | None) -> int:
    """Compare single runs."""
    from yolo_cosine.ablation.compare import compare_runs

    given = parse_overrides(overrides)
    known = {"baseline", "metric", "select", "confidence", "marked"}
    unknown = sorted(set(given) - known)
    if unknown:
        raise UserError(f"--compare: {unknown[0]}: there is no such key; the keys are {', '.join(sorted(known))}")
    folder = Path(out or "runs/comparison")
    _check_own(folder)
    _report(compare_runs([Path(r) for r in run_dirs], folder=folder, **given))
    return 0


def _report(results: AblationResults, in_words: bool = True) -> None:
    """Write the report, and say the verdict.

    Raises:
        UserError: if the report cannot be written.
    """
    verdict = decide(results)
    try:
        files = write_report(results.folder, results, verdict)
        write_overview(results)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{results.folder}: the report cannot be written: {reason}; the runs are whole: make room, and write "
            f"--report {results.folder}"
        ) from None
    if in_words:
        print("\n" + "\n".join((verdict.headline, *(f"  {s}" for s in verdict.sentences))) + "\n")
    for kind, file in zip(("report", "", "table"), files, strict=True):
        print(f"{kind:7} {file}")
    print(f"curves  tensorboard --logdir {results.folder} --host localhost")


def _check_own(folder: Path) -> None:
    """Refuse to write a comparison, with a TensorBoard log of its own, over what is none.

    Raises:
        UserError: if that would be so.
    """
    others = ("config.yaml", "metrics.jsonl", "ablation.yaml")  # of a run, of an ablation
    earlier = (folder / "report.md").is_file() and not any((folder / name).exists() for name in others)
    if folder.exists() and not earlier and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"--out: {folder} is there already and is no comparison's; name another folder")


def _plan(ablation: Ablation) -> Plan:
    from yolo_cosine.data.dataset import open_dataset

    folders = {config.data: shared_images(ablation.folder, config.cache_dir) for config in ablation.configs.values()}
    images = {name: len(open_dataset(name, folder=folder).splits["train"]) for name, folder in folders.items()}
    return make_plan(ablation, images, _is_end_to_end)


def _is_end_to_end(config: RunConfig) -> bool:
    return _has_end_to_end_head(config.model)


@lru_cache
def _has_end_to_end_head(model: str) -> bool:
    from yolo_cosine.model import detector

    return detector.is_end_to_end(detector.build_detector(model, ("object",)))


def _executor(ablation: Ablation, resources: Resources) -> Executor:
    if ablation.keys.executor == "ray":
        from yolo_cosine.ablation.ray_executor import RayExecutor

        # by default as many at a time as the cluster holds
        places = None if ablation.keys.parallel == "auto" else resources.places
        return RayExecutor(os.environ.get("RAY_ADDRESS"), places, resources.threads)
    return LocalExecutor(resources.places, resources.gpus)


def _finished(results: AblationResults) -> dict[Key, float]:
    """The runs that have come to their end, with what counts of them."""
    done = {}
    for run in results.runs:
        whole = run.state in {"finished", "stopped early"}
        # it comes after the last line of the record, and a run that was killed between the two makes it now
        derived = not run.config.get("image_resamples") or (run.run_dir / IMAGE_INTERVALS).is_file()
        if whole and derived:
            done[run.variant, run.seed] = run.value(results.metric)
    return done


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """A list that gets the number of a signal that asks to stop; the second one stops at once."""
    asked: list[int] = []

    def handle(number: int, frame: object) -> None:
        if asked:
            raise Interrupted(number, "stopped at once")
        asked.append(number)
        print("\nstopping: the runs save themselves", file=sys.stderr, flush=True)

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
