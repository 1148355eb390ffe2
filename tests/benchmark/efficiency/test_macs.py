from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.config import registry
from benchmark.efficiency.macs import compare_with_fvcore, count_macs
from tests.network_tester import networks


class Function(nn.Module):
    """A network made of a plain function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def count(network: nn.Module, *image_shape: int) -> dict[str, int]:
    macs, uncounted = count_macs(network.to("meta").eval(), image_shape)
    assert not uncounted
    return macs


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
        (Function(lambda x: x @ x[0, 0]), (3, 10, 12), {"matmul": 3 * 10 * 12}),
        (Function(lambda x: torch.mv(x, x[0])), (10, 12), {"mv": 10 * 12}),
        (Function(lambda x: torch.dot(x, x)), (12,), {"dot": 12}),
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


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x @ x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "operators"),
    [
        (lambda x: torch.linalg.inv(x), ["linalg_inv_ex"]),
        (lambda x: torch.fft.rfft2(x).abs(), ["_fft_r2c"]),
        (lambda x: torch.cdist(x, x), ["_cdist_forward"]),
        (lambda x: torch.linalg.inv(x) @ torch.linalg.cholesky(x), ["linalg_cholesky_ex", "linalg_inv_ex"]),
    ],
)
def test_operators_without_a_count_are_named(function: Callable[[Tensor], Tensor], operators: list[str]) -> None:
    network = Function(lambda x: function(F.relu(x)) * 2)
    assert count_macs(network, (1, 1, 8, 8))[1] == operators


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.gelu(F.hardswish(x.clone().abs_())).clamp(0, 1) ** 2,
        lambda x: F.interpolate(F.adaptive_avg_pool2d(x, 2), size=(5, 7), mode="bicubic"),
        lambda x: F.grid_sample(x, torch.zeros(1, 4, 4, 2), align_corners=False),
        lambda x: F.pixel_shuffle(F.pad(F.instance_norm(x), (1, 1, 1, 1), mode="reflect").repeat(1, 4, 1, 1), 2),
        lambda x: torch.std_mean(x.topk(2).values.roll(1, -1).flip(-1), -1)[0].cumsum(0),
        lambda x: torch.stack([x, x.tril()]).index_select(0, torch.zeros(1, dtype=torch.int64)).sort()[0],
        lambda x: F.unfold(x, 3).transpose(1, 2).contiguous().view(-1).logsumexp(0),
        lambda x: torch.where(x > 0, x, 0).masked_fill(x > 1, 2).argmax(1).to(torch.float32),
    ],
)
def test_free_operators_are_not_named(function: Callable[[Tensor], Tensor]) -> None:
    assert count_macs(Function(function), (1, 3, 8, 8)) == ({}, [])


def test_users_autograd_function_counts_what_it_computes() -> None:
    assert count(Function(lambda x: Squared.apply(x)), 4, 8, 8) == {"matmul": 4 * 8 * 8 * 8}


def test_einsum_of_three_operands_counts_its_products() -> None:
    assert count(Function(lambda x: torch.einsum("ij,jk,kl->il", x, x, x)), 8, 8) == {"einsum": 2 * 8**3}


def test_tensor_made_in_forward_joins_the_others() -> None:
    assert count(Function(lambda x: x @ torch.linspace(0, 1, 8).diag()), 4, 8) == {"matmul": 4 * 8 * 8}


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.Sequential(nn.ConvTranspose2d(3, 4, 2, stride=2), nn.Conv2d(4, 4, 3, groups=2)),
        Function(lambda x: x @ x.mT),
        nn.Linear(8, 5),
        Function(lambda x: torch.einsum("bchw,bcij->bhwij", x, x)),
        Function(lambda x: F.scaled_dot_product_attention(x, x, x)),  # not known to fvcore
        Function(lambda x: x * 2),
    ],
)
def test_fvcore_agrees_on_layers(layer: nn.Module) -> None:
    assert compare_with_fvcore(layer.eval(), (1, 3, 8, 8)) == []


def test_different_count_of_fvcore_is_a_note() -> None:
    # fvcore takes no account of the first operand's broadcasting.
    network = Function(lambda x: F.relu(torch.ones(2, 8)) @ x)
    assert compare_with_fvcore(network, (1, 3, 8, 8)) == [
        f"fvcore counts {2 * 8 * 8} MACs for matmul at 8x8, and torch {3 * 2 * 8 * 8}"
    ]


def test_exception_of_fvcore_is_a_note() -> None:
    network = Function(lambda x: x @ x[0, 0, 0])  # fvcore's rule fails for a vector
    (note,) = compare_with_fvcore(network, (1, 3, 8, 8))
    assert note.startswith("fvcore has not checked the MACs: IndexError")


def test_comparison_leaves_the_network_as_it_was() -> None:
    class Caching(nn.Linear):
        seen: tuple[int, ...] = ()

        def forward(self, x: Tensor) -> Tensor:
            self.seen = tuple(x.shape)
            return super().forward(x)

    network = Caching(8, 8)
    assert compare_with_fvcore(network, (1, 3, 8, 8)) == []
    assert network.seen == ()
    assert network.weight.device.type == "cpu"


#: fvcore's MACs by network, input (channels, height, width) and operator, from traces on the meta device.
FVCORE: dict[str, dict[tuple[int, ...], dict[str, int]]] = {
    "eal_icnet": {
        (1, 96, 96): {"conv": 180315216, "linear": 4718592, "matmul": 3004416},
        (1, 512, 512): {"conv": 5128966144, "matmul": 2416443392, "linear": 134217728},
        (3, 96, 160): {"conv": 303221520, "matmul": 8325120, "linear": 7864320},
    },
    "irdpnet": {
        (1, 96, 96): {"conv": 201685680},
        (1, 512, 512): {"conv": 5736837120},
        (3, 96, 160): {"conv": 340048560},
    },
    "edanet": {
        (1, 96, 96): {"conv": 153643104},
        (1, 512, 512): {"conv": 4370292736},
        (3, 96, 160): {"conv": 256832160},
    },
    "contextnet": {
        (1, 96, 96): {"conv": 27350336},
        (1, 512, 512): {"conv": 790608416},
        (3, 96, 160): {"conv": 48019072},
    },
    "esnet": {
        (1, 96, 96): {"conv": 403603200, "conv_transpose": 16072704},
        (1, 512, 512): {"conv": 11480268800, "conv_transpose": 457179136},
        (3, 96, 160): {"conv": 673501440, "conv_transpose": 26787840},
    },
    "letnet": {
        (1, 96, 96): {
            "conv": 223566336,
            "linear": 6718464,
            "conv_transpose": 1824768,
            "scaled_dot_product_attention": 93312,
        },
        (1, 512, 512): {
            "conv": 6359030528,
            "linear": 191102976,
            "scaled_dot_product_attention": 75497472,
            "conv_transpose": 51904512,
        },
        (3, 96, 160): {
            "conv": 381453312,
            "linear": 11197440,
            "conv_transpose": 3041280,
            "scaled_dot_product_attention": 259200,
        },
    },
    "fcn": {
        (1, 96, 96): {"conv": 2808446976, "conv_transpose": 191102976},
        (1, 512, 512): {"conv": 79884713984, "conv_transpose": 5435817984},
        (3, 96, 160): {"conv": 4698439680, "conv_transpose": 318504960},
    },
    "unet": {
        (1, 96, 96): {"conv": 4337565696},
        (1, 512, 512): {"conv": 123379646464},
        (3, 96, 160): {"conv": 7246970880},
    },
    "hrnet": {
        (1, 96, 96): {"conv": 3274850304},
        (1, 512, 512): {"conv": 93151297536},
        (3, 96, 160): {"conv": 5462507520},
    },
    "manet": {
        (1, 96, 96): {"conv": 397603008, "matmul": 31104},
        (1, 512, 512): {"conv": 11292279008, "matmul": 25165824},
        (3, 96, 160): {"conv": 664462848, "matmul": 86400},
    },
    "unetpp": {
        (1, 96, 96): {"conv": 775132640},
        (1, 512, 512): {"conv": 22031004160},
        (3, 96, 160): {"conv": 1293681440},
    },
}


NAMES = [entry.name for entry in registry.select("all")]


@pytest.mark.parametrize("name", NAMES)
def test_registry_expects_what_fvcore_counted(name: str) -> None:
    macs = sum(FVCORE[name][1, 512, 512].values())
    assert macs / 1e9 == pytest.approx(registry.models()[name].gmacs(512, 512), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_networks_cost_what_the_registry_expects(name: str) -> None:
    with torch.device("meta"):  # spares the random initial weights
        network = registry.models()[name].build().eval()
    counted = sum(count_macs(network, (1, 1, 1024, 1024))[0].values())
    assert counted / 1e9 == pytest.approx(registry.models()[name].gmacs(1024, 1024), rel=0.01)


@pytest.mark.parametrize(
    "shape", [*(pytest.param((1, side, side), marks=pytest.mark.slow) for side in (96, 512)), (3, 96, 160)]
)
@pytest.mark.parametrize("name", networks())
def test_networks_cost_what_fvcore_counted(name: str, shape: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        network = registry.models()[name].build(in_channels=shape[0]).eval()
    macs, uncounted = count_macs(network, (1, *shape))
    assert list(macs.items()) == list(FVCORE[name][shape].items())
    assert not uncounted


@pytest.mark.parametrize("name", networks())
def test_fvcore_agrees_on_networks(name: str) -> None:
    assert compare_with_fvcore(registry.models()[name].build().eval(), (1, 1, 64, 64)) == []
