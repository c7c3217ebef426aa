"""What listens to a run: console, TensorBoard and the record `metrics.jsonl`."""

from yolo_cosine.sinks.hub import SinkHub

__all__ = ["SinkHub"]
