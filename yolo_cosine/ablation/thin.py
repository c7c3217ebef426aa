"""Curves of many points as curves of few."""

from __future__ import annotations

import heapq
from itertools import pairwise

import numpy as np


def thinned(x: np.ndarray, y: np.ndarray, most: int = 2000, tolerance: float = 1e-5) -> np.ndarray:
    """(K,) int64, ascending: the points of a curve that are enough to draw it by straight lines.

    It begins with the two ends, and with both sides of each gap (where `x` does not go on by 1). Then the point that is
    farthest from the lines so far is added, again and again, until none is farther than `tolerance` of the curve's height,
    or `most` are there. So the two points of a jump and the first and last of a constant stretch are among them (Ramer,
    Douglas and Peucker's way, with vertical distances and the worst first).

    Args:
        x: (N,) float64, ascending.
        y: (N,) float64, finite.
        most: at least 2. Of more gaps than would fit, some are bridged.
    """
    n = len(x)
    if n <= 2:
        return np.arange(n)
    enough = tolerance * float(np.ptp(y))
    gaps = np.flatnonzero(np.diff(x) > 1)[: (most - 2) // 2]
    edges = np.unique(np.concatenate(([0], gaps, gaps + 1, [n - 1])))
    kept = list(edges)
    # the segments, as (-distance, its point, first, last)
    heap = [_farthest(x, y, a, b) for a, b in pairwise(edges)]
    heapq.heapify(heap)
    while heap and len(kept) < most and -heap[0][0] > enough:
        _, point, first, last = heapq.heappop(heap)
        kept.append(point)
        heapq.heappush(heap, _farthest(x, y, first, point))
        heapq.heappush(heap, _farthest(x, y, point, last))
    return np.sort(np.array(kept, dtype=np.int64))


def _farthest(x: np.ndarray, y: np.ndarray, first: int, last: int) -> tuple[float, int, int, int]:
    if last - first < 2:
        return 0.0, first, first, last
    inside = slice(first + 1, last)
    line = y[first] + (y[last] - y[first]) * ((x[inside] - x[first]) / (x[last] - x[first]))
    distance = np.abs(y[inside] - line)
    k = int(np.argmax(distance))
    return -float(distance[k]), first + 1 + k, first, last
