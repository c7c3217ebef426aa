"""A batch norm over several processes equals PyTorch's over their images in one batch."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from yolo_cosine.engine.sync_norms import GpuSyncNorm2d, SyncNorm2d, synchronise_norms

CHANNELS = 5


class Ranks:
    """Processes, each a thread, that add tensors up and stack them."""

    def __init__(self, size):
        self.size, self.messages = size, 0
        self._barrier, self._parts = threading.Barrier(size, timeout=20), {}
        self._lock = threading.Lock()

    def total(self, tensor):
        return self._together(tensor, sum)

    def stack(self, tensor):
        return self._together(tensor, torch.stack)

    def _together(self, tensor, join):
        with self._lock:
            self._parts[threading.get_ident()] = tensor
        first = self._barrier.wait() == 0
        total = join(list(self._parts.values()))
        self._barrier.wait()
        if first:
            self._parts, self.messages = {}, self.messages + 1
        self._barrier.wait()
        return total

    def __call__(self, work):
        """The results of `work(rank)` of all ranks, in their order."""
        with ThreadPoolExecutor(self.size) as pool:
            return list(pool.map(work, range(self.size)))


class Kernels:
    """PyTorch's CUDA kernels for norms over several processes, in its own formulas."""

    @staticmethod
    def batch_norm_stats(x, eps):
        var, mean = torch.var_mean(x.double(), (0, 2, 3), correction=0)
        return mean.float(), (var + eps).rsqrt().float()

    @staticmethod
    def batch_norm_gather_stats_with_counts(x, means, inverse_sds, running_mean, running_var, momentum, eps, counts):
        assert means.shape == inverse_sds.shape == (len(counts), x.shape[1]) and counts.dtype == running_mean.dtype
        shares, count = (counts / counts.sum()).double()[:, None], counts.sum()
        mean = (means * shares).sum(0)
        var = ((inverse_sds.double() ** -2 - eps + (means - mean) ** 2) * shares).sum(0)
        running_mean.lerp_(mean.float(), momentum)
        running_var.lerp_((var * count / (count - 1)).float(), momentum)
        return mean.float(), (var + eps).rsqrt().float()

    @staticmethod
    def batch_norm_elemt(x, weight, bias, mean, inverse_sd, eps):
        weight, bias, mean, inverse_sd = (v[:, None, None] for v in (weight, bias, mean, inverse_sd))
        return ((x - mean) * inverse_sd * weight + bias).to(x.dtype)

    @staticmethod
    def batch_norm_backward_reduce(grad, x, mean, inverse_sd, weight, *needed):
        assert all(needed)
        by_mean, by_sd = grad.double().sum((0, 2, 3)), (grad.double() * (x - mean[:, None, None])).sum((0, 2, 3))
        return by_mean.float(), by_sd.float(), (by_sd * inverse_sd).float(), by_mean.float()

    @staticmethod
    def batch_norm_backward_elemt(grad, x, mean, inverse_sd, weight, sum_grad, sum_grad_x, counts):
        assert counts.dtype == torch.int32
        by_mean, by_sd = (v / counts.sum() for v in (sum_grad, sum_grad_x * inverse_sd**2))
        weight, mean, inverse_sd, by_mean, by_sd = (
            v[:, None, None] for v in (weight, mean, inverse_sd, by_mean, by_sd)
        )
        return ((grad - by_mean - (x - mean) * by_sd) * inverse_sd * weight).to(x.dtype)


@pytest.fixture
def kernels(monkeypatch):
    for name, kernel in vars(Kernels).items():
        if name.startswith("batch_norm"):
            monkeypatch.setattr(torch, name, kernel.__func__)


def network(mean=0.0):
    """A norm with something in all that it holds, eps and momentum as Ultralytics sets them."""
    norm = nn.BatchNorm2d(CHANNELS, eps=1e-3, momentum=0.03)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
        norm.running_mean.normal_(mean)
        norm.running_var.uniform_(0.5, 2)
    return norm


def trained(norm, x, grad):
    """Output, gradient of x, and what the norm holds afterwards, in float64."""
    x = x.detach().requires_grad_()
    out = norm(x)
    out.backward(grad)
    holds = (norm.running_mean, norm.running_var, norm.weight.grad, norm.bias.grad)
    return [v.detach().double() for v in (out, x.grad, *holds)], norm.num_batches_tracked.item()


def together(norm, x, grad, sizes, device="cpu"):
    """The same of copies of the norm on shares of the batch: what each has of its own, what all hold, the messages."""
    ranks = Ranks(len(sizes))
    copies = [copy.deepcopy(norm) for _ in sizes]
    for each in copies:
        synchronise_norms(each, torch.device(device), ranks.total, ranks.stack)
    xs, grads = x.split(sizes), grad.split(sizes)
    found = ranks(lambda r: trained(copies[r], xs[r], grads[r]))
    own = [torch.cat([values[k] for values, _ in found]) for k in (0, 1)]
    held = [[values[k] for values, _ in found] for k in (2, 3, 4, 5)]
    return own, held, [count for _, count in found], ranks.messages


@pytest.mark.parametrize("sizes", [[6], [3, 3], [5, 1], [1, 3, 2]], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("mean", [0.0, 30.0], ids=["around zero", "far from zero"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_it_is_the_norm_of_the_whole_batch(sizes, layout, dtype, mean, device, kernels):
    """It is as near to the exact values as PyTorch's own norm of the whole batch is, in what each has and all hold."""
    torch.manual_seed(len(sizes))
    norm = network(mean)
    x = (torch.randn(6, CHANNELS, 6, 5) * (torch.rand(1, CHANNELS, 1, 1) + 0.5) + mean).to(dtype, memory_format=layout)
    grad = torch.randn_like(x) + 0.5
    exact, _ = trained(copy.deepcopy(norm).double(), x.double(), grad.double())
    peer, _ = trained(copy.deepcopy(norm), x, grad)
    own, held, counts, messages = together(norm, x, grad, sizes, device)
    assert counts == [1] * len(sizes) and messages == 2
    for values in held[:2]:  # the running statistics, the same for all
        assert all(torch.equal(values[0], each) for each in values)
    # of the gradients of weight and bias each has a share
    found = [*own, held[0][0], held[1][0], sum(held[2]), sum(held[3])]
    for ours, theirs, wanted in zip(found, peer, exact, strict=True):
        worst = (theirs - wanted).abs().max()
        assert worst < 0.05 * wanted.abs().max()
        assert (ours - wanted).abs().max() <= 4 * worst + 1e-6 * wanted.abs().max()


def test_the_variance_of_a_channel_far_from_zero_is_not_lost():
    """Where a mean of squares less the square of the mean would leave nothing in float32."""
    torch.manual_seed(0)
    x = torch.randn(6, CHANNELS, 4, 4) + 1e4
    norm = network()
    norm.momentum = 1.0
    _, held, _, _ = together(norm, x, torch.ones_like(x), [2, 4])
    torch.testing.assert_close(held[1][0], x.double().transpose(0, 1).flatten(1).var(1), rtol=1e-3, atol=0)


def test_the_one_for_gpus_asks_for_no_value(kernels):
    """The host would wait for it; a tensor on `meta` has none to give."""
    norm = network().to("meta")
    synchronise_norms(norm, torch.device("cuda"), lambda values: values, lambda values: torch.stack((values, values)))
    x = torch.empty(2, CHANNELS, 4, 3, device="meta", requires_grad=True)
    norm(x).sum().backward()
    assert x.grad.shape == x.shape and norm.weight.grad.shape == (CHANNELS,)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_one_that_does_not_train_is_alone(device):
    """As those of frozen layers: nothing is sent, and the statistics stay."""
    norm = network()
    x, before = torch.randn(2, CHANNELS, 3, 3), copy.deepcopy(norm).eval()

    def total(tensor):
        raise AssertionError("a message")

    synchronise_norms(norm, torch.device(device), total, total)
    assert type(norm.eval()) is (GpuSyncNorm2d if device == "cuda" else SyncNorm2d)
    assert torch.equal(norm(x), before(x)) and torch.equal(norm.running_mean, before.running_mean)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_a_network_holds_stays_the_same(device):
    """Its optimizer, averages and checkpoints hold on to parameters and buffers, by name and as objects."""
    model = nn.Sequential(nn.Conv2d(3, CHANNELS, 1), nn.Sequential(network(), nn.SiLU()), network())
    before = {name: id(value) for name, value in model.state_dict(keep_vars=True).items()}
    synchronise_norms(model, torch.device(device), lambda tensor: tensor, lambda tensor: tensor)
    assert {name: id(value) for name, value in model.state_dict(keep_vars=True).items()} == before
    kind = GpuSyncNorm2d if device == "cuda" else SyncNorm2d
    assert sum(isinstance(module, kind) for module in model.modules()) == 2
    assert not any(type(module) is nn.BatchNorm2d for module in model.modules())
