"""Quick shapes are those of the whole computation; norms that take the statistics of a batch refuse as ever."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.shapes import QuickShapes, shadow


def test_shapes_are_those_of_the_computation_and_no_norm_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = nn.Sequential(nn.Conv2d(1, 3, 3, 2), nn.BatchNorm2d(3), nn.PReLU(3)).eval(), torch.rand(2, 1, 9, 11)
    shape = network(x).shape
    monkeypatch.setattr(torch, "batch_norm", None)
    with QuickShapes():
        assert shadow(network)(x.to("meta")).shape == shape


def test_norm_of_one_value_per_channel_is_refused() -> None:
    norm, x = nn.BatchNorm2d(3, track_running_stats=False, device="meta").eval(), torch.empty(1, 3, 1, 1, device="meta")
    with QuickShapes(), pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(x)


def test_shadow_has_the_weights_and_flags_of_a_network_that_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)).eval()
    network[1].weight.requires_grad_(requires_grad=False)
    network.append(network[0])  # tied
    copied = shadow(network)
    assert {tensor.device.type for tensor in copied.state_dict().values()} == {"meta"}
    for (name, weight), (other, of_copy) in zip(network.named_parameters(), copied.named_parameters(), strict=True):
        assert (name, weight.shape, weight.requires_grad) == (other, of_copy.shape, of_copy.requires_grad)
        assert weight.device.type == "cpu"
