"""Computes the training loss: binary cross-entropy plus soft Dice over the batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from benchmark.config.protocol import Loss


def segmentation_loss(
    logits: Tensor, mask: Tensor, settings: Loss, counted: Tensor | None = None, pixels: Tensor | None = None
) -> Tensor:
    """Return ``bce * BCE + dice * (1 - Dice)``, a scalar in float32.

    ``Dice = (2 * sum(p * g) + eps) / (sum(p) + sum(g) + eps)`` with p = sigmoid(logits), summed over the whole batch
    (Milletari et al., 3DV 2016, with plain instead of squared sums in the denominator).

    Args:
        logits: ``(N, 1, H, W)``, any floating type.
        mask: the same shape, 0 or 1.
        settings: weights and epsilon.
        counted: the same shape, 0 on ignored pixels, else 1; the cross-entropy of a batch without counted pixels is 0.
        pixels: divisor of the cross-entropy's sum in place of the number of counted pixels here: for a part of a batch,
            its share of the whole batch's counted pixels.
    """
    logits, mask = logits.float(), mask.float()
    probability = logits.sigmoid()
    if counted is None:
        bce = F.binary_cross_entropy_with_logits(logits, mask)
    else:
        total = F.binary_cross_entropy_with_logits(logits, mask, weight=counted, reduction="sum")
        bce = total / (counted.sum().clamp(min=1) if pixels is None else pixels)
        probability, mask = probability * counted, mask * counted
    overlap = (probability * mask).sum()
    dice = (2 * overlap + settings.epsilon) / (probability.sum() + mask.sum() + settings.epsilon)
    return settings.bce * bce + settings.dice * (1 - dice)
