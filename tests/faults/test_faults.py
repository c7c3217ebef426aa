"""A short version of the fault campaigns (`python -m tests.faults.harness` is the long one): kills, damage, a full
disk, signals. Every run must end as the one that nobody disturbed, bit for bit."""

from __future__ import annotations

import signal
from random import Random

import pytest

from tests.faults import campaigns


def test_kills(lab):
    tally = campaigns.kills(lab, Random(0), 8, every=("1it",), per_run=8)
    assert not tally.failures, str(tally)
    assert tally.counts["kills in a call"] >= 3 and tally.counts["kills by the clock"] >= 3


def test_damaged_checkpoints_are_not_believed(lab):
    tally = campaigns.damages(lab, Random(0), 30)
    assert not tally.failures, str(tally)


def test_a_damaged_run_goes_on_from_the_checkpoint_before(lab):
    tally = campaigns.damaged_runs(lab, Random(0), 1)
    assert not tally.failures, str(tally)


def test_a_full_disk_gets_room_again(lab):
    for seed in range(5):  # on a fast machine a run may be over before its disk is full
        tally = campaigns.full_disks(lab, Random(seed), 1)
        assert not tally.failures, str(tally)
        if tally.counts["told that the disk is full"]:
            break
    assert tally.counts["told that the disk is full"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_run_that_goes_on_later(lab, number):
    tally = campaigns.signals(lab, Random(0), 1, kinds=(number,))
    assert not tally.failures, str(tally)
