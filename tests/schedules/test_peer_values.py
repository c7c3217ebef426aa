"""Values that the peers' own code applied, recorded by running it, against our schedules from the same arguments.

`peer_values/PEER.json` names the version and the file of the peer that was run. A case has the peer's own arguments
(`native`), what a run knows besides (`common`), and at some steps, among them both sides of the sharpest bends and the
end, the learning rate of every group, and momentum and accumulation where the peer schedules them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.presets import from_native, peers

FILES = sorted((Path(__file__).parent / "peer_values").glob("*.json"))
CASES = [(file.stem, case) for file in FILES for case in json.loads(file.read_text())["cases"]]


@pytest.mark.parametrize(("peer", "case"), CASES, ids=[case["id"] for _, case in CASES])
def test_every_recorded_value(peer, case):
    if not case["index"]:
        with pytest.raises(InvalidSchedule):
            from_native(peer, case["schedule"], case["native"], case["common"])
        return
    schedule = from_native(peer, case["schedule"], case["native"], case["common"])
    ours = {
        "lr": schedule.lr,
        "momentum": schedule.momentum,
        "accumulate": lambda index, group: schedule.accumulate(index),
    }
    for series, value in ours.items():
        for group, column in enumerate(case.get(series, ())):
            for index, expected in zip(case["index"], column, strict=True):
                if expected is not None:
                    got = value(index, group)
                    assert abs(got - expected) <= case["atol"] + case["rtol"] * abs(expected), (series, group, index)


def test_all_peers_are_there():
    assert {file.stem for file in FILES} <= set(peers())
    assert len(CASES) > 250
