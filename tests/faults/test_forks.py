"""Kills hit the call that they are meant for, and signals the process."""

from __future__ import annotations

import signal

from tests.faults.forks import Trap


def test_a_trap_springs_before_its_call(lab):
    quiet, _ = lab.quiet()
    case = lab.case(quiet.keys)
    outcome = case.begin(trap=Trap("rename", "weights", 2))
    assert outcome.killed and outcome.code == -signal.SIGKILL and outcome.orphans == 0
    renamed = [call for call in outcome.calls if (call.kind, call.place) == ("rename", "weights")]
    assert len(renamed) == 2 and renamed[-1] == outcome.calls[-1]
    names = {path.name for path in (case.run_dir / "weights").iterdir()}
    assert names - {"best.pt", "last.pt"}  # the second file waits for its name


def test_a_late_trap_springs_in_the_call_or_after_it(lab):
    quiet, _ = lab.quiet()
    case = lab.case(quiet.keys)
    outcome = case.begin(trap=Trap("open", "checkpoints", 3, delay=0.001))
    assert outcome.killed and outcome.code == -signal.SIGALRM
    opened = [call for call in outcome.calls if (call.kind, call.place) == ("open", "checkpoints")]
    assert len(opened) >= 3


def test_a_command_that_ends_tells_how(lab):
    case = lab.case({"epochs": 0})
    outcome = case.begin()
    assert outcome.code == 2 and "error: " in outcome.output and "epochs" in outcome.output
    assert outcome.calls == () and case.run_dir is None


def test_the_quiet_run_has_what_faults_can_spoil(lab):
    """Best weights that are not the last, and gradients that wait for the next step."""
    quiet, ending = lab.quiet()
    best = [r["best"] for r in ending.record if r["event"] == "eval"]
    assert len(best) == 3 and not best[-1]  # the second is on most processors better than the first, but not on all
    assert ending.checkpoint["gradients"] is not None and ending.checkpoint["window"]
    assert len(ending.predictions) > 10 and any(r["event"] == "notice" for r in ending.record)
    assert len(quiet.checkpoints()) == 4  # three of the newest, and the best
