from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.config import registry
from benchmark.efficiency import macs
from benchmark.efficiency.macs import COUNTED, FREE, MacCountError, count_macs


class Function(nn.Module):
    """A network made of a plain function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def count(network: nn.Module, *image_shape: int) -> dict[str, int]:
    return count_macs(network.to("meta").eval(), image_shape)


@pytest.mark.parametrize(
    ("layer", "image_shape", "expected"),
    [
        # positions of the output * input channels per group * kernel * output channels
        (nn.Conv2d(4, 6, 3, padding=1), (1, 4, 10, 12), {"conv": 10 * 12 * 4 * 9 * 6}),
        (nn.Conv2d(4, 6, 3, padding=1, bias=False), (1, 4, 10, 12), {"conv": 10 * 12 * 4 * 9 * 6}),
        (nn.Conv2d(4, 6, 3, stride=2), (1, 4, 11, 13), {"conv": 5 * 6 * 4 * 9 * 6}),
        (nn.Conv2d(4, 8, (3, 1), groups=4), (1, 4, 10, 12), {"conv": 8 * 12 * 1 * 3 * 8}),
        (nn.Conv2d(4, 6, 3, dilation=2), (2, 4, 10, 12), {"conv": 2 * 6 * 8 * 4 * 9 * 6}),
        (nn.Conv2d(4, 6, 3, padding="same"), (1, 4, 10, 12), {"conv": 10 * 12 * 4 * 9 * 6}),
        (nn.Conv2d(4, 6, 3, padding="valid"), (1, 4, 10, 12), {"conv": 8 * 10 * 4 * 9 * 6}),
        (nn.Conv1d(4, 6, 3), (1, 4, 10), {"conv": 8 * 4 * 3 * 6}),
        (nn.Conv3d(2, 3, 3), (1, 2, 5, 6, 7), {"conv": 3 * 4 * 5 * 2 * 27 * 3}),
        # positions of the input * input channels * kernel * output channels per group
        (nn.ConvTranspose2d(4, 6, 3, stride=2), (1, 4, 10, 12), {"conv_transpose": 10 * 12 * 4 * 9 * 6}),
        (
            nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
            (1, 4, 10, 12),
            {"conv_transpose": 10 * 12 * 4 * 9 * 3},
        ),
        (nn.Linear(12, 5), (1, 4, 10, 12), {"linear": 4 * 10 * 12 * 5}),
        (nn.Linear(12, 5, bias=False), (3, 12), {"linear": 3 * 12 * 5}),
        (Function(lambda x: x @ x.mT), (2, 3, 10, 12), {"matmul": 2 * 3 * 10 * 12 * 10}),
        (Function(lambda x: x.new_zeros(7, 10) @ x), (2, 3, 10, 12), {"matmul": 2 * 3 * 7 * 10 * 12}),
        (Function(lambda x: torch.bmm(x, x.mT)), (3, 10, 12), {"bmm": 3 * 10 * 12 * 10}),
        (Function(lambda x: torch.mm(x, x.T)), (10, 12), {"mm": 10 * 12 * 10}),
        (Function(lambda x: torch.addmm(x[:, :1], x, x.T)), (10, 12), {"addmm": 10 * 12 * 10}),
        (Function(lambda x: torch.baddbmm(x[:, :, :1], x, x.mT)), (3, 10, 12), {"baddbmm": 3 * 10 * 12 * 10}),
        (Function(lambda x: torch.einsum("bchw,bcij->bhwij", x, x)), (1, 3, 4, 5), {"einsum": 3 * 20 * 20}),
        (Function(lambda x: torch.einsum("b h w, b w k -> b h k", x, x.mT)), (2, 4, 5), {"einsum": 2 * 4 * 5 * 4}),
        (Function(lambda x: torch.einsum("hw,cw", x, x)), (4, 5), {"einsum": 4 * 5 * 4}),
        # w is summed before anything is multiplied
        (Function(lambda x: torch.einsum("hw,hc->c", x, x)), (4, 5), {"einsum": 4 * 5}),
        # nothing is summed over both: elementwise
        (Function(lambda x: torch.einsum("hw,hc->hwc", x, x)), (4, 5), {}),
        (Function(lambda x: torch.einsum("bhw->bh", x)), (2, 4, 5), {}),
        (nn.Sequential(nn.BatchNorm2d(4), nn.PReLU(4), nn.MaxPool2d(2), nn.Upsample(scale_factor=2)), (1, 4, 8, 8), {}),
    ],
)
def test_layers_cost_what_a_hand_counts(
    layer: nn.Module, image_shape: tuple[int, ...], expected: dict[str, int]
) -> None:
    assert count(layer, *image_shape) == expected


def test_attention_costs_scores_and_weighted_sum_per_head_unpadded() -> None:
    def attend(x: Tensor) -> Tensor:
        q, k, v = x[..., :7, :3], x[..., :3], x[..., :5]
        return F.scaled_dot_product_attention(q, k, v)

    heads, queries, keys, d_k, d_v = 4, 7, 11, 3, 5
    counts = count(Function(attend), 2, heads, keys, 16)
    assert counts == {"scaled_dot_product_attention": 2 * heads * queries * keys * (d_k + d_v)}


def test_torch_s_multi_head_attention_is_counted() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x, x, x, need_weights=False)[0]

    tokens, width = 10, 8
    counts = count(Attention(), 1, tokens, width)
    assert sum(counts.values()) == 4 * tokens * width * width + 2 * tokens * tokens * width


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda x: torch.linalg.inv(x), "aten::linalg_inv"),
        (lambda x: torch.fft.rfft2(x).abs(), "aten::fft_rfft2"),
        (lambda x: Doubled.apply(x), "prim::PythonOp.Doubled"),
        (lambda x: torch.cdist(x, x), "aten::cdist"),
    ],
)
def test_an_operator_on_neither_list_is_an_error_that_names_it(
    function: Callable[[Tensor], Tensor], operator: str
) -> None:
    with pytest.raises(MacCountError, match=rf"no rule for the MACs of .*{operator}.*FREE in benchmark/efficiency"):
        count(Function(function), 1, 1, 8, 8)


def test_an_einsum_of_three_operands_is_an_error() -> None:
    with pytest.raises(MacCountError, match="expected one or two operands"):
        count(Function(lambda x: torch.einsum("ij,jk,kl->il", x, x, x)), 8, 8)


def test_a_tensor_made_in_forward_joins_the_others() -> None:
    assert count(Function(lambda x: x @ torch.linspace(0, 1, 8).diag()), 4, 8) == {"matmul": 4 * 8 * 8}


def test_two_counts_that_disagree_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(macs, "_count_with_torch", lambda network, image: 103)
    with pytest.raises(MacCountError, match="fvcore counts 100 MACs and torch 103"):
        count(nn.Linear(10, 10), 1, 10)


def test_the_lists_are_disjoint_and_spelled_as_torch_spells() -> None:
    assert not FREE & set(COUNTED)
    misspelled = [name for name in FREE | set(COUNTED) if not hasattr(torch.ops.aten, name)]
    assert [name for name in misspelled if not hasattr(torch.ops.aten, f"{name}_")] == []


@functools.cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):  # spares the random initial weights
        return registry.models()[name].build().eval()


@pytest.mark.parametrize("side", [512, 1024])
@pytest.mark.parametrize("name", [entry.name for entry in registry.select("all")])
def test_networks_cost_what_the_registry_expects(name: str, side: int) -> None:
    # count_macs itself compares fvcore's count with torch's.
    counted = sum(count_macs(on_meta(name), (1, 1, side, side)).values())
    assert counted / 1e9 == pytest.approx(registry.models()[name].gmacs(side, side), rel=0.01)
