"""A network's weights handed out in order, for forward passes that a test writes in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Weights:
    """Hands out the weight owners in the constructor's order, so that a wrong order fails as a wrong number does."""

    def __init__(self, network: nn.Module) -> None:
        self._owners = [m for m in network.modules() if next(m.parameters(recurse=False), None) is not None][::-1]

    def conv(
        self,
        x: Tensor,
        kernel: tuple[int, int],
        out_channels: int,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> Tensor:
        owner = self._owners.pop()
        assert isinstance(owner, nn.Conv2d)
        assert owner.weight.shape == (out_channels, x.shape[1] // groups, *kernel)
        assert (owner.bias is not None) == bias
        return F.conv2d(x, owner.weight, owner.bias, stride, padding, dilation, groups)

    def bn(self, x: Tensor, eps: float) -> Tensor:
        owner = self._owners.pop()
        assert isinstance(owner, nn.BatchNorm2d)
        assert owner.momentum == 0.1
        assert owner.running_mean is not None
        return F.batch_norm(x, owner.running_mean, owner.running_var, owner.weight, owner.bias, eps=eps)

    def prelu(self, x: Tensor) -> Tensor:
        owner = self._owners.pop()
        assert isinstance(owner, nn.PReLU)
        return F.prelu(x, owner.weight)

    def bn_prelu(self, x: Tensor) -> Tensor:
        return self.prelu(self.bn(x, 1e-3))

    def bn_relu(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(x, 1e-5))

    def assert_used_up(self) -> None:
        assert self._owners == []


def unsettle(network: nn.Module) -> nn.Module:
    """Give norms and slopes values at which a wrong eps or order shows: variances near 1e-3, gains that offset them."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.05)
            nn.init.uniform_(module.running_var, 0.001, 0.003)
            nn.init.uniform_(module.weight, 0.05, 0.1)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.3, 0.5)
    return network


def assert_same_logits(found: Tensor, expected: Tensor) -> None:
    """Compare two float64 results in units of the spread of the expected one over pixels."""
    spread = expected.std()
    assert spread > 0
    torch.testing.assert_close(found / spread, expected / spread, atol=1e-7, rtol=0)
