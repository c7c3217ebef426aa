"""Faults by the hundred against small runs: `python -m tests.faults.harness --kills 100 --damages 100 --seed 0`.

Every run must end as the one that nobody disturbed, bit for bit. The exit code is 1 if one does not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.faults import campaigns
from tests.faults.forks import ForkServer
from tests.faults.lab import Lab


def parser() -> argparse.ArgumentParser:
    """The command line. A number of 0 leaves a campaign out."""
    p = argparse.ArgumentParser(prog="python -m tests.faults.harness", description=__doc__.splitlines()[0])
    p.add_argument("--kills", type=int, default=100, metavar="N", help="processes to kill")
    p.add_argument("--damages", type=int, default=120, metavar="N", help="folders of checkpoints to damage")
    p.add_argument("--damaged-runs", type=int, default=12, metavar="N", help="damaged runs to go on with")
    p.add_argument("--disks", type=int, default=12, metavar="N", help="disks to fill")
    p.add_argument("--signals", type=int, default=14, metavar="N", help="runs to ask to stop")
    p.add_argument("--workers", type=int, default=1, metavar="N", help="comparisons of workers and caches")
    p.add_argument("--seed", type=int, default=0, help="of all that is random here")
    p.add_argument("--folder", type=Path, help="where to work, new; kept. By default a temporary one")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaigns, print their tables; returns the exit code."""
    args = parser().parse_args(argv)
    planned = {
        "kills": lambda lab, rng: campaigns.kills(lab, rng, args.kills),
        "damages": lambda lab, rng: campaigns.damages(lab, rng, args.damages),
        "damaged_runs": lambda lab, rng: campaigns.damaged_runs(lab, rng, args.damaged_runs),
        "disks": lambda lab, rng: campaigns.full_disks(lab, rng, args.disks),
        "signals": lambda lab, rng: campaigns.signals(lab, rng, args.signals),
        "workers": lambda lab, rng: campaigns.workers(lab),
    }
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch, ForkServer() as server:
        lab = Lab(server, args.folder or Path(scratch))
        good = True
        for name, campaign in planned.items():
            if not getattr(args, name):
                continue
            began = time.monotonic()
            tally = campaign(lab, Random(f"{args.seed} {name}"))
            print(f"{tally}\n  in {time.monotonic() - began:.0f} s\n", flush=True)
            good &= not tally.failures
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
