"""MAnet: a U-shaped network with attention over channels and positions.

The decoder weighs channels, and the centre attends over all positions.

Paper: Fan et al., "MA-Net: A Multi-Scale Attention Network for Liver and Tumor Segmentation", IEEE Access 2020,
https://doi.org/10.1109/ACCESS.2020.3025372. Built by segmentation-models-pytorch (smp) on EfficientNet-B0, as in the
comparisons of the IC literature. Deviations from the paper, all by smp: the encoder (the paper has a plain residual
encoder), a 3x3 head, and a position attention whose softmax runs over the whole matrix instead of row by row.
"""

from __future__ import annotations

import segmentation_models_pytorch as smp

from baselines.encoders import EfficientNetSegmenter


class MAnet(EfficientNetSegmenter):
    """MAnet with EfficientNet-B0; 8,679,621 parameters for one channel and one class.

    Args:
        in_channels: channels C of the image.
        classes: channels of the logits.
        encoder_weights: ``None`` for random weights, or ``"imagenet"`` for pretrained weights, which smp downloads.
    """

    def __init__(self, in_channels: int = 1, classes: int = 1, *, encoder_weights: str | None = None) -> None:
        super().__init__(smp.MAnet, "efficientnet-b0", in_channels, classes, encoder_weights)
