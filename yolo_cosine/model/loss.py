"""The detection loss: CIoU, cross entropy of the classes, and DFL or L1, with regions to ignore.

Its values are those of Ultralytics' v8DetectionLoss and E2ELoss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from yolo_cosine.model.anchors import Grid, at, ciou, make_grid
from yolo_cosine.model.assign import Assigned, assign
from yolo_cosine.model.candidates import Dense, Pairs, Predictions

if TYPE_CHECKING:
    from yolo_cosine.data.targets import Targets

_TOPK = 10  # anchors that learn a box
_ONE_TO_ONE_TOPK = 7  # of which the best one does, in the branch without NMS
_FIRST_SHARE, _LAST_SHARE = 0.8, 0.1  # of the branch with NMS in the loss of an end-to-end head, over the epochs


class DetectionLoss:
    """The loss of a network, in float32 whatever the network ran in.

    An anchor whose centre lies in a crowd region and that has no object of its own adds nothing to the class loss: what
    the network says there can be neither right nor wrong. (Ultralytics, YOLOv5 and YOLOX train it as background.)

    An end-to-end head (YOLOv10, YOLO26) has two branches; the loss is their weighted sum.

    Args:
        model: whose head says what the outputs mean.
        box, cls, dfl: the weights of the three terms.
        epochs: over which the balance of the two branches of an end-to-end head shifts.
        static: whether shapes are independent of values and nothing is read back from the device; None: on everything
            but a CPU, where it is the slower way.
    """

    def __init__(
        self, model: nn.Module, *, box: float, cls: float, dfl: float, epochs: int, static: bool | None = None
    ) -> None:
        head = model.model[-1]
        self._gains = box, cls, dfl
        self._strides = tuple(float(s) for s in model.stride)
        self._bins = int(head.reg_max)  # of a distance's distribution; 1: the distance itself
        self._static = static
        self._end_to_end = getattr(head, "one2one_cv2", None) is not None
        self._shares = torch.tensor([_FIRST_SHARE, 1 - _FIRST_SHARE], device=next(model.parameters()).device)
        self.names = "box_loss", "cls_loss", "dfl_loss" if self._bins > 1 else "l1_loss"
        self.plan(epochs)

    def plan(self, epochs: int) -> None:
        """Let the balance of an end-to-end head's two branches shift over `epochs`."""
        self._epochs = epochs

    def start_epoch(self, epoch: int) -> None:
        """Set the balance of an end-to-end head's two branches, which is a function of the epoch."""
        left = max(1 - epoch / max(self._epochs - 1, 1), 0)
        share = left * (_FIRST_SHARE - _LAST_SHARE) + _LAST_SHARE
        self._shares[0].fill_(share)  # in place, for a compiled loss would be compiled anew with other constants
        self._shares[1].fill_(1 - share)

    def __call__(
        self,
        outputs: Mapping[str, Any],
        size: tuple[int, int],
        targets: Targets,
        *,
        images: int | None = None,
        total: Callable[[Tensor], Tensor] = lambda values: values,
    ) -> tuple[Tensor, Tensor]:
        """Loss of a batch, or of a process's share of one.

        Args:
            outputs: what `detector.Rows` returned.
            size: height and width of the images, pixels.
            targets: the boxes, on the outputs' device.
            images: number of images of the whole batch; None: these are all.
            total: adds a tensor up over all that have a share of the batch; called once.

        Returns:
            The sum to differentiate (a scalar, proportional to the number of images), which is this share's: the whole
            batch's is the sum over the shares. And (3,) float32 items per image, those of the whole batch, detached, named
            by `names`.
        """
        branches = self._branches(outputs)
        batch = len(branches[0]["scores"])
        grid = make_grid(tuple(size), self._strides, branches[0]["scores"].device)
        with torch.no_grad():
            assigned = self.assign(outputs, size, targets)
            ignored = _ignored(targets, grid) if targets.crowds.shape[1] else None
        terms = [self._terms(branch, grid, targets, a, ignored) for branch, a in zip(branches, assigned, strict=True)]
        with torch.no_grad():  # of each branch the normaliser and the terms, in one message
            own = [torch.cat((a.score.sum()[None], t)) for a, t in zip(assigned, terms, strict=True)]
            whole = total(torch.stack(own))
            normalisers, items = whole[:, 0].clamp(min=1), whole[-1, 1:]
        sums = torch.stack([(t / n).sum() for t, n in zip(terms, normalisers.unbind(), strict=True)])
        loss = (sums * self._shares).sum() if self._end_to_end else sums[0]
        return loss * (batch if images is None else images), items / normalisers[-1]

    @torch.no_grad()
    def assign(self, outputs: Mapping[str, Any], size: tuple[int, int], targets: Targets) -> list[Assigned]:
        """What the anchors of each branch learn; the arguments are those of the loss."""
        branches = self._branches(outputs)
        device = branches[0]["scores"].device
        grid = make_grid(tuple(size), self._strides, device)
        static = device.type != "cpu" if self._static is None else self._static
        candidates = Dense(targets, grid) if static else Pairs(targets, grid)
        rules = ((_TOPK, False), (_ONE_TO_ONE_TOPK, True))
        return [
            assign(candidates, self._predictions(branch, grid, candidates, targets), *rule)
            for branch, rule in zip(branches, rules, strict=False)
        ]

    def _branches(self, outputs: Mapping[str, Any]) -> list[Mapping[str, Tensor]]:
        return [outputs["one2many"], outputs["one2one"]] if self._end_to_end else [outputs]

    def _predictions(
        self, branch: Mapping[str, Tensor], grid: Grid, candidates: Dense | Pairs, targets: Targets
    ) -> Predictions:
        scores, rows = branch["scores"].detach(), branch["boxes"].detach().flatten(0, 1)
        boxes = targets.boxes.flatten(0, 1).T.contiguous()
        if candidates.static:
            points, stride = grid.points.repeat(1, len(scores)), grid.stride.repeat(len(scores))
            corners = _decode(_float32(rows), points, self._bins) * stride
        else:  # nobody asks for the others
            covered = candidates.covered
            place = covered % len(grid.stride)
            decoded = _decode(_float32(rows.index_select(0, covered)), at(grid.points, place), self._bins)
            corners = decoded.new_zeros(4, len(rows)).index_copy_(1, covered, decoded * at(grid.stride, place))
        return Predictions(scores, corners, boxes, targets.classes.flatten())

    def _terms(
        self, branch: Mapping[str, Tensor], grid: Grid, targets: Targets, assigned: Assigned, ignored: Tensor | None
    ) -> Tensor:
        """(3,) weighted sums over the anchors: CIoU, classes, DFL or L1."""
        anchor, box, score = assigned.anchor, assigned.box, assigned.score
        place = anchor % len(grid.stride)
        points, stride = at(grid.points, place), at(grid.stride, place)
        boxes = targets.boxes.flatten(0, 1).index_select(0, box).T / stride  # (4, S), in cells
        rows = _float32(branch["boxes"].flatten(0, 1).index_select(0, anchor))
        overlap = ciou(_decode(rows, points, self._bins), boxes)
        distances = torch.cat((points - boxes[:2], boxes[2:] - points))  # (4, S) to the left, top, right and bottom
        if self._bins > 1:
            shape = _dfl(rows, distances.T, self._bins)
        else:
            shape = (rows.T * stride / grid.extent - distances * stride / grid.extent).abs().mean(0)
        if ignored is not None:
            taught = score.new_zeros(ignored.numel()).scatter_reduce(0, anchor, score, "amax") > 0
            ignored = ignored & ~taught.view_as(ignored)
        classes = _ClassTerm.apply(branch["scores"], anchor, at(targets.classes.flatten(), box), score, ignored)
        terms = ((1 - overlap) * score).sum(), classes, (shape * score).sum()
        return torch.stack([term * gain for term, gain in zip(terms, self._gains, strict=True)])


def _float32(values: Tensor) -> Tensor:
    """Values in float32, or in float64 where they are."""
    # Boxes are assigned to anchors by overlaps; in bf16 a coordinate of 300 px is off by up to a pixel.
    return values if values.dtype == torch.float64 else values.float()


def _decode(rows: Tensor, points: Tensor, bins: int) -> Tensor:
    """Corners (4, S) in cells, of what the network says of S anchors: distances, or `bins` logits for each.

    Args:
        rows: (S, 4 * bins) float32. points: (2, S) float32, centres in cells.
    """
    distances = rows
    if bins > 1:
        place = torch.arange(bins, device=rows.device, dtype=rows.dtype)
        distances = rows.view(-1, 4, bins).softmax(2).matmul(place)
    near, far = distances.T.split(2)
    return torch.cat((points - near, points + far))


def _dfl(rows: Tensor, distances: Tensor, bins: int) -> Tensor:
    """Distribution focal loss (S,): the cross entropy of the two bins around a distance, mean over the four sides.

    Source: Li et al. (arXiv 2006.04388).

    Args:
        rows: (S, 4 * bins) float32 logits. distances: (S, 4) float32, cells.
    """
    distances = distances.clamp(0, bins - 1 - 0.01)
    lower = distances.long()
    upper_weight = distances - lower
    log_p = rows.view(-1, 4, bins).log_softmax(2)
    near, far = log_p.gather(2, torch.stack((lower, lower + 1), 2)).unbind(2)
    return -(near * (1 - upper_weight) + far * upper_weight).mean(1)


class _ClassTerm(torch.autograd.Function):
    """Binary cross entropy of all classes of all anchors, summed: softplus(x) - target * x.

    The targets are 0 but for one class of few anchors, so they are never laid out; the gradient sigmoid(x) - target is
    made in one piece. PyTorch's own takes the difference of two numbers of the size of x, which in float32 costs 2e-5 of
    the sum at the logits that a network starts with.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, anchor: Tensor, classes: Tensor, target: Tensor, ignored: Tensor | None
    ) -> Tensor:
        """`scores` (B, A, classes); `anchor`, `classes` and `target` (S,); `ignored` (B, A) bool."""
        where = anchor * scores.shape[2] + classes
        ctx.save_for_backward(scores, where, target, ignored)
        logits = _float32(scores)
        entropy = functional.softplus(logits)
        if ignored is not None:
            entropy.masked_fill_(ignored[..., None], 0)
        entropy.view(-1).index_add_(0, where, -target * at(logits.flatten(), where))
        return entropy.sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of `scores`."""
        scores, where, target, ignored = ctx.saved_tensors
        slope = _float32(scores).sigmoid()
        if ignored is not None:
            slope.masked_fill_(ignored[..., None], 0)
        slope.view(-1).index_add_(0, where, -target)
        return slope.mul_(gradient).to(scores.dtype), None, None, None, None


def _ignored(targets: Targets, grid: Grid) -> Tensor:
    """(B, A) bool: anchors whose centre is in a crowd region of their image."""
    x, y = grid.centers
    x1, y1, x2, y2 = targets.crowds[..., None].unbind(2)  # (B, C, 1) each
    inside = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    return (inside & targets.crowd_valid[..., None]).any(1)
