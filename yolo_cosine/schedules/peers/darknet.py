"""darknet (AlexeyAB's: `get_current_rate` in `src/network.c`, defaults of `src/parser.c`): one rate for all, by update.

An image is counted before the weights are updated, so update `i` (0 first) has the rate of batch number `i + 1`, and a
run of `max_batches` updates ends with the rate of `max_batches`. The burn-in is `(batch / burn_in) ** power`; the
policy's clock runs during it and the same `power` is poly's, so most policies jump where it ends. darknet computes in
float32, this in float64.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from yolo_cosine.schedules.compose import Join, Shift
from yolo_cosine.schedules.curves import (
    Constant,
    Exponential,
    InvalidSchedule,
    MultiStep,
    Piecewise,
    Polynomial,
    Power,
    Schedule,
    Sigmoid,
    Step,
    Steps,
    kind,
    require,
)
from yolo_cosine.schedules.cycles import CosineRestarts
from yolo_cosine.schedules.native import NativeGroup, NativeSchedule, Run, native

POLICIES = ("constant", "steps", "step", "exp", "poly", "sigmoid", "sgdr", "random")


@dataclass(frozen=True)
class DarknetSchedule(NativeSchedule):
    """darknet's rate, and the parts into which it cuts a batch of a recurrent network."""

    sequential_subdivisions: Schedule | None = None


@kind("darknet-sgdr")
@dataclass(frozen=True)
class LateRestarts(CosineRestarts):
    """`cosine-restarts` whose cycles own their end: the step where one ends has the minimum, the next one is already a
    step into the cycle that follows. The peak is thus at step 0 only."""

    def cycle(self, step: float) -> int:
        """The number of the cycle that `step` is in, from 0."""
        i = super().cycle(step)
        return i - 1 if i and self.start_of(i) == step else i


@kind("darknet-random")
@dataclass(frozen=True)
class RandomPower:
    """`u ** power`, with a new `u`, even from 0 to 1, for every step. A pure function of (seed, step)."""

    power: float = 4.0
    seed: int = 0
    steps: Steps = 0

    def __call__(self, step: float) -> float:
        return random.Random(f"{self.seed}/{int(step)}").random() ** self.power


@native("darknet", *POLICIES)
def net(
    run: Run,
    *,
    schedule: str,
    policy: str | None = None,
    learning_rate: float | None = None,
    max_batches: int | None = None,
    burn_in: int = 0,
    power: float = 4.0,
    steps: Sequence[int] | str | None = None,
    scales: Sequence[float] | str | None = None,
    step: int = 1,
    scale: float = 1.0,
    gamma: float = 1.0,
    sgdr_cycle: int | None = None,
    sgdr_mult: int = 2,
    learning_rate_min: float = 1e-5,
    batch: int = 1,
    subdivisions: int = 1,
    sequential_subdivisions: int | None = None,
    seq_scales: Sequence[float] | str | None = None,
    seed: int = 0,
) -> NativeSchedule:
    """The keys of a cfg's `[net]` section. As in darknet, a policy leaves keys that are not its own alone.

    Lists may be written as in a cfg, "400000,450000". `learning_rate` and `max_batches` are by default the run's, else
    0.001 and 0. `batch` is accepted and not used, as the index counts batches. `seed` is not darknet's, which draws
    the rates of the policy `random` without one.
    """
    require(policy in (None, schedule), f"policy: {policy!r} is not the schedule {schedule!r}; leave it out")
    rate = (run.lr0s()[0] if run.get("lr0") is not None else 0.001) if learning_rate is None else learning_rate
    batches = int(run.get("total_iters", 0) if max_batches is None else max_batches)
    for name, value in (("learning_rate", rate), ("max_batches", batches), ("learning_rate_min", learning_rate_min)):
        require(0 <= value < math.inf, f"{name}: {value:g} is not a number from 0 on; write one")
    # the one policy with a rate beside learning_rate, whose multiple it is not where that is 0
    lr0, peak = (1.0, 0.0) if schedule == "sgdr" and rate == 0 else (rate, 1.0)

    notes: list[str] = []
    changes = _numbers("steps", steps)
    if schedule == "constant":
        curve: Schedule = Constant(1.0)
    elif schedule == "steps":
        curve = _steps(changes, _numbers("scales", scales), notes)
    elif schedule == "step":
        require(int(step) >= 1, f"step: {step} batches is no length; write at least 1")
        curve = Step(1.0, scale, int(step))
    elif schedule == "exp":
        curve = Exponential(1.0, gamma)
    elif schedule == "poly":
        curve = _poly(batches, power, notes)
    elif schedule == "sigmoid":
        curve = Sigmoid(1.0, gamma, int(step))
    elif schedule == "sgdr":
        curve = _sgdr(peak, learning_rate_min / lr0, int(batches if sgdr_cycle is None else sgdr_cycle), int(sgdr_mult))
    else:
        curve = RandomPower(power, seed)
        notes.append("random: darknet's own draws cannot be had again; these depend on the seed and the batch only")

    factor = _burnt_in(curve, int(burn_in), power, peak)
    if burn_in > 1 and ((schedule == "poly" and power) or abs(curve(burn_in) - peak) > 1e-9):
        notes.append(f"burn_in: the rate jumps at its end, as the policy has run since batch 0 (update {burn_in - 1})")
    if 0 < batches <= burn_in:
        notes.append(f"burn_in: {int(burn_in)} batches are not over when the run is, after {batches}")
    return DarknetSchedule(
        groups=tuple(NativeGroup(group.name, lr0) for group in run.groups()),
        factors=(factor,) * len(run.groups()),
        clock="update",
        length=batches or None,
        notes=tuple(notes),
        sequential_subdivisions=_subdivisions(
            int(subdivisions),
            sequential_subdivisions,
            changes if schedule in ("steps", "sgdr") else (),
            _numbers("seq_scales", seq_scales),
        ),
    )


def _burnt_in(curve: Schedule, burn_in: int, power: float, peak: float) -> Schedule:
    """The burn-in and then the policy, by update: both are asked for the batch number, one more."""
    if burn_in <= 1:  # batch 0 would be all of it
        return _entered(curve, 1)
    return Join((Shift(Power(0.0, peak, burn_in, power), 1), _entered(curve, burn_in)), (0, burn_in - 1))


def _entered(curve: Schedule, by: int) -> Schedule:
    return curve if isinstance(curve, Constant) else Shift(curve, by)


def _poly(batches: int, power: float, notes: list[str]) -> Schedule:
    require(batches > 0, "max_batches is missing, and poly ends there; write max_batches=...")
    require(power >= 0, f"power: {power:g} is below 0, where the rate grows beyond all bounds; write 0 or more")
    if power:
        past = ("rises again", "falls below 0")[int(power) % 2] if float(power).is_integer() else "has no value"
        notes.append(f"poly: past max_batches the power {power:g} {past}")
    return Polynomial(1.0, 0.0, batches, power, after="continue")


def _sgdr(peak: float, low: float, cycle: int, mult: int) -> Schedule:
    require(cycle >= 1, f"sgdr_cycle: {cycle} batches is no cycle; write at least 1 (by default it is max_batches)")
    require(mult >= 1, f"sgdr_mult: {mult} would shrink the cycles to nothing; write at least 1")
    return LateRestarts(peak, low, cycle, mult)


def _steps(steps: tuple[float, ...], scales: tuple[float, ...], notes: list[str]) -> Schedule:
    require(bool(steps and scales), "steps: the policy steps needs steps and scales; write both")
    require(
        len(scales) >= len(steps), f"scales: {len(scales)} for {len(steps)} steps; write one for each, or fewer steps"
    )
    if len(scales) > len(steps):
        notes.append(f"scales: the last {len(scales) - len(steps)} have no step and are not used")
    reached = _reached(steps)
    if reached != tuple(map(int, steps)):
        notes.append("steps: they are not in order; darknet does not look at one before all those to its left are over")
    used = scales[: len(steps)]
    return MultiStep(1.0, reached, used[0] if len(set(used)) == 1 else used)


def _reached(steps: tuple[float, ...]) -> tuple[int, ...]:
    """The batches at which steps count: the search stops at the first one that is still to come."""
    return tuple(accumulate(map(int, steps), max))


def _subdivisions(most: int, given: int | None, steps: tuple[float, ...], scales: tuple[float, ...]) -> Schedule | None:
    """Whole numbers from 1 to `most`, cut after every multiplication, by update."""
    if given is None and not scales:
        return None
    require(most >= 1, f"subdivisions: {most} is no number of parts; write at least 1")
    require(
        not scales or len(scales) >= len(steps),
        f"seq_scales: {len(scales)} for {len(steps)} steps; write one for each",
    )
    value = min(most if given is None else int(given), most)
    values = [value]
    for scale, _ in zip(scales, steps, strict=False):
        value = int(value * scale)
        values.append(value)
    kept = [min(most, max(1, value)) for value in values]
    boundaries = [step - 1 for step in _reached(steps)] if scales else []
    return Piecewise(tuple(kept), tuple(boundaries)) if boundaries else Constant(kept[0])


def _numbers(name: str, given: Sequence[float] | str | float | None) -> tuple[float, ...]:
    """A list, as Python or as a cfg writes it."""
    if given is None:
        return ()
    if isinstance(given, str):
        items: Sequence = given.split("#")[0].split(",")
    else:
        items = given if isinstance(given, Sequence) else (given,)
    try:
        return tuple(float(item) for item in items)
    except ValueError:
        raise InvalidSchedule(f"{name}: {given!r} is no list of numbers; write [..., ...]") from None
