"""Learning rates as a chart of Braille dots, for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np

_WIDTH, _HEIGHT = 72, 14  # characters; a character is 2 x 4 dots
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # Unicode's bit of every dot
_COLOURS = (34, 33, 32, 35, 36, 31, 37)  # ANSI: one for each plan


def terminal_chart(plans: Sequence[tuple[str, Mapping[str, Sequence[float]]]], colour: bool | None = None) -> str:
    """Draw the lines of several plans over each other; the highest line of the first group sets the scale.

    Args:
        plans: (name, {groups: a value for every step}); lines of the other groups may leave the chart at the top.
        colour: ANSI colours; by default where standard output is a terminal.
    """
    colour = sys.stdout.isatty() if colour is None else colour
    steps = max(len(line) for _, lines in plans for line in lines.values())
    top = max(max(next(iter(lines.values()))) for _, lines in plans) or 1.0
    bits = np.zeros((_HEIGHT, _WIDTH), dtype=np.int64)
    owner = np.zeros((_HEIGHT, _WIDTH), dtype=np.int64)
    for k, (_, lines) in reversed(list(enumerate(plans))):
        for line in lines.values():
            _draw(np.asarray(line, dtype=np.float64) / top, steps, bits, owner, k)
    rows = []
    for r in range(_HEIGHT):
        label = {0: f"{top:.3g}", _HEIGHT - 1: "0"}.get(r, "")
        cells = [(chr(0x2800 + bits[r, c]), owner[r, c]) for c in range(_WIDTH)]
        row = "".join(f"\x1b[{_COLOURS[o % 7]}m{d}\x1b[0m" if colour and d != "\u2800" else d for d, o in cells)
        rows.append(f"{label:>9} |{row}".rstrip("\u2800 "))
    rows.append(f"{'':>9} +{'-' * _WIDTH}")
    rows.append(f"{'step':>9}  0{steps - 1:>{_WIDTH - 1}}")
    return "\n".join(rows)


def legend(names: Sequence[str], colour: bool | None = None) -> str:
    """Which colour is whose, a line for each plan; without colours the names alone."""
    colour = sys.stdout.isatty() if colour is None else colour
    return "\n".join(
        f"{'':>9}  " + (f"\x1b[{_COLOURS[k % 7]}m\u28ff\u28ff\x1b[0m {name}" if colour else name)
        for k, name in enumerate(names)
    )


def _draw(line: np.ndarray, steps: int, bits: np.ndarray, owner: np.ndarray, k: int) -> None:
    """Set the dots of a line, (N,) float64 with 1 for the top, joined where it is steep."""
    columns, height = _WIDTH * 2, _HEIGHT * 4
    before = None
    for x in range(columns):
        first, last = int(x * steps / columns), max(int((x + 1) * steps / columns), int(x * steps / columns) + 1)
        here = line[first:last]
        if not len(here):
            break
        low, high = (round((1 - v) * (height - 1)) for v in (here.max(), here.min()))
        if before is not None:
            low, high = min(low, before[1]), max(high, before[0])
        before = (round((1 - here[-1]) * (height - 1)),) * 2
        for y in range(max(low, 0), min(high, height - 1) + 1):
            bits[y // 4, x // 2] |= _DOTS[y % 4, x % 2]
            owner[y // 4, x // 2] = k
