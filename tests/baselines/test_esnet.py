"""ESNet against a few lines of plain torch; modules are compared in training mode, where batch norm needs no state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.esnet import FCU, PFCU, ESNet, down
from tests.network_tester import NetworkTester


class TestESNet(NetworkTester):
    name = "esnet"
    norms_left = 0.11


def small_input(channels: int, height: int = 12, width: int = 10) -> Tensor:
    """A map of so little variance that a wrong eps shows."""
    return 0.05 * torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))


def norm(x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True, eps=1e-3)


def factorized(x: Tensor, column: nn.Conv2d, row: nn.Conv2d, kernel_size: int, dilation: int = 1) -> Tensor:
    reach = dilation * (kernel_size // 2)
    x = F.conv2d(x, column.weight, column.bias, padding=(reach, 0), dilation=(dilation, 1)).relu()
    return F.conv2d(x, row.weight, row.bias, padding=(0, reach), dilation=(1, dilation))


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_fcu_equals_plain_torch(kernel_size: int) -> None:
    unit = FCU(4, kernel_size, dropout=0.0)
    x = small_input(4)
    column_1, row_1, column_2, row_2 = convolutions(unit)
    assert column_1.kernel_size == (kernel_size, 1)
    inner = norm(factorized(x, column_1, row_1, kernel_size)).relu()
    expected = (x + norm(factorized(inner, column_2, row_2, kernel_size))).relu()
    torch.testing.assert_close(unit(x), expected)


def test_pfcu_updates_its_one_shared_norm_three_times_a_step() -> None:
    unit = PFCU(4)
    unit.dropout.p = 0.0
    x = small_input(4, 24, 20)
    column, row, *dilated = convolutions(unit)
    trunk = norm(factorized(x, column, row, 3)).relu()
    mean, variance = torch.zeros(4), torch.ones(4)
    expected = x
    for branch, dilation in enumerate((2, 5, 9)):
        out = factorized(trunk, dilated[2 * branch], dilated[2 * branch + 1], 3, dilation)
        # F.batch_norm moves the mean and the variance that it is given.
        expected = expected + F.batch_norm(out, mean, variance, training=True, momentum=0.1, eps=1e-3)
    torch.testing.assert_close(unit(x), expected.relu())
    assert unit.shared_norm.num_batches_tracked == 3
    torch.testing.assert_close(unit.shared_norm.running_mean, mean)
    torch.testing.assert_close(unit.shared_norm.running_var, variance)


def test_pfcu_normalises_every_branch_by_shared_statistics_in_eval() -> None:
    unit = PFCU(4)
    x = small_input(4, 24, 20)
    unit(x)
    unit.eval()
    trunk = unit.trunk(x)
    mean, variance = unit.shared_norm.running_mean, unit.shared_norm.running_var
    branches = [F.batch_norm(branch(trunk), mean, variance, eps=1e-3) for branch in unit.branches]
    torch.testing.assert_close(unit(x), (x + branches[0] + branches[1] + branches[2]).relu())


def test_dropout_comes_after_the_norm() -> None:
    x = small_input(4).abs()
    for unit in (FCU(4, 3, dropout=1.0), PFCU(4)):
        for layer in unit.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.ones_(layer.bias)
            elif isinstance(layer, nn.Dropout2d):
                layer.p = 1.0
        assert torch.equal(unit(x), x)


def test_down_stage_puts_the_convolution_before_the_pool() -> None:
    stage = down(3, 8)
    x = small_input(3)
    (layer,) = convolutions(stage)
    halves = [F.conv2d(x, layer.weight, layer.bias, stride=2, padding=1), F.max_pool2d(x, 2)]
    torch.testing.assert_close(stage(x), norm(torch.cat(halves, dim=1)).relu())


@pytest.mark.parametrize(("index", "in_channels", "out_channels"), [(0, 128, 64), (3, 64, 16)])
def test_upsampler(index: int, in_channels: int, out_channels: int) -> None:
    stage = ESNet().decoder[index]
    transposed, scale = stage[0], stage[1].weight
    nn.init.constant_(scale, 10.0)  # beyond 6, where a ReLU6 would differ
    x = small_input(in_channels)
    doubled = F.conv_transpose2d(x, transposed.weight, transposed.bias, stride=2, padding=1, output_padding=1)
    assert doubled.shape == (2, out_channels, 24, 20)
    torch.testing.assert_close(stage(x), (10 * norm(doubled)).relu())


def test_stages() -> None:
    network = ESNet(in_channels=1, classes=2).eval()
    x = torch.rand(1, 1, 16, 24)
    result = []
    for stage in (*network.encoder, *network.decoder):
        x = stage(x)
        kernels = {max(layer.kernel_size) for layer in convolutions(stage)}
        result.append((type(stage).__name__, x.shape[1], 24 // x.shape[3], *kernels))
    assert result == [
        ("Sequential", 16, 2, 3),
        *[("FCU", 16, 2, 3)] * 3,
        ("Sequential", 64, 4, 3),
        *[("FCU", 64, 4, 5)] * 2,
        ("Sequential", 128, 8, 3),
        *[("PFCU", 128, 8, 3)] * 3,
        ("Upsampler", 64, 4),
        *[("FCU", 64, 4, 5)] * 2,
        ("Upsampler", 16, 2),
        *[("FCU", 16, 2, 3)] * 2,
        ("ConvTranspose2d", 2, 1),
    ]


def test_rates_and_constants() -> None:
    network = ESNet()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(layer.eps, layer.momentum) for layer in norms} == {(1e-3, 0.1)}
    rates = [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout2d)]
    assert rates == [0.03] * 5 + [0.3] * 3 + [0.0] * 4
    assert all(layer.bias is not None for layer in convolutions(network))
