"""A stand-in for torchvision, for a process that runs Ultralytics' trainer where the real one cannot be imported.

The trainer and its validator import torchvision for one function, NMS. Ours takes its place: it gives the same boxes,
as tests show.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

NOTE = (
    "torchvision cannot be imported here; Ultralytics' process has a stand-in for it, whose NMS is yolo_cosine's "
    "(the same boxes)"
)
_MOST = 300  # Ultralytics' max_det, which cuts off what more the real one returns


def importable() -> bool:
    """Whether the real one can be imported."""
    try:
        import torchvision  # noqa: F401
        from torchvision.ops import nms  # noqa: F401
    except Exception:  # one that was built for another PyTorch raises what it likes
        return False
    return True


def install() -> None:
    """Put the stand-in where `import torchvision` finds it, in this process."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # what a failed import left behind
    package, ops = ModuleType("torchvision"), ModuleType("torchvision.ops")
    for module in (package, ops):
        module.__spec__ = ModuleSpec(module.__name__, None)
        sys.modules[module.__name__] = module
    package.__version__, package.__path__, package.ops, ops.nms = "0.0", [], ops, nms


def nms(boxes, scores, iou_threshold):
    """torchvision.ops.nms: (N, 4) xyxy and (N,) scores to the (K,) positions that stay, best first, at most 300."""
    from yolo_cosine.model.nms import greedy_nms

    order = scores.argsort(descending=True, stable=True)
    one_class = order.new_zeros(len(order))  # Ultralytics moves the boxes of each class apart
    return order[greedy_nms(boxes[order], one_class, iou_threshold, _MOST)]
