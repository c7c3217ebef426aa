"""What happened to a run that a comparison must know of, in short words."""

from __future__ import annotations

from collections.abc import Sequence

from yolo_cosine.sinks.jsonl import Record

# Parts of warnings that say that the run is not what it would have been. They are those of a run that goes on elsewhere.
_ANOTHER = ("not bit for bit", "the data is not that of the run before")


def incidents(records: Sequence[Record]) -> tuple[str, ...]:
    """What befell a run and touched its numbers, in the order of its steps.

    A full disk, a sink that was switched off and a thread that was replaced are left out: they change no number.
    """
    said: list[str] = []
    left_out: list[int] = []  # steps whose update was
    for record in records:
        step = record.get("at", record["step"])
        match record["event"], record.get("kind"):
            case "incident", "nonfinite":
                left_out.append(step)
            case "incident", "memory":
                said.append(f"step {step}: memory ran out in an evaluation; fewer images at a time from there on")
            case "incident", kind if kind not in {"disk", "sink", "worker", "rewind"}:
                said.append(f"step {step}: {_short(record['text'])}")
            case "rewind", kind:
                said.append(_went_back(record, kind))
            case "replan", _:
                said.append(f"step {step}: a time budget set its length to {record['epochs']} epochs")
            case "notice", _ if record["warning"] and any(words in record["text"] for words in _ANOTHER):
                said.append(_short(record["text"]))
    if left_out:
        count = f"{len(left_out)} updates were" if len(left_out) > 1 else "an update was"
        said.insert(0, f"step {left_out[0]}: {count} left out, for a loss or gradient that was no finite number")
    return tuple(dict.fromkeys(said))


def _went_back(record: Record, kind: str | None) -> str:
    back = f"step {record.get('from_step', record['step'])}: it went back to step {record['step']}"
    if kind == "memory":
        return f"{back}, for memory ran out; a batch is computed in more parts from there on"
    return f"{back}, for losses or gradients that were no finite numbers, with lower learning rates from there on"


def _short(text: str, most: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."
