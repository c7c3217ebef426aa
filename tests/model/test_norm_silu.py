"""The fused norm and SiLU equal PyTorch's two operations."""

from __future__ import annotations

import copy
import platform

import pytest
import torch
from torch import nn

from yolo_cosine import kernels
from yolo_cosine.model import detector
from yolo_cosine.model.norm_silu import fuse_norms, norm_silu

pytestmark = pytest.mark.skipif(
    kernels.load("model/norm_silu") is None, reason="no C compiler, or PyTorch has other threads"
)


def both(x, gradient, norm, silu=True):
    """Output, gradients and statistics of the fused operation, and of PyTorch's in float64."""
    results = []
    for exact in (False, True):
        own, source = copy.deepcopy(norm), x.detach().clone()
        if exact:
            own, source = own.double(), source.double()
        source.requires_grad_()
        if exact:
            out = own(source)
            out = nn.functional.silu(out) if silu else out
        else:
            out = norm_silu(source, own, silu)
        out.backward(gradient.to(out.dtype))
        results.append([out, source.grad, own.weight.grad, own.bias.grad, own.running_mean, own.running_var])
        assert own.num_batches_tracked == 1
    return zip(*results, strict=True)


def a_norm(channels):
    norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.bfloat16, 8e-3)], ids=["float32", "bf16"]
)
@pytest.mark.parametrize(
    "shape",
    [(2, 64, 20, 20), (3, 16, 33, 17), (2, 8, 9, 5), (5, 80, 3, 1), (1, 1, 7, 7), (2, 3, 130, 130), (3, 7, 1, 1), (2, 300, 3, 5)],
    ids=str,
)  # fmt: skip
def test_equals_pytorch(shape, dtype, tolerance, silu):
    torch.manual_seed(0)
    x = (3 * torch.randn(shape) + 20).to(dtype).contiguous(memory_format=torch.channels_last)
    gradient = torch.randn(shape).to(dtype)  # in another layout
    for fused, exact in both(x, gradient, a_norm(shape[1]), silu):
        assert (fused.double() - exact).abs().max() <= tolerance * exact.abs().max().clamp(min=1)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="no other instructions to do without")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
def test_a_processor_without_wide_vectors_computes_the_same(monkeypatch, dtype):
    torch.manual_seed(0)
    x = (3 * torch.randn(2, 24, 20, 20)).to(dtype).contiguous(memory_format=torch.channels_last)
    x[0, :4, :2, :2] *= 30  # where the sigmoid is 0 or 1
    norm, results = a_norm(24), []
    for library in (kernels.load("model/norm_silu"), kernels.load("model/norm_silu", "-mno-avx512f")):
        monkeypatch.setattr(kernels, "load", lambda name, library=library: library)
        results.append(
            [fused for fused, _ in both(x, torch.randn(x.shape, generator=torch.manual_seed(1)).to(dtype), norm)]
        )
    tolerance = 1e-6 if dtype == torch.float32 else 8e-3
    for wide, plain in zip(*results, strict=True):
        assert (wide - plain).abs().max() <= tolerance * plain.abs().max().clamp(min=1)


def test_the_means_of_large_values_do_not_cancel():
    x = (torch.randn(2, 16, 40, 40) + 1e4).contiguous(memory_format=torch.channels_last)
    for fused, exact in both(x, torch.randn_like(x), a_norm(16)):
        assert (fused.double() - exact).abs().max() <= 2e-3 * exact.abs().max()


def test_what_is_no_number_stays_none():
    x = torch.randn(2, 16, 4, 4)
    x[0, 3, 1, 1] = float("nan")
    x[1, 5, 2, 2] = float("inf")
    for dtype in (torch.float32, torch.bfloat16):
        out = norm_silu(x.to(dtype), a_norm(16))
        assert out[:, [3, 5]].isnan().all() and out[:, [0, 1, 2, 4]].isfinite().all()


def test_large_values_saturate():
    norm = nn.BatchNorm2d(2)
    nn.init.constant_(norm.weight, 1e6)
    x = torch.tensor([-1.0, 1.0]).repeat(2, 2, 1)[..., None].requires_grad_()
    out = norm_silu(x, norm)
    out.sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all() and out.max() > 1e5 and out.min() > -1e-3


def test_does_not_depend_on_the_number_of_threads():
    torch.manual_seed(0)
    x, gradient, norm = torch.randn(4, 24, 50, 50), torch.randn(4, 24, 50, 50), a_norm(24)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append([fused for fused, _ in both(x, gradient, norm)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_one_value_in_a_channel_is_refused_as_by_pytorch():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm_silu(torch.randn(1, 3, 1, 1), a_norm(3))


def test_a_network_computes_the_same_and_stays_what_it_is():
    torch.manual_seed(0)
    plain = detector.build_detector("yolo11n.yaml", ("a", "b")).to(memory_format=torch.channels_last)
    fused = copy.deepcopy(plain)
    assert fuse_norms(fused) > 70
    images = torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    outputs = []
    for model in (plain, fused):
        detector.train_mode(model, 3)  # norms of frozen layers are in evaluation mode
        out = model(images)
        (out["boxes"].square().mean() + out["scores"].square().mean()).backward()
        outputs.append((out["boxes"], out["scores"], *(p.grad for p in model.parameters() if p.grad is not None)))
    scale = max(float(t.detach().abs().max()) for t in outputs[0][2:])
    for a, b in zip(*outputs, strict=True):
        a, b = a.detach(), b.detach()
        assert (a - b).abs().max() < 1e-3 * max(float(a.abs().max()), scale)
    for name, value in plain.state_dict().items():
        assert torch.allclose(value, fused.state_dict()[name], rtol=1e-4, atol=1e-5), name
    assert len(outputs[0]) > 100


def test_a_copy_for_evaluation_is_fused_as_ever():
    torch.manual_seed(0)
    plain = detector.build_detector("yolo11n.yaml", ("a",))
    fused = copy.deepcopy(plain)
    fuse_norms(fused)
    images = torch.rand(1, 3, 64, 64)
    a, b = (detector.inference_copy(m, 300).eval()(images)[0] for m in (plain, fused))
    assert torch.equal(a, b)
    c, d = (copy.deepcopy(m).eval()(images)[0] for m in (plain, fused))
    assert torch.equal(c, d)


def test_without_a_compiler_nothing_changes(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    kernels.load.cache_clear()
    try:
        model = detector.build_detector("yolo11n.yaml", ("a",))
        assert fuse_norms(model) == 0
        assert not any("forward" in vars(m) for m in model.modules())
    finally:
        monkeypatch.undo()
        kernels.load.cache_clear()
