"""LETNet against a few lines of plain torch; modules are compared in training mode, where batch norm needs no state."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.letnet import LDB, EfficientChannelAttention, LETNet, PatchTransformer, SplitAttention, long_connection
from tests.network_tester import NetworkTester


class TestLETNet(NetworkTester):
    name = "letnet"
    norms_left = 0.27

    @pytest.mark.slow  # seconds of its attention's rules on the meta device
    def test_inference_form_gives_equal_logits(self) -> None:
        super().test_inference_form_gives_equal_logits()


@pytest.fixture(scope="module")
def network() -> LETNet:
    """The network at its first values, which no test changes."""
    return LETNet().eval()


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def bn_prelu(x: Tensor) -> Tensor:
    return F.leaky_relu(F.batch_norm(x, None, None, training=True, eps=1e-3), 0.25)


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def test_eca_scales_channel_by_means_of_neighbours() -> None:
    module = EfficientChannelAttention()
    x = random(2, 5, 4, 3)
    before, own, after = module.conv.weight.flatten()
    means = F.pad(x.mean((2, 3)), (1, 1))
    weight = (before * means[:, :-2] + own * means[:, 1:-1] + after * means[:, 2:]).sigmoid()
    torch.testing.assert_close(module(x), x * weight[:, :, None, None])


def test_ldb_equals_plain_torch() -> None:
    unit = LDB(8, dilation=3)
    x = 0.05 * random(2, 8, 12, 10)  # so little variance that a wrong eps shows
    reduce, column, row, local_column, local_row, dilated_column, dilated_row, expand = convolutions(unit)
    u = F.conv2d(bn_prelu(x), reduce.weight)
    u = bn_prelu(F.conv2d(u, column.weight, padding=(1, 0)))
    u = bn_prelu(F.conv2d(u, row.weight, padding=(0, 1)))
    local = bn_prelu(F.conv2d(u, local_column.weight, padding=(1, 0), groups=4))
    local = bn_prelu(F.conv2d(local, local_row.weight, padding=(0, 1), groups=4))
    dilated = bn_prelu(F.conv2d(u, dilated_column.weight, padding=(3, 0), dilation=(3, 1), groups=4))
    dilated = bn_prelu(F.conv2d(dilated, dilated_row.weight, padding=(0, 3), dilation=(1, 3), groups=4))
    merged = unit.local[-1](local) + unit.dilated[-1](dilated) + u
    out = x + F.conv2d(bn_prelu(merged), expand.weight)
    torch.testing.assert_close(unit(x), out[:, [0, 2, 4, 6, 1, 3, 5, 7]])


@pytest.mark.parametrize(
    ("tokens", "pieces"),
    [(16, [4, 4, 4, 4]), (35, [8, 8, 8, 8, 3]), (7, [1] * 7), (3, [1] * 3)],
)
def test_attention_stays_within_a_quarter_of_the_tokens(tokens: int, pieces: list[int]) -> None:
    module = SplitAttention(288, heads=8)
    with torch.no_grad():
        module.qkv.weight *= 10  # scores near 0 would make every softmax uniform and hide the scale
    x = random(2, tokens, 288)
    # Features of the projection: query, key, value; in each, head by head 18 values.
    q, k, v = (x @ module.reduce.weight.T @ module.qkv.weight.T).split(144, dim=-1)
    expected = torch.empty(2, tokens, 144)
    for head in range(8):
        features = slice(18 * head, 18 * head + 18)
        start = 0
        for length in pieces:
            piece = slice(start, start + length)
            scores = q[:, piece, features] @ k[:, piece, features].transpose(1, 2) / 6
            expected[:, piece, features] = scores.softmax(dim=-1) @ v[:, piece, features]
            start += length
    expected = expected @ module.project.weight.T + module.project.bias
    torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)


def test_transformer_reads_patches_in_unfold_order_and_sums_their_overlaps() -> None:
    module = PatchTransformer(32, heads=8)
    x = 0.01 * random(2, 32, 5, 7)  # so little variance that a wrong eps shows
    offsets = [(row, column) for row in range(3) for column in range(3)]
    padded = F.pad(x, (1, 1, 1, 1))
    patches = torch.stack([padded[:, :, i : i + 5, j : j + 7] for i, j in offsets], dim=2)  # (N, 32, 9, 5, 7)
    tokens = patches.reshape(2, 288, 35).transpose(1, 2)
    tokens = tokens + module.attention(F.layer_norm(tokens, (288,), eps=1e-5))
    widen, narrow = module.mlp[0], module.mlp[2]
    hidden = F.linear(F.layer_norm(tokens, (288,), eps=1e-5), widen.weight, widen.bias).relu()
    tokens = tokens + F.linear(hidden, narrow.weight, narrow.bias)
    canvas = torch.zeros(2, 32, 7, 9)
    for (i, j), values in zip(offsets, tokens.transpose(1, 2).reshape(2, 32, 9, 5, 7).unbind(2), strict=True):
        canvas[:, :, i : i + 5, j : j + 7] += values
    torch.testing.assert_close(module(x), canvas[:, :, 1:-1, 1:-1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "in_channels"), [("up_1", 32), ("up_2", 16), ("up_3", 16)])
def test_up_stage(network: LETNet, name: str, in_channels: int) -> None:
    stage = copy.deepcopy(getattr(network, name)).train()
    transposed, scale = stage[0][0], stage[0][1].weight
    nn.init.constant_(scale, 10.0)  # so that ReLU6 has something to cut
    x = 0.05 * random(2, in_channels, 4, 5)
    out = F.conv_transpose2d(x, transposed.weight, transposed.bias, stride=2, padding=1, output_padding=1)
    out = F.batch_norm(out, None, None, weight=scale, training=True, eps=1e-3)
    assert out.max() > 6
    out = out.clamp(0, 6)
    if name == "up_3":
        (gate,) = convolutions(stage)
        out = out * F.conv2d(out, gate.weight, gate.bias).sigmoid()
    torch.testing.assert_close(stage(x), bn_prelu(out), atol=1e-5, rtol=1e-5)


def test_long_connection_is_linear() -> None:
    module = long_connection(8, 6)
    x = random(2, 8, 5, 7)
    column, row = module
    half = F.conv2d(x, column.weight, column.bias, padding=(1, 0))
    assert half.shape[1] == 4
    torch.testing.assert_close(module(x), F.conv2d(half, row.weight, row.bias, padding=(0, 1)))


def test_stages_and_their_connections() -> None:
    network = LETNet(classes=2).eval()
    taken: dict[str, Tensor] = {}
    given: dict[str, Tensor] = {}
    for name, stage in network.named_children():

        def keep(_: nn.Module, args: tuple[Tensor], out: Tensor, name: str = name) -> None:
            taken[name], given[name] = args[0], out

        stage.register_forward_hook(keep)
    image = torch.rand(1, 1, 64, 80)
    with torch.no_grad():
        logits = network(image)

    assert {name: (out.shape[1], 64 // out.shape[2]) for name, out in given.items()} == {
        "stem": (32, 2),
        "encoder_1": (64, 4),
        "encoder_2": (128, 8),
        "encoder_3": (32, 16),
        "transformer": (32, 16),
        "block_4": (32, 16),
        "long_3": (32, 16),
        "up_1": (16, 8),
        "block_5": (16, 8),
        "long_2": (16, 8),
        "up_2": (16, 4),
        "block_6": (16, 4),
        "long_1": (16, 4),
        "up_3": (16, 2),
        "head": (2, 1),
    }
    expected = {
        "stem": image,
        "encoder_1": given["stem"],
        "encoder_2": given["encoder_1"],
        "encoder_3": given["encoder_2"],
        "transformer": given["encoder_3"],
        "block_4": given["transformer"],
        "long_3": given["encoder_3"],
        "up_1": given["block_4"] + given["long_3"],
        "block_5": given["up_1"],
        "long_2": given["encoder_2"],
        "up_2": given["block_5"] + given["long_2"],
        "block_6": given["up_2"],
        "long_1": given["encoder_1"],
        "up_3": given["block_6"] + given["long_1"],
        "head": F.interpolate(given["up_3"], (64, 80), mode="bilinear", align_corners=False),
    }
    assert list(taken) == list(given)
    assert taken.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(taken[name], value, msg=lambda text, name=name: f"input of {name}: {text}")
    assert torch.equal(logits, given["head"])
    assert network.head.bias is None


def test_stem_strides_last(network: LETNet) -> None:
    assert [layer.stride for layer in convolutions(network.stem)] == [(1, 1), (1, 1), (2, 2)]
    assert len(network.stem) == 4  # the last convolution's norm and slope are followed by another


def test_dilations(network: LETNet) -> None:
    pairs = [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32]
    expected = {
        "encoder_1": [2] * 3,
        "encoder_2": pairs,
        "encoder_3": pairs,
        "block_4": [2] * 3,
        "block_5": [2] * 3,
        "block_6": [2] * 3,
    }
    result = {
        name: [convolutions(unit.dilated)[0].dilation[0] for unit in stage.modules() if isinstance(unit, LDB)]
        for name, stage in network.named_children()
    }
    assert {name: dilations for name, dilations in result.items() if dilations} == expected


def test_constants(network: LETNet) -> None:
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(layer.eps, layer.momentum) for layer in norms} == {(1e-3, 0.1)}
    # A bottleneck at 64, 128, 32 and 16 channels, and the transformer.
    counted = [network.encoder_1[1][0], network.encoder_2[1][0], network.block_4[0], network.block_5[0]]
    counts = [sum(p.numel() for p in module.parameters()) for module in (*counted, network.transformer)]
    assert counts == [11_494, 43_462, 3_190, 958, 188_424]


def test_inputs_of_fewer_than_four_tokens_work(network: LETNet) -> None:
    with torch.no_grad():
        assert network(torch.rand(1, 1, 16, 48)).shape == (1, 1, 16, 48)
