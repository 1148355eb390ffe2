"""Parts of segmentation-models-pytorch (smp) without the layers that are never called."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from models.blocks import check_input

EFFICIENTNETS = tuple(f"efficientnet-b{scale}" for scale in range(8))


def check_weights(weights: str | None) -> None:
    """Refuse pretrained weights other than ``"imagenet"``: only these exist for every baseline's encoder.

    Raises:
        ValueError: for any other name.
    """
    if weights not in (None, "imagenet"):
        raise ValueError(f"encoder_weights must be None or 'imagenet', found {weights!r}")


def vgg_encoder(name: str, in_channels: int, depth: int, weights: str | None) -> nn.Module:
    """Build smp's VGG encoder: features are the maps before the first ``depth`` poolings, and the last map.

    Args:
        name: ``vgg16``, ``vgg13_bn``, ... (Simonyan and Zisserman, ICLR 2015, arXiv:1409.1556).
        in_channels: channels of the image.
        depth: halvings of the image; the encoder returns ``depth + 1`` features.
        weights: ``None``, or ``"imagenet"`` for pretrained weights, which smp downloads.

    Returns:
        The encoder. Without weights, all convolutions are initialised as in torchvision: Kaiming normal over the fan
        out, biases zero. (For images without three channels, smp leaves the first convolution at another scale.)

    Raises:
        ValueError: the weights have another name.
    """
    check_weights(weights)
    if weights is not None:
        return get_encoder(name, in_channels, depth, weights)  # type: ignore[no-any-return,no-untyped-call]  # untyped
    # smp builds VGG's classifier of 124 million weights and deletes it; the meta device makes this free.
    device = torch.get_default_device()
    with torch.device("meta"):
        encoder: nn.Module = get_encoder(name, in_channels, depth)  # type: ignore[no-untyped-call]  # untyped
    encoder.to_empty(device=device)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return encoder


class EfficientNetSegmenter(nn.Module):
    """A network of smp on an EfficientNet without its classification head (``_conv_head``, ``_bn1``).

    Segmentation never calls the head, but smp keeps its weights: they would count as parameters and get no gradient.
    Parameters keep smp's names, so smp's checkpoints load with ``strict=False``.

    Args:
        architecture: smp's class.
        encoder: ``efficientnet-b0`` to ``efficientnet-b7``.
        in_channels: channels C of the image.
        classes: channels of the logits.
        encoder_weights: ``None`` for random weights, or ``"imagenet"`` for pretrained weights, which smp downloads.

    Raises:
        ValueError: ``encoder`` is no EfficientNet, or the weights have another name.
    """

    size_multiple: ClassVar[int] = 32  # five halvings of the encoder

    def __init__(
        self,
        architecture: Callable[..., nn.Module],
        encoder: str,
        in_channels: int,
        classes: int,
        encoder_weights: str | None,
    ) -> None:
        super().__init__()
        if encoder not in EFFICIENTNETS:
            raise ValueError(f"encoder must be one of {', '.join(EFFICIENTNETS)}; found {encoder!r}")
        check_weights(encoder_weights)
        self.in_channels = in_channels
        network = architecture(encoder, encoder_weights=encoder_weights, in_channels=in_channels, classes=classes)
        self.encoder = network.get_submodule("encoder")
        self.encoder._conv_head = nn.Identity()
        self.encoder._bn1 = nn.Identity()
        self.decoder = network.get_submodule("decoder")
        self.segmentation_head = network.get_submodule("segmentation_head")
        # For images without three channels, smp makes the first convolution on the CPU, whatever the default device.
        self.to(torch.get_default_device())

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to logits ``(N, classes, H, W)``."""
        check_input(x, self.in_channels, self.size_multiple)
        logits: Tensor = self.segmentation_head(self.decoder(self.encoder(x)))
        return logits
