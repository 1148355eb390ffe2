"""MAnet: the properties of all networks, and that it is smp's with its position attention in plain torch."""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.nn import functional as F

from baselines.manet import MAnet
from tests.baselines.plain import assert_same_as_smp, random_batchnorm
from tests.network_tester import NetworkTester


class TestMAnet(NetworkTester):
    name = "manet"

    def prepare(self, network: nn.Module) -> nn.Module:
        """Open the squeezes of the channel attention: one or two wide, at random weights their ReLU may be shut."""
        for block in network.decoder.blocks[:-1]:
            for attention in (block.SE_ll, block.SE_hl):
                nn.init.ones_(attention[1].bias)
        return network


def test_network_equals_smp_without_encoder_head() -> None:
    assert_same_as_smp(MAnet(), smp.MAnet("efficientnet-b0", encoder_weights=None, in_channels=1))


def test_position_attention_is_softmax_over_whole_matrix() -> None:
    centre = random_batchnorm(MAnet()).eval().decoder.center
    x = torch.rand(2, 320, 2, 3)
    with torch.inference_mode():
        top, middle, bottom = (conv(x).flatten(2) for conv in (centre.top_conv, centre.center_conv, centre.bottom_conv))
        scores = torch.einsum("nci,ncj->nij", middle, top)
        attention = F.softmax(scores.flatten(1), dim=1).view_as(scores)
        attended = torch.einsum("nij,ncj->nic", attention, bottom)
        # smp reads the (positions, channels) matrix as (channels, H, W) without transposing it back.
        torch.testing.assert_close(centre(x), centre.out_conv(x + attended.reshape_as(x)))
