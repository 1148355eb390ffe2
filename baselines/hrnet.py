"""HRNetV2: four parallel branches from 1/4 to 1/32, joined at 1/4.

Paper: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2021,
https://arxiv.org/abs/1908.07919. The branches exchange their maps. They are timm's HRNet (MIT licence, a port of the
authors' image classification code). Head, initialisation and BatchNorm's momentum are those of the authors'
segmentation code. Deviations from the segmentation code: timm enlarges maps between branches by the nearest neighbour,
not bilinearly, and this file enlarges the logits, while the authors leave them at 1/4 for the loss.
"""

from __future__ import annotations

from typing import ClassVar

import timm
import torch
from timm.models import FeatureInfo
from torch import Tensor, nn

from baselines.encoders import check_weights
from models.blocks import check_input, resize_to


class HRNet(nn.Module):
    """HRNetV2; for one channel and one class 65,845,249 parameters (W48), 9,635,089 (W18), 3,933,549 (W18 small v2).

    Args:
        in_channels: channels C of the image.
        classes: channels of the logits.
        width: channels of the 1/4 branch, as in timm's ``hrnet_*``: ``w48``, ``w18``, ``w18_small_v2``, ...
        encoder_weights: ``None`` for random weights, or ``"imagenet"`` for pretrained weights, which timm downloads.

    Raises:
        ValueError: timm has no such width, or the weights have another name.
    """

    size_multiple: ClassVar[int] = 32  # the coarsest branch

    def __init__(
        self, in_channels: int = 1, classes: int = 1, *, width: str = "w48", encoder_weights: str | None = None
    ) -> None:
        super().__init__()
        if not timm.is_model(f"hrnet_{width}"):
            known = ", ".join(name.removeprefix("hrnet_") for name in timm.list_models("hrnet_w*"))
            raise ValueError(f"width must be one of {known}; found {width!r}")
        check_weights(encoder_weights)
        self.in_channels = in_channels
        # Only the four branches: timm would widen them for its classifier and put the stem before them as index 0.
        self.encoder = timm.create_model(
            f"hrnet_{width}",
            pretrained=encoder_weights is not None,
            in_chans=in_channels,
            features_only=True,
            feature_location="",
            out_indices=(1, 2, 3, 4),
        )
        feature_info: FeatureInfo = self.encoder.feature_info  # type: ignore[assignment]  # set by features_only
        joined = sum(feature_info.channels())
        self.head = nn.Sequential(
            nn.Conv2d(joined, joined, 1), nn.BatchNorm2d(joined), nn.ReLU(inplace=True), nn.Conv2d(joined, classes, 1)
        )
        for module in (self.head if encoder_weights else self).modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.01

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to logits ``(N, classes, H, W)``."""
        check_input(x, self.in_channels, self.size_multiple)
        branches = self.encoder(x)
        height, width = x.shape[-2:]
        joined = [resize_to(branch, (height // 4, width // 4), align_corners=False) for branch in branches]
        return resize_to(self.head(torch.cat(joined, dim=1)), (height, width), align_corners=False)
