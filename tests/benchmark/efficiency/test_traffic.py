from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.config import registry
from benchmark.efficiency.traffic import count_traffic
from models.attention import PositionAttention
from tests.benchmark.efficiency.test_macs import Function

B = 4  # bytes of a float32


def count(network: nn.Module, *image_shape: int) -> tuple[int, int]:
    return count_traffic(network.to("meta").eval(), image_shape)


IMAGE, OUT = 4 * 10 * 12, 6 * 10 * 12


@pytest.mark.parametrize(
    ("layer", "image_shape", "read", "written"),
    [
        # image, kernel, bias -> map
        (nn.Conv2d(4, 6, 3, padding=1), (1, 4, 10, 12), IMAGE + 4 * 6 * 9 + 6, OUT),
        (nn.Conv2d(4, 6, 3, padding=1, bias=False), (1, 4, 10, 12), IMAGE + 4 * 6 * 9, OUT),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4), (1, 4, 10, 12), IMAGE + 4 * 9 + 4, IMAGE),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 10, 12), IMAGE + 4 * 6 * 4 + 6, 4 * OUT),
        (nn.Linear(12, 5), (3, 12), 3 * 12 + 12 * 5 + 5, 3 * 5),
        # image, two parameters, two running statistics -> map, the two statistics it used
        (nn.BatchNorm2d(4), (1, 4, 10, 12), IMAGE + 4 * 4, IMAGE + 2 * 4),
        (nn.ReLU(), (1, 4, 10, 12), IMAGE, IMAGE),
        (nn.ReLU(inplace=True), (1, 4, 10, 12), IMAGE, IMAGE),
        (Function(lambda x: x + x.new_ones(1)), (4, 10, 12), IMAGE + 1, IMAGE + 1),
        (Function(lambda x: x * x), (4, 10, 12), IMAGE, IMAGE),
        (Function(lambda x: torch.cat((x, x.sin()))), (4, 10, 12), IMAGE + 2 * IMAGE, IMAGE + 2 * IMAGE),
        # the sum of a row stands for its twelve columns without being copied
        (Function(lambda x: x + x.sum(-1, keepdim=True).expand_as(x)), (4, 10, 12), 2 * IMAGE + 40, 40 + IMAGE),
        (Function(lambda x: x + x[..., :1].expand_as(x)), (4, 10, 12), IMAGE + 40, IMAGE),
        # views, parts and what is merely allocated are free
        (Function(lambda x: x.flatten(1).mT.unsqueeze(0).split(60, 1)[1]), (4, 10, 12), 0, 0),
        (Function(lambda x: torch.empty_like(x)), (4, 10, 12), 0, 0),
        (Function(lambda x: torch.zeros_like(x)), (4, 10, 12), 0, IMAGE),
        # a reshape that needs a copy
        (Function(lambda x: x.mT.reshape(4, 120)), (4, 10, 12), IMAGE, IMAGE),
        # what is overwritten is not read
        (Function(lambda x: torch.empty_like(x).copy_(x)), (4, 10, 12), IMAGE, IMAGE),
        (Function(lambda x: torch.sin(x, out=torch.empty_like(x))), (4, 10, 12), IMAGE, IMAGE),
        (Function(lambda x: torch.empty_like(x).fill_(1)), (4, 10, 12), 0, IMAGE),
        # weights of an eager composite: a product and an addition that read what came before
        (Function(lambda x: (x @ x.mT).relu_()), (10, 12), 10 * 12 + 10 * 12 + 100, 200),
        (nn.Dropout(), (4, 10, 12), 0, 0),
    ],
)
def test_operators_move_what_a_hand_counts(
    layer: nn.Module, image_shape: tuple[int, ...], read: int, written: int
) -> None:
    assert count(layer, *image_shape) == (read * B, written * B)


def test_indices_that_an_operator_writes_have_eight_bytes() -> None:
    assert count(nn.MaxPool2d(2), 1, 4, 10, 12) == (IMAGE * B, IMAGE // 4 * (B + 8))


def test_half_precision_moves_half_the_bytes() -> None:
    layer = nn.Conv2d(4, 6, 3)
    full = count(layer, 1, 4, 10, 12)
    assert count(layer.to(torch.bfloat16), 1, 4, 10, 12) == tuple(moved // 2 for moved in full)


def test_attention_is_one_operator_without_its_matrix() -> None:
    heads, queries, keys, d_k, d_v = 2, 30, 50, 4, 6

    def attend(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x[..., :queries, :d_k], x[..., :d_k], x[..., :d_v])

    assert count(Function(attend), 1, heads, keys, 8) == (
        heads * (queries * d_k + keys * d_k + keys * d_v) * B,
        heads * queries * d_v * B,
    )


def test_position_attention_grows_with_the_pixels_not_with_their_square() -> None:
    channels, n = 32, 20 * 20
    with torch.device("meta"):
        layer = PositionAttention(channels)
    x, q = n * channels, n * channels // 8
    weights = 2 * (channels * channels // 8 + channels // 8) + channels * channels + channels
    read = 3 * x + weights + (2 * q + x) + (x + 1) + 2 * x  # projections, attention, times gamma, plus the input
    written = (2 * q + x) + x + x + x
    result = count(layer, 1, channels, 20, 20)
    # Laying the result out by channels again may need a copy.
    assert result in [(read * B, written * B), ((read + x) * B, (written + x) * B)]
    assert n * n > read  # the matrix alone would be more


@pytest.mark.parametrize(
    "name", ["eal_icnet", "unet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("edanet", "esnet"))]
)
def test_networks_move_at_least_their_weights_and_what_a_hook_sees(name: str) -> None:
    """Independently: every convolution's and normalisation's tensors, by forward hooks."""
    with torch.device("meta"):
        network = registry.models()[name].build().eval()
    seen = 0

    def see(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal seen
        tensors = (*inputs, output, *layer.parameters(), *(b for b in layer.buffers() if b.is_floating_point()))
        seen += sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU, nn.PReLU, nn.Linear)
    hooks = [layer.register_forward_hook(see) for layer in network.modules() if type(layer) in kinds]
    with torch.no_grad(), torch.device("meta"):
        network(torch.empty(1, 1, 64, 64))
    for hook in hooks:
        hook.remove()
    moved = sum(count_traffic(network, (1, 1, 64, 64)))
    assert seen < moved < 3 * seen
