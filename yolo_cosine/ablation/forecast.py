"""How long the runs of an ablation still take: the loop, played with a measured speed instead of trained."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Set

from yolo_cosine.ablation.plan import Key, PlannedRun

Seconds = Callable[[PlannedRun, int, int], float]  # that a run takes from a number of steps to another


def seconds_left(
    runs: Iterable[PlannedRun], places: int, seconds: Seconds, start: float, position: Mapping[Key, int],
    running: Set[Key] = frozenset(),
) -> float:  # fmt: skip
    """Seconds until the last of `runs` is at its end, where the next one always goes to a free place as in `run.Loop`.

    Simply dividing the work by the places is wrong where runs wait for the state that they begin from, and at the end,
    when fewer runs are left than places.

    Args:
        runs: those that have still to come to their end. A run that begins from one that is not among them can begin.
        places: runs at a time, 1 or more.
        seconds: what a stretch of a run takes.
        start: seconds between the beginning of a run and its first step.
        position: steps that a run has, for those that have begun.
        running: those that have a place now.
    """
    by_key = {run.key: run for run in runs}
    first = {key: position.get(key, run.shared) for key, run in by_key.items()}
    waiting: dict[Key, list[PlannedRun]] = defaultdict(list)  # by the run that they begin from
    ready: list[PlannedRun] = []
    for run in by_key.values():
        if run.key in running:
            continue
        owner, step = run.forks_from[0] if run.forks_from else (None, 0)
        if owner is None or owner not in by_key or run.key in position or position.get(owner, 0) >= step:
            ready.append(run)
        else:
            waiting[owner].append(run)

    urgency: dict[Key, float] = {}
    for run in reversed(list(by_key.values())):  # each comes after those that it begins from
        after = (seconds(run, first[run.key], max(c.shared, first[run.key])) + urgency[c.key] for c in waiting[run.key])
        urgency[run.key] = max(seconds(run, first[run.key], run.steps), *after, 0.0)
    order = {key: k for k, key in enumerate(by_key)}
    queue = [(-urgency[run.key], order[run.key]) for run in ready]
    heapq.heapify(queue)
    runs_in_order, now, free = list(by_key.values()), 0.0, places
    coming: list[tuple[float, bool, int]] = []  # when, whether a run is over (else one can begin), which

    def begin(run: PlannedRun, from_now: float) -> None:
        for child in waiting[run.key]:
            reached = max(child.shared, first[run.key])
            heapq.heappush(coming, (from_now + seconds(run, first[run.key], reached), False, order[child.key]))
        heapq.heappush(coming, (from_now + seconds(run, first[run.key], run.steps), True, order[run.key]))

    for key in running:
        if key in by_key:
            free -= 1
            begin(by_key[key], 0.0 if key in position else start)
    while queue or coming:
        while queue and free > 0:
            free -= 1
            begin(runs_in_order[heapq.heappop(queue)[1]], now + start)
        now, over, which = heapq.heappop(coming)
        if over:
            free += 1
        else:
            heapq.heappush(queue, (-urgency[runs_in_order[which].key], which))
    return now
