"""`yolo-cosine X`: the entry points under one command, and how all of them end."""

from __future__ import annotations

import importlib
import io
import os
import sys
import time
from collections.abc import Callable, Sequence

from yolo_cosine.errors import Interrupted, TrainingFailed, UserError

COMMANDS = {
    "train": "train a detector from a YAML file",
    "ablate": "compare variants over seeds: differences with intervals, a verdict, a report",
    "val": "evaluate a checkpoint by the COCO metrics",
    "preview": "look at a schedule before training",
    "find_lr": "the learning-rate range test",
    "dataset": "fetch public data sets, check and convert your own",
}
_QUIET = 0.5  # seconds: torchrun ends all others with the first that ends, also the one that is about to speak


def run_command(work: Callable[[], int]) -> int:
    """Run an entry point; a user's mistake becomes a message and exit code 2, a failed run 1, an interrupt 130, SIGTERM
    in a run 143, a closed pipe 141."""
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold what no encoding has
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return work()
    except (UserError, TrainingFailed) as error:
        if _is_mine_to_say(str(error)):
            for line in str(error).splitlines():
                print(f"error: {line}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except BrokenPipeError:  # whoever reads has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Interrupted as stop:
        if str(stop):  # one of several processes speaks for all
            print(stop, file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _is_mine_to_say(text: str) -> bool:
    """Whether this process is to say it: of several that find the same the first does, and one may speak for the others."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return True
    from yolo_cosine.engine.launch import is_first_to_say  # only now: torch takes seconds to import

    if text and is_first_to_say(text):
        return True
    time.sleep(_QUIET)
    return False


def check_output(option: str, path: str | os.PathLike | None) -> None:
    """Find that a file cannot be written before the work is done, not after.

    Args:
        option: what named it on the command line.
        path: None for no file.

    Raises:
        UserError: naming option, file, rule and remedy.
    """
    if path is None:
        return
    if os.path.isdir(path or "."):
        raise UserError(f"{option}: {path}: is a folder; name a file")
    folder = os.path.dirname(os.path.abspath(path))
    if not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        raise UserError(f"{option}: {path}: its folder is not there or cannot be written; name another")


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the arguments on to the command that the first one names."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help"}:
        print("usage: yolo-cosine COMMAND ...\n")
        for name, what in COMMANDS.items():
            print(f"  {name:10}{what}")
        print("\n`yolo-cosine COMMAND --help` tells more.")
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        print(f"error: {arguments[0]!r} is no command; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return importlib.import_module(f"yolo_cosine.{arguments[0]}").main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
