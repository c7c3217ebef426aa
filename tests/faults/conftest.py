from __future__ import annotations

import sys

import pytest


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Small runs, forked; the quiet one is made when a test asks for it. A tiny network saves most of the time."""
    if sys.platform != "linux":
        pytest.skip("needs /proc")
    from tests.faults.forks import ForkServer
    from tests.faults.lab import Lab

    with ForkServer() as server:
        yield Lab(server, tmp_path_factory.mktemp("faults"), tiny=True, plots=False)
