"""UNet++: a U-Net with nested, densely connected skips, on an EfficientNet.

Paper: Zhou et al., "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", DLMIA 2018,
https://arxiv.org/abs/1807.10165; on an EfficientNet for ICs as E-UNet++, https://doi.org/10.1002/cta.4485. Built by
segmentation-models-pytorch (smp). Deviations: no deep supervision, as in smp, and EfficientNet-B0 by default, as in the
published comparison scripts. E-UNet++ uses B7 (``encoder="efficientnet-b7"``).
"""

from __future__ import annotations

import segmentation_models_pytorch as smp

from baselines.encoders import EfficientNetSegmenter


class UNetPlusPlus(EfficientNetSegmenter):
    """UNet++ on an EfficientNet; 6,156,845 parameters (B0) or 66,518,881 (B7) for one channel and one class.

    Args:
        in_channels: channels C of the image.
        classes: channels of the logits.
        encoder: ``efficientnet-b0`` to ``efficientnet-b7``.
        encoder_weights: ``None`` for random weights, or ``"imagenet"`` for pretrained weights, which smp downloads.

    Raises:
        ValueError: ``encoder`` is no EfficientNet, or the weights have another name.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        *,
        encoder: str = "efficientnet-b0",
        encoder_weights: str | None = None,
    ) -> None:
        super().__init__(smp.UnetPlusPlus, encoder, in_channels, classes, encoder_weights)
