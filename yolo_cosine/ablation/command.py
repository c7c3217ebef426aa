"""What `python -m yolo_cosine.ablate` does, step by step."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from yolo_cosine.ablation.collect import read_results
from yolo_cosine.ablation.compare import compare_runs
from yolo_cosine.ablation.estimate import measure
from yolo_cosine.ablation.executor import Executor, LocalExecutor
from yolo_cosine.ablation.folder import saved_ablation, saved_threads, take_folder
from yolo_cosine.ablation.overview import Overview
from yolo_cosine.ablation.plan import Key, Plan, make_plan
from yolo_cosine.ablation.plan_text import estimate_text, plan_text
from yolo_cosine.ablation.records import read_run
from yolo_cosine.ablation.results import AblationResults
from yolo_cosine.ablation.run import Loop
from yolo_cosine.ablation.spec import Ablation, load_ablation
from yolo_cosine.ablation.tensorboard_overview import write_overview
from yolo_cosine.ablation.verdict import decide
from yolo_cosine.config.load import parse_overrides
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.errors import Interrupted, UserError
from yolo_cosine.report.ablation_report import write_report


def plan_only(path: str, overrides: Sequence[str]) -> int:
    """Say what would be trained and what it would cost."""
    ablation = load_ablation(path, overrides)
    plan = _plan(ablation)
    print(plan_text(plan, ablation), flush=True)
    places, threads, gpus = _resources(ablation, plan)
    print("\n" + estimate_text(measure(plan, places, threads, gpus)))
    return 0


def train_all(path: str, overrides: Sequence[str]) -> int:
    """Train what is not trained yet, and report."""
    ablation = load_ablation(path, overrides)
    plan = _plan(ablation)
    places, threads, gpus = _resources(ablation, plan)
    ablation = ablation.with_threads(threads)
    lock = take_folder(ablation, plan)
    try:
        finished = _finished(ablation, plan)
        executor = _executor(ablation, places, gpus)
        overview = Overview(plan, ablation.metric, executor.places, finished, select=ablation.select)
        with _asked_to_stop() as asked:
            loop = Loop(plan, executor, overview, threads, set(finished), lambda: bool(asked))
            try:
                loop.train()
            finally:
                overview.close()
        results = read_results(ablation.folder, ablation)
        _report(results)
    finally:
        lock.release()
    if asked:
        raise Interrupted(
            asked[0],
            f"stopped; every run is saved. The same command goes on:\n  python -m yolo_cosine.ablate --cfg {path}",
        )
    return 1 if loop.failed else 0


def report_anew(folder: str, overrides: Sequence[str]) -> int:
    """Make the report of an ablation from its records."""
    ablation = saved_ablation(folder, overrides)
    _report(read_results(Path(folder), ablation))
    return 0


def compare(run_dirs: Sequence[str], overrides: Sequence[str], out: str | None) -> int:
    """Compare single runs."""
    given = parse_overrides(overrides)
    known = {"baseline", "metric", "select", "confidence", "marked"}
    unknown = sorted(set(given) - known)
    if unknown:
        raise UserError(f"--compare: {unknown[0]}: there is no such key; the keys are {', '.join(sorted(known))}")
    folder = Path(out or "runs/comparison")
    _report(compare_runs([Path(r) for r in run_dirs], folder=folder, **given))
    return 0


def _report(results: AblationResults) -> None:
    verdict = decide(results)
    results.folder.mkdir(parents=True, exist_ok=True)
    files = write_report(results.folder, results, verdict)
    write_overview(results)
    print("\n" + "\n".join((verdict.headline, *(f"  {s}" for s in verdict.sentences))))
    for file in files:
        print(f"{file.suffix.lstrip('.'):5} {file}")


def _plan(ablation: Ablation) -> Plan:
    from yolo_cosine.data.dataset import open_dataset

    names = dict.fromkeys(config.data for config in ablation.configs.values())
    return make_plan(ablation, {name: len(open_dataset(name).splits["train"]) for name in names}, _is_end_to_end)


def _is_end_to_end(config: RunConfig) -> bool:
    from yolo_cosine.model import detector

    return detector.is_end_to_end(detector.build_detector(config.model, ("object",)))


def _resources(ablation: Ablation, plan: Plan) -> tuple[int, int, tuple[str, ...]]:
    """Runs at a time, threads of each, and the GPUs that they take in turn."""
    import torch

    wanted = {str(config.device) for config in ablation.configs.values()}
    on_gpu = torch.cuda.is_available() and not wanted <= {"cpu"}
    gpus: tuple[str, ...] = ()
    if on_gpu and wanted <= {"auto", "cuda"}:
        listed = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = tuple(listed.split(",")) if listed else tuple(str(k) for k in range(torch.cuda.device_count()))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    keys = ablation.keys
    places = keys.parallel if keys.parallel != "auto" else (len(gpus) or 1) if on_gpu else cores
    places = max(1, min(places, len(plan.runs)))
    threads = saved_threads(ablation.folder) if keys.threads == "auto" else keys.threads
    return places, threads or max(1, cores // places), gpus


def _executor(ablation: Ablation, places: int, gpus: tuple[str, ...]) -> Executor:
    if ablation.keys.executor == "ray":
        from yolo_cosine.ablation.ray_executor import RayExecutor

        return RayExecutor(os.environ.get("RAY_ADDRESS"), None if ablation.keys.parallel == "auto" else places)
    return LocalExecutor(places, gpus)


def _finished(ablation: Ablation, plan: Plan) -> dict[Key, float]:
    """The runs that have come to their end, with what counts of them."""
    done = {}
    for run in plan.runs:
        result = read_run(run.folder, run.variant, run.seed, ablation.select)
        if result.state in {"finished", "stopped early"}:
            done[run.key] = result.value(ablation.metric)
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
