"""Campaigns of faults against small runs. Each ends with a tally: what was done, and in what the product fell short."""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.compare import Ending, Saved, differences, leftovers, record_differences, unequal
from tests.faults.damage import DAMAGES, copy_checkpoints, damage_and_look
from tests.faults.disks import MB, Disk, Filling, small_disk
from tests.faults.forks import Outcome, Process, Trap
from tests.faults.lab import Lab, Tally
from tests.faults.runs import STEPS, Case, Kill, Moment, last_line, seconds_to_build, until_the_end
from yolo_cosine.engine.checkpoint import load_checkpoint

EVERY = ("1it", "2it", "1ep", "0.2s")  # intervals of checkpoints
_OF_A_DISK = re.compile(r": cannot be written: No space left|: can be written again")
_EXIT = {signal.SIGTERM: 143, signal.SIGINT: 130}


def kills(lab: Lab, rng: Random, number: int, every: tuple[str, ...] = EVERY, per_run: int = 6, **keys: Any) -> Tally:
    """End runs without a word, `number` times in all, by the clock and in calls in turn; each run goes on to its end."""
    tally = Tally("kills")
    while tally.counts["kills"] < number:
        interval = rng.choice(every)
        quiet, ending = lab.quiet(interval, **keys)
        case = lab.case(quiet.keys)
        most = min(rng.randint(1, per_run), number - tally.counts["kills"])
        done = tally.counts["kills"]

        def draw(case: Case, quiet: Case = quiet, most: int = most, done: int = done) -> Kill | None:
            so_far = sum(outcome.killed for outcome in case.outcomes)
            if so_far == most:
                return None
            return _draw_kill(rng, case, quiet.outcomes[0], by_clock=(done + so_far) % 2 == 0)

        story = until_the_end(case, draw)
        complaints = story.complaints
        if not complaints:
            saved: Saved = "best" if interval.endswith("s") else "all"
            complaints = differences(Ending.read(case.run_dir), ending, saved)
        for phase, kill in story.kills:
            tally.counts["kills"] += 1
            tally.counts[f"kills in {phase}"] += 1
            tally.counts["kills in a call" if kill.trap else "kills by the clock"] += 1
        tally.counts["resumes"] += story.resumes
        tally.counts["restarts from scratch"] += story.restarts
        tally.counts["files left over"] += len(leftovers(case.run_dir, quiet.run_dir)) if case.run_dir else 0
        tally.counts["runs"] += 1
        how = ", ".join(f"{phase} ({_shown(kill)})" for phase, kill in story.kills)
        tally.judge(f"{case.folder.name}, saved every {interval}, killed in {how}", complaints)
        lab.clear(case, complaints)
    return tally


def _draw_kill(rng: Random, case: Case, quiet: Outcome, by_clock: bool) -> Kill:
    left = 1 - case.step / STEPS  # of the run
    if by_clock:
        built = seconds_to_build(quiet)
        # the machine may be faster or slower by now
        latest = next(filter(None, map(seconds_to_build, reversed(case.outcomes))), built)
        pace = latest / built
        return Kill(seconds=pace * rng.uniform(0, built + left * (quiet.seconds - built)))
    calls = Counter((call.kind, call.place) for call in quiet.calls)
    kind, place = rng.choice(sorted(calls))
    number = rng.randint(1, max(round(left * calls[kind, place]), 1))
    return Kill(trap=Trap(kind, place, number, rng.choice([0.0, rng.uniform(0.001, 0.03)])))


def _shown(kill: Kill) -> str:
    if kill.trap is None:
        return f"after {kill.seconds:.2f} s"
    later = f", {1000 * kill.trap.delay:.0f} ms later" if kill.trap.delay else ""
    return f"{kill.trap.kind} no. {kill.trap.number} in {kill.trap.place}{later}"


def damages(lab: Lab, rng: Random, number: int) -> Tally:
    """Damage the newest checkpoints of a folder, one or two of them, and look for the newest whole one."""
    tally = Tally("damaged checkpoints")
    quiet, _ = lab.quiet()
    source = quiet.run_dir / "checkpoints"
    truth = {path.name: load_checkpoint(path) for path in quiet.checkpoints()}
    names = list(DAMAGES)
    for k in range(number):
        chosen = [names[k % len(names)]]
        if rng.random() < 0.3 and not chosen[0].startswith(("swap", "temporary")):
            chosen.append(rng.choice([name for name in names if not name.startswith("temporary")]))
        folder = lab.folder / f"damage-{k:03}"
        copy_checkpoints(source, folder)
        belief = damage_and_look(rng, folder, chosen, truth)
        tally.counts["damages"] += len(chosen)
        tally.counts["bits of a sidecar that mean nothing"] += belief.harmless
        tally.judge(f"{folder.name}, {' and '.join(chosen)}", belief.complaints)
        if not belief.complaints:
            shutil.rmtree(folder)
    return tally


def damaged_runs(lab: Lab, rng: Random, number: int) -> Tally:
    """Kill a run, damage its newest checkpoint or tear the ends of its logs, and go on with it."""
    tally = Tally("damaged runs")
    quiet, ending = lab.quiet()
    names = [name for name in DAMAGES if name != "flip .json"]
    renames = sum((call.kind, call.place) == ("rename", "checkpoints") for call in quiet.outcomes[0].calls)
    while tally.counts["resumes"] < number:
        case = lab.case(quiet.keys)
        # so late that three checkpoints are there, and so early that there is something left to do
        case.begin(trap=Trap("rename", "checkpoints", rng.randint(4 * renames // STEPS, renames - 1)))
        checkpoints = case.checkpoints()
        name = rng.choice(names)
        damaged = DAMAGES[name](rng, checkpoints)
        _tear(case.run_dir)
        outcome = case.resume()
        complaints = []
        if outcome.code:
            complaints.append(f"exit code {outcome.code}: {last_line(outcome)}")
        else:
            complaints = differences(Ending.read(case.run_dir), ending)
        complaints += [
            f"no warning names {path.name}"
            for path in damaged
            if not re.search(rf"^warning: .*{path.stem}", outcome.output, re.M)
        ]
        tally.counts["resumes"] += 1
        tally.judge(f"{case.folder.name}, {name} at step {case.step}", complaints)
        lab.clear(case, complaints)
    return tally


def _tear(run_dir: Path) -> None:
    """Give the logs the half of a last line, as a power cut leaves it."""
    with open(run_dir / "metrics.jsonl", "ab") as file:
        file.write(b'{"event": "step", "step": 1')
    for path in run_dir.glob("tensorboard/events*"):
        with open(path, "ab") as file:
            file.write(path.read_bytes()[:19])


def full_disks(lab: Lab, rng: Random, number: int) -> Tally:
    """Fill a run's disk at a random moment, and release it again: in time, or only after the run has ended."""
    tally = Tally("full disks")
    quiet, ending = lab.quiet()
    size = quiet.checkpoints()[0].stat().st_size
    for k in range(number):
        with ExitStack() as stack:
            folder = (
                lab.folder / f"disk-{len(list(lab.folder.glob('disk-*'))):02}"
            )  # there may have been campaigns before
            disk = small_disk(folder, 12 * size + 50 * MB, stack)
            case = lab.case(quiet.keys, disk.folder)
            before = _earlier_run(case, quiet)
            filling = _draw_filling(rng, disk, size, case, k)
            tally.counts[type(disk).__name__] += 1
            complaints = _fill_and_go_on(case, filling, ending, tally)
            if _hashes(case.folder / "runs/earlier") != before:
                complaints.append("an earlier run was changed")
            tally.judge(f"{case.logs.parent.name}, {filling}", complaints)
    return tally


def _draw_filling(rng: Random, disk: Disk, size: int, case: Case, k: int) -> Filling:
    """Full for a while, full from a moment to the end, full from the start: in turn, with several levels of full.

    Args:
        size: of a checkpoint, bytes.
    """
    leave = (0, MB // 16, size // 2, 3 * size // 2)[(k + k // 4) % 4]
    moment = None if k % 4 == 3 else Moment(case, rng.randrange(STEPS - 5), rng.random())
    steps = None if k % 2 else rng.uniform(2.0, 4.0)
    return Filling(disk, leave, moment, steps, greedy=k % 3 != 2)


def _last_step_at(case: Case) -> float:
    """When the run told of its last step, seconds since 1970; 0 where it never did."""
    return max((r["time"] for r in case.records("step") if r["step"] == STEPS - 1), default=0.0)


def _fill_and_go_on(case: Case, filling: Filling, ending: Ending, tally: Tally) -> list[str]:
    saved = 0

    def disturb(process: Process) -> None:
        nonlocal saved
        filling(process)
        saved = case.step if filling.happened else 0

    outcome = case.begin(disturb=disturb)
    complaints = [] if "Traceback" not in outcome.output else ["a traceback"]
    if case.step < saved:
        complaints.append(f"the checkpoint after {saved} steps is gone; the newest is that after {case.step}")
    told = re.search(r"^(warning|error): .*(No space|[Ff]ull|room|large)", outcome.output, re.M)
    tally.counts["told that the disk is full"] += bool(told)
    if not told and len(case.records("saved")) < sum(r["event"] == "saved" for r in ending.record):
        complaints.append(f"no warning that the disk is full: {last_line(outcome)}")
    if outcome.code == 0:
        tally.counts["went on to the end"] += 1
        if case.step < STEPS:
            complaints.append(
                f"exit code 0, and the end was not saved: the newest checkpoint is that after {case.step}"
            )
    else:
        tally.counts["ended with an error"] += 1
        # how long a step takes is no exact science: in time is before the run's last step
        if filling.released is not None and filling.released < _last_step_at(case):
            complaints.append(
                f"room was made in time, and it ended with exit code {outcome.code}: {last_line(outcome)}"
            )
        if outcome.code < 0 or not re.search(r"^error: ", outcome.output, re.M):
            complaints.append(f"exit code {outcome.code} without a clear message: {last_line(outcome)}")
    filling.disk.release(None)
    if outcome.code != 0 or filling.steps is None:  # a finished run writes what it had no room for
        complaints += until_the_end(case).complaints
    if case.run_dir is None:
        return [*complaints, "there is no run in the end"]
    return complaints + differences(_without_repeats(Ending.read(case.run_dir)), ending, "once")


def _without_repeats(ending: Ending) -> Ending:
    """With each notice of the disk once: it may be full more than once."""
    if not ending.unreadable:
        told: set[str] = set()
        kept = []
        for record in ending.record:
            text = record.get("text", "")
            if text not in told:
                kept.append(record)
            if record["event"] == "notice" and _OF_A_DISK.search(text):
                told.add(text)
        ending.record[:] = kept
    return ending


def _earlier_run(case: Case, quiet: Case) -> dict[str, str]:
    """Another run on the same disk, and what is in its files."""
    earlier = case.folder / "runs/earlier"
    ignored = shutil.ignore_patterns("step-*[0-8].*", "plots")
    shutil.copytree(quiet.run_dir, earlier, ignore=ignored)
    return _hashes(earlier)


def _hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def signals(lab: Lab, rng: Random, number: int, kinds: tuple[signal.Signals, ...] = tuple(_EXIT)) -> Tally:
    """Ask runs to stop, once or twice, at random moments, and go on with them. Some are asked while they are built."""
    tally = Tally("signals")
    quiet, ending = lab.quiet()
    for k in range(number):
        kind, twice, early = kinds[k % len(kinds)], k // len(kinds) % 2 == 1, k % 7 == 6
        case = lab.case(quiet.keys)
        outcome = case.begin(disturb=_ask(rng, case, quiet.outcomes[0], kind, twice, early))
        what = f"{kind.name}{' twice' * twice}{' while it is built' * early}"
        complaints = _stop_complaints(case, outcome, kind, twice, early)
        story = until_the_end(case)
        complaints += story.complaints or differences(Ending.read(case.run_dir), ending, "once")
        tally.counts[what] += 1
        tally.judge(f"{case.folder.name}, {what}", complaints)
        lab.clear(case, complaints)
    return tally


def _ask(
    rng: Random, case: Case, quiet: Outcome, kind: signal.Signals, twice: bool, early: bool
) -> Callable[[Process], None]:
    def disturb(process: Process) -> None:
        if early:
            process.wait(rng.uniform(0, seconds_to_build(quiet)))
        else:
            Moment(case, rng.randint(1, STEPS - 4), rng.random()).wait(process)
        process.send(kind)
        if twice and not process.wait(rng.uniform(0, 0.05)):
            process.send(kind)

    return disturb


def _stop_complaints(case: Case, outcome: Outcome, kind: signal.Signals, twice: bool, early: bool) -> list[str]:
    complaints = [] if "Traceback" not in outcome.output else ["a traceback"]
    if early and case.run_dir is None and outcome.code == -kind:  # before anything was there, the default is as good
        return complaints
    if outcome.code != _EXIT[kind]:
        complaints.append(f"exit code {outcome.code}, not {_EXIT[kind]}: {last_line(outcome)}")
    if early:
        return complaints
    taken = max((r["step"] for r in case.records("step")), default=-1) + 1
    if not case.step:
        complaints.append("there is no whole checkpoint")
    elif not twice and case.step != taken:
        complaints.append(f"{taken} steps were taken, and the newest checkpoint is that after {case.step}")
    if not twice and not re.search(rf"--resume \S*{re.escape(case.run_dir.name)}\b", outcome.output):
        complaints.append("the output does not say how to go on")
    return complaints


def workers(lab: Lab) -> Tally:
    """The same run with 1 and 3 workers, images in memory and on disk, is the same run."""
    tally = Tally("workers and cache")
    _, ending = lab.quiet(workers=1, cache="ram")
    for count, cache in ((3, "ram"), (1, "none"), (3, "none")):
        _, other = lab.quiet(workers=count, cache=cache)
        complaints = record_differences(other.record, ending.record)
        complaints += unequal(other.weights, ending.weights, "weights")
        tally.judge(f"{count} workers, cache {cache}", complaints)
    return tally
