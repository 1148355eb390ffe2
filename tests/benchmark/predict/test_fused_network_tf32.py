"""Norms are folded on a GPU as on a CPU, though its convolutions round to TF32: emulated here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmark.config import registry
from benchmark.devices.precision import rounds_to_tf32
from benchmark.predict.fused_network import ready
from benchmark.speedup.networks import build

NETWORKS = [
    name if name == "contextnet" else pytest.param(name, marks=pytest.mark.slow)  # the lightest
    for name in registry.models()
    if "." not in name and name not in ("fcn", "residual_unet")  # variants are slower still; these have no BatchNorm
]


class TF32(TorchFunctionMode):
    """Rounds what dense convolutions are given to TF32's ten bits of fraction, where torch's settings allow it."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.conv2d, torch.conv_transpose2d) and rounds_to_tf32("convolutions"):
            image, weight, *rest = args
            if weight.device.type != "meta":
                args = (rounded(image), rounded(weight), *rest)
        return func(*args, **kwargs)


def rounded(values: Tensor) -> Tensor:
    bits = values.contiguous().view(torch.int32)
    return ((bits + (1 << 12)) & ~((1 << 13) - 1)).view(torch.float32)


class Trained(nn.Module):
    """A network with logits as large as training makes them."""

    def __init__(self, network: nn.Module, lowest: float, highest: float) -> None:
        super().__init__()
        self.network, self.middle, self.factor = network, (lowest + highest) / 2, 40 / (highest - lowest)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = (self.network(x) - self.middle) * self.factor
        return logits


@pytest.mark.parametrize("name", NETWORKS)
def test_tf32_leaves_no_norm_unfolded(name: str) -> None:
    network = build(registry.models()[name]).eval()
    if name == "hrnet":  # its initial weights are so small that the image hardly reaches the logits
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, generator=torch.Generator().manual_seed(0))
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        trained = Trained(network, *map(float, torch.aminmax(network(image)))).eval()
    expected = ready(trained, image.shape)
    with TF32(), torch.inference_mode():
        result = ready(trained, image.shape)
        assert rounds_to_tf32("convolutions")
        rounding = float((trained(image) - expected(image)).abs().max())
    assert rounding > 2e-3  # which would hide whether the two forms agree
    assert (result.as_written, expected.as_written) == ("", "")
    assert norms(result) == norms(expected) < norms(trained)


def norms(network: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
