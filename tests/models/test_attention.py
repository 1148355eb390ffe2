"""The attention branches against their formulas, and position attention's promise never to hold its n x n matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from models import attention
from models.attention import (
    KEYS,
    QUERIES,
    Attend,
    PositionAttention,
    TokenStatisticsAttention,
    plain_attention,
    position_attention,
    position_attention_plain,
)


class LargestTensor(TorchDispatchMode):
    """Notes the elements of the largest tensor that any operator returns, in forward and backward."""

    numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor))])
        return out


def tokens(
    batch: int, n: int, *, d: int = 4, c: int = 8, dtype: torch.dtype = torch.float32, channels_first: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values with scores far from 0, laid out as a network's (channels first) or token by token."""
    generator = torch.Generator().manual_seed(n)
    created = [torch.randn(batch, width, n, generator=generator, dtype=dtype) for width in (d, d, c)]
    q, k, v = (t.mT if channels_first else t.mT.contiguous() for t in created)
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def as_captured(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Position attention as a captured program computes it, and a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        return position_attention(q, k, v)


def forward_and_gradients(attend: Attend, inputs: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    out = attend(*inputs)
    # Values that bfloat16 holds exactly, so that every number format gets the same incoming gradient.
    weight = torch.linspace(-1, 1, out.numel(), device=out.device).bfloat16().to(out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * weight).sum(), inputs)]


def exactly(inputs: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    """Return the plain form's output and gradients, computed in float64."""
    q, k, v = (t.detach().double().requires_grad_() for t in inputs)
    return [tensor.float() for tensor in forward_and_gradients(position_attention_plain, (q, k, v))]


def position_layer(channels: int = 32, gamma: float = 0.7, seed: int = 0) -> PositionAttention:
    torch.manual_seed(seed)
    layer = PositionAttention(channels)
    nn.init.constant_(layer.gamma, gamma)
    return layer


def test_plain_form_is_softmax_of_unscaled_scores() -> None:
    q, k, v = tokens(2, 5, dtype=torch.float64)
    expected = torch.zeros_like(v)
    for image in range(2):
        for i in range(5):
            weights = torch.stack([(q[image, i] * k[image, j]).sum().exp() for j in range(5)])
            expected[image, i] = sum(weights[j] / weights.sum() * v[image, j] for j in range(5))
    torch.testing.assert_close(position_attention_plain(q, k, v), expected)


@pytest.mark.parametrize("attend", [position_attention, as_captured])
@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize(
    ("batch", "n"), [(1, 1), (3, 7), (1, KEYS), (1, KEYS + 1), (2, 2 * KEYS + 50), (1, QUERIES + 3)]
)
def test_position_attention_equals_plain_form(attend: Attend, batch: int, n: int, channels_first: bool) -> None:
    inputs = tokens(batch, n, channels_first=channels_first)
    result = forward_and_gradients(attend, inputs)
    # Gradients of keys and values are sums over all queries, whose terms cancel.
    torch.testing.assert_close(result, exactly(inputs), atol=1e-5 if n <= QUERIES else 2e-5, rtol=1e-5)


def test_gradient_of_blocks_is_correct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "QUERIES", 3)
    monkeypatch.setattr(attention, "KEYS", 2)
    assert torch.autograd.gradcheck(position_attention, tokens(1, 7, d=2, c=3, dtype=torch.float64))


@pytest.mark.parametrize("order", [1, -1])
def test_huge_scores_do_not_overflow(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores to ±100 that grow, or fall, from block to block: what came before a larger one counts as it must."""
    monkeypatch.setattr(attention, "KEYS", 8)
    _, k, v = tokens(1, 48)
    q = torch.ones_like(k)
    k = order * torch.linspace(-100, 100, 48)[:, None].expand(1, 48, 4).div(4)
    inputs = (q.detach().requires_grad_(), k.detach().requires_grad_(), v)
    # float32 rounds a score of 100 by up to 4e-6, and so each weight.
    torch.testing.assert_close(forward_and_gradients(position_attention, inputs), exactly(inputs), atol=1e-4, rtol=1e-5)


def test_attention_matrix_is_never_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "QUERIES", 256)
    monkeypatch.setattr(attention, "KEYS", 64)
    n = 512
    inputs = tokens(1, n, d=16, c=128)
    with LargestTensor() as plain:
        forward_and_gradients(position_attention_plain, inputs)
    assert plain.numel == n * n
    for attend in (position_attention, as_captured):
        with LargestTensor() as result:
            forward_and_gradients(attend, inputs)
        assert result.numel <= max(256 * 64, n * 128)


def test_bfloat16_is_computed_in_float32() -> None:
    inputs = tokens(2, 200)
    halves = tuple(t.detach().bfloat16().requires_grad_() for t in inputs)
    rounded = tuple(t.detach().float().requires_grad_() for t in halves)
    result = forward_and_gradients(position_attention, halves)  # type: ignore[arg-type]  # three tensors
    expected = forward_and_gradients(position_attention_plain, rounded)  # type: ignore[arg-type]
    # Only results are rounded, by at most 2^-9 of their size; computed in bfloat16 the first is 3.4 times as far off.
    for ours, exact in zip(result, expected, strict=True):
        assert ours.dtype == torch.bfloat16
        assert torch.linalg.norm(ours.float() - exact) < 2**-8 * torch.linalg.norm(exact)


def test_layer_equals_plain_torch() -> None:
    layer = position_layer()
    x = torch.randn(2, 32, 5, 7)
    q, k, v = (
        torch.einsum("oc,nchw->nohw", conv.weight[:, :, 0, 0], x).add(conv.bias[:, None, None]).flatten(2)
        for conv in (layer.query, layer.key, layer.value)
    )
    assert (q.shape, k.shape, v.shape) == ((2, 4, 35), (2, 4, 35), (2, 32, 35))
    weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k), dim=2)
    expected = 0.7 * torch.einsum("bij,bcj->bci", weights, v).view(2, 32, 5, 7) + x
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_layer_starts_as_the_identity() -> None:
    layer = PositionAttention(128)
    assert next(name for name, _ in layer.named_parameters()) == "gamma"
    assert sum(p.numel() for p in layer.parameters()) == 20_641
    x = torch.randn(1, 128, 3, 5)
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_layer_trains_under_autocast(memory_format: torch.memory_format) -> None:
    layer = position_layer()
    x = torch.randn(2, 32, 12, 16).to(memory_format=memory_format)
    expected = torch.autograd.grad(layer(x).square().mean(), list(layer.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
        result = torch.autograd.grad(out.float().square().mean(), list(layer.parameters()))
    torch.testing.assert_close(out.float(), layer(x), atol=3e-2, rtol=3e-2)
    for half, full in zip(result, expected, strict=True):
        assert (half - full).norm() <= 0.05 * full.norm() + 1e-4


def test_captured_programs_use_fused_attention_with_equal_widths() -> None:
    layer = position_layer().eval()
    x = torch.randn(1, 32, 24, 32)
    program = torch.export.export(layer, (x,))
    calls = [node for node in program.graph.nodes if "scaled_dot_product_attention" in str(node.target)]
    assert [argument.meta["val"].shape[-1] for argument in calls[0].args[:3]] == [32, 32, 32]
    assert not any("softmax" in str(node.target) for node in program.graph.nodes)
    with torch.no_grad(), LargestTensor() as largest:
        result = program.module()(x)
    assert largest.numel < (24 * 32) ** 2
    torch.testing.assert_close(result, layer(x), atol=1e-5, rtol=1e-5)


def test_layer_compiles_in_one_graph() -> None:
    layer = position_layer()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    x = torch.randn(1, 32, 6, 8)
    torch.testing.assert_close(compiled(x), layer(x), atol=1e-5, rtol=1e-5)


def test_plain_attention_ends_with_its_context() -> None:
    network = nn.Sequential(nn.Conv2d(1, 32, 1), nn.Sequential(position_layer()))
    layer = network[1][0]
    x = torch.randn(1, 1, 32, 32)
    with plain_attention(network), LargestTensor() as largest:
        plain = network(x)
    assert largest.numel == 1024**2
    assert layer.attend is position_attention
    torch.testing.assert_close(network(x), plain, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="expected"), plain_attention(network):
        raise ValueError("expected")
    assert layer.attend is position_attention


@pytest.mark.parametrize("attend", [position_attention, position_attention_plain])
def test_both_forms_have_equal_macs_on_meta_device(attend: Attend) -> None:
    n, channels = 40 * 50, 32
    with torch.device("meta"):
        layer, x = PositionAttention(channels), torch.empty(2, channels, 40, 50)
    layer.attend = attend
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        layer(x)
    projections = n * channels * (4 + 4 + channels)
    assert counter.get_total_flops() == 2 * 2 * (n**2 * (4 + channels) + projections)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gpu_never_allocates_attention_matrix(dtype: torch.dtype) -> None:
    n = 8192
    inputs = tuple(t.detach().to("cuda", dtype).requires_grad_() for t in tokens(1, n, d=16, c=128))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = forward_and_gradients(position_attention, inputs)  # type: ignore[arg-type]  # three tensors
    assert torch.cuda.max_memory_allocated() - before < n * n * dtype.itemsize / 2
    expected = forward_and_gradients(position_attention_plain, inputs)  # type: ignore[arg-type]
    for a, b in zip(result, expected, strict=True):
        assert (a - b).norm() <= (1e-4 if dtype is torch.float32 else 3e-2) * b.norm()


def statistics_layer(temperature: float, dtype: torch.dtype = torch.float64) -> TokenStatisticsAttention:
    torch.manual_seed(0)
    layer = TokenStatisticsAttention(32, heads=4).to(dtype)
    # Different per head, since a softmax ignores what its terms share.
    with torch.no_grad():
        layer.temperature.copy_(temperature * torch.tensor([[1.0], [-1.0], [0.5], [0.2]]))
    return layer


@pytest.mark.parametrize("temperature", [1, 40, 400])
@pytest.mark.parametrize("scale", [1, 1e-12])  # the second brings norms near the eps of their division
def test_token_statistics_equal_plain_torch(temperature: float, scale: float) -> None:
    layer = statistics_layer(temperature)
    with torch.no_grad():
        layer.qkv.weight *= scale
        layer.out.bias.zero_()  # would hide an output near 1e-12
    x = torch.randn(2, 32, 3, 5, dtype=torch.float64)
    result = layer(x)
    for image, expected in zip(x, result, strict=True):
        w = (image.flatten(1).T @ layer.qkv.weight.T).split(8, dim=1)  # per head (n, 8)
        energies = [(head / head.norm(dim=0).clamp_min(1e-12)).square().sum(1) for head in w]
        weighted = torch.stack([t * e for t, e in zip(layer.temperature, energies, strict=True)])
        memberships = weighted.exp() / weighted.exp().sum(0)
        heads = []
        for head, membership in zip(w, memberships, strict=True):
            share = membership / (membership.sum() + 1e-8)
            moments = (share[:, None] * head.square()).sum(0)
            heads.append(-head * membership[:, None] / (1 + moments))
        plain = (torch.cat(heads, dim=1) @ layer.out.weight.T).T.view(32, 3, 5)
        torch.testing.assert_close(expected, plain, atol=0, rtol=1e-6)


def test_token_statistics_start_with_equal_membership() -> None:
    layer = TokenStatisticsAttention(128)
    assert [(name, tuple(p.shape)) for name, p in layer.named_parameters()] == [
        ("temperature", (8, 1)),
        ("qkv.weight", (128, 128)),
        ("out.weight", (128, 128)),
        ("out.bias", (128,)),
    ]
    assert torch.equal(layer.temperature, torch.ones(8, 1))
    assert sum(p.numel() for p in layer.parameters()) == 32_904


def test_bfloat16_inference_sums_in_bfloat16_with_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "HALF_TOKENS", 300)
    q, k, v = (t.detach().bfloat16() for t in tokens(2, 384, d=16, c=32, channels_first=False))
    exact = position_attention_plain(q.double(), k.double(), v.double())
    with torch.inference_mode():
        result = position_attention(q, k, v)
        monkeypatch.setattr(attention, "HALF_TOKENS", 10_000)
        in_float32 = position_attention(q, k, v)
    assert result.dtype == in_float32.dtype == torch.bfloat16
    # Weights and result are rounded to 8 bits each: 2^-8 of the values that are averaged.
    assert (result - exact).abs().max() < 2**-7 * v.abs().max()
    assert not torch.equal(result, in_float32)
    # Where gradients are asked for, values stay in float32 whatever their number.
    monkeypatch.setattr(attention, "HALF_TOKENS", 300)
    assert torch.equal(position_attention(q.requires_grad_(), k, v), in_float32)
