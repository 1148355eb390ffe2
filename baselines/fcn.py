"""FCN: VGG16 without its classifier, then five transposed convolutions with added skips.

Paper: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
https://arxiv.org/abs/1411.4038. The decoder is that of the "FCNs" in public VGG-FCN code. It adds the pooled feature at
every scale; the paper stops at 1/8 (FCN-8s). Deviations from that code: the encoder is the VGG16 of
segmentation-models-pytorch, so images may have any number of channels, and weights are downloaded only on request.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from baselines.encoders import vgg_encoder
from models.blocks import check_input


class Up(nn.Sequential):
    """Double a map by a transposed convolution, then ReLU, then BatchNorm (in this order, as published)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(out_channels),
        )


class FCN(nn.Module):
    """FCN on VGG16; 18,642,561 parameters for one channel and one class.

    Args:
        in_channels: channels C of the image.
        classes: channels of the logits.
        encoder_weights: ``None`` for random weights, or ``"imagenet"`` for pretrained weights, which smp downloads.
    """

    size_multiple: ClassVar[int] = 32  # five poolings

    def __init__(self, in_channels: int = 1, classes: int = 1, *, encoder_weights: str | None = None) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder = vgg_encoder("vgg16", in_channels, depth=5, weights=encoder_weights)
        self.ups = nn.ModuleList([Up(512, 512), Up(512, 256), Up(256, 128), Up(128, 64), Up(64, 32)])
        self.head = nn.Conv2d(32, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to logits ``(N, classes, H, W)``."""
        check_input(x, self.in_channels, self.size_multiple)
        *before_pools, _, x = self.encoder(x)
        skips = [F.max_pool2d(feature, 2) for feature in before_pools]
        for up in self.ups:
            x = up(x)
            if skips:
                x = x + skips.pop()
        logits: Tensor = self.head(x)
        return logits
