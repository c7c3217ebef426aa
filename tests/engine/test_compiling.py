"""Network and loss through PyTorch's compiler: the tracing, not the kernels."""

from __future__ import annotations

import contextlib

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd

from yolo_cosine.data.targets import Targets
from yolo_cosine.engine import compiling
from yolo_cosine.engine.compiling import Compiled, CompiledFunction, resolve_compile
from yolo_cosine.errors import UserError
from yolo_cosine.model import detector
from yolo_cosine.model.loss import DetectionLoss
from yolo_cosine.schedules.curves import Constant, Linear

CPU, GPU = torch.device("cpu"), torch.device("cuda")
ONE, GROWING = Constant(1, 9), Linear(1, 4, 9)  # batches of an update


@pytest.mark.parametrize(
    ("choice", "device", "steps", "accumulate", "multi_scale", "processes", "expected"),
    [
        ("auto", GPU, 100_000, ONE, 0.0, 1, "default"),
        ("auto", GPU, 100_000, GROWING, 0.0, 1, "default"),
        ("auto", GPU, 100, ONE, 0.0, 1, "off"),
        ("auto", GPU, 100_000, ONE, 0.5, 1, "off"),
        ("auto", GPU, 100_000, ONE, 0.0, 4, "off"),
        ("auto", CPU, 100_000, ONE, 0.0, 1, "off"),
        ("max-autotune", GPU, 1, ONE, 0.0, 1, "max-autotune"),
        ("max-autotune", GPU, 9, GROWING, 0.0, 1, "max-autotune-no-cudagraphs"),
        ("default", CPU, 1, ONE, 0.0, 1, "default"),
        ("off", GPU, 100_000, ONE, 0.5, 4, "off"),
    ],
)
def test_what_is_compiled(monkeypatch, choice, device, steps, accumulate, multi_scale, processes, expected):
    monkeypatch.setattr(compiling, "find_spec", lambda name: object())
    assert resolve_compile(choice, device, steps, accumulate, multi_scale, processes) == expected


@pytest.mark.parametrize(
    ("device", "triton", "multi_scale", "processes", "text"),
    [(GPU, None, 0.0, 1, "needs the package triton"), (CPU, 1, 0.5, 1, "one size of images"), (CPU, 1, 0.0, 2, "one process")],
)  # fmt: skip
def test_what_cannot_be_compiled_is_told(monkeypatch, device, triton, multi_scale, processes, text):
    monkeypatch.setattr(compiling, "find_spec", lambda name: triton)
    with pytest.raises(UserError, match=f"{text}.*write compile: off"):
        resolve_compile("default", device, 1, ONE, multi_scale, processes)
    if triton is None:
        assert resolve_compile("auto", device, 10**6, ONE, multi_scale, processes) == "off"


def targets(images, boxes, places):
    corner = torch.rand(images, places, 2, generator=torch.Generator().manual_seed(0)) * 30
    return Targets(
        boxes=torch.cat((corner, corner + 20), 2),
        classes=torch.zeros(images, places, dtype=torch.int64),
        valid=(torch.arange(places) < boxes).expand(images, places).contiguous(),
        crowds=torch.zeros(images, 0, 4),
        crowd_valid=torch.zeros(images, 0, dtype=torch.bool),
    )


class Little(torch.nn.Module):
    """What a network of two classes with strides 8, 16 and 32 returns in training, from one layer for each."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(3, 64 + 2, s, s) for s in (8, 16, 32))

    def forward(self, images):
        rows = torch.cat([layer(images).flatten(2).transpose(1, 2) for layer in self.layers], 1)
        return {"boxes": rows[..., :64], "scores": rows[..., 64:]}


def test_a_compiled_step_is_the_plain_one_and_odd_batches_go_uncompiled():
    torch.manual_seed(0)
    model = detector.build_detector("yolo11n.yaml", ("a", "b"))
    rows = Little()
    loss = DetectionLoss(model, box=7.5, cls=0.5, dfl=1.5, epochs=3, static=True)
    compiled = Compiled(rows, loss, "default", (2, 3, 64, 64), backend="eager")
    traced = []
    compiled._network, network = lambda images: traced.append(len(images)) or network(images), compiled._network
    for images, places in ((2, 8), (2, 24), (1, 8)):
        batch, wanted = torch.rand(images, 3, 64, 64), targets(images, 5, places)
        ours, items = compiled(batch, wanted, contextlib.nullcontext())
        exact, exact_items = loss(rows(batch), (64, 64), wanted)
        torch.testing.assert_close(ours, exact, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(items, exact_items, rtol=1e-5, atol=1e-5)
        ours.backward()
    assert traced == [2, 2] and all(p.grad is not None for p in rows.parameters())


def test_what_the_compiler_cannot_do_is_told_and_done_without_it():
    def broken(images):
        raise RuntimeError("no such kernel\nand much more")

    told = []
    for fall_back in (told.append, None):
        step = Compiled(lambda images: images.sum(), lambda out, size, targets: (out, out[None]), "default", (2, 3, 64, 64),
                        fall_back, backend="eager")  # fmt: skip
        step._network = broken
        with pytest.raises(RuntimeError) if fall_back is None else contextlib.nullcontext():
            for _ in range(2):
                assert step(torch.ones(2, 3, 64, 64), targets(2, 1, 8), contextlib.nullcontext())[0] == 2 * 3 * 64 * 64
    assert told == ["RuntimeError: no such kernel"]


def test_so_is_a_backward_pass_that_it_cannot_do():
    def broken(graph, inputs):
        raise RuntimeError("no such kernel")

    weight, told = torch.nn.Parameter(torch.ones(1)), []
    backend = aot_autograd(fw_compiler=lambda graph, inputs: make_boxed_func(graph.forward), bw_compiler=broken)
    step = Compiled(lambda images: (images * weight).sum(), lambda out, size, targets: (out, out.detach()[None]), "default",
                    (2, 3, 64, 64), told.append, backend=backend)  # fmt: skip
    loss, _ = step(torch.ones(2, 3, 64, 64), targets(2, 1, 8), contextlib.nullcontext())
    loss.backward()
    assert weight.grad == 2 * 3 * 64 * 64 and told == ["RuntimeError: no such kernel"]


def test_a_function_that_cannot_be_compiled_is_told_and_called_as_it_is():
    """As where there is triton, but no compiler of C: tracing works, and making the kernels does not."""
    asked = []

    def no_compiler(graph, inputs):
        asked.append(graph)
        raise RuntimeError("Failed to find C compiler")

    told = []
    draw = CompiledFunction(lambda x, times: x * times, told.append, backend=no_compiler)
    for k in range(1, 4):
        assert draw(torch.ones(k), 2).sum() == 2 * k
    assert len(asked) == 1 and told == ["RuntimeError: Failed to find C compiler"]
    with pytest.raises(Exception, match="Failed to find C compiler"):
        CompiledFunction(lambda x: x + 1, None, backend=no_compiler)(torch.ones(1))
    with pytest.raises(TypeError):  # the function's own
        draw(None, None)


def test_memory_that_runs_out_is_no_matter_of_the_compiler():
    def full(x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    told = []
    draw = CompiledFunction(torch.sin, told.append, backend="eager")
    draw._call = full
    with pytest.raises(torch.OutOfMemoryError):
        draw(torch.ones(1))
    assert not told


def test_what_a_graph_writes_over_is_copied(monkeypatch):
    marked, kept = [], torch.ones(3)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marked.append(mode))
    for mode in ("default", "max-autotune", "max-autotune-no-cudagraphs"):
        step = Compiled(lambda images: images.sum(), lambda out, size, targets: (out, kept), mode, (2, 3, 8, 8))
        _, items = step(torch.ones(2, 3, 8, 8), targets(2, 1, 8), contextlib.nullcontext())
        assert (items is not kept) is (mode == "max-autotune") and torch.equal(items, kept)
    assert marked == ["max-autotune"]
