"""Lists the training losses by name and computes the loss that a protocol names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.config.training_settings import Loss
from benchmark.data.batches import Batch
from benchmark.training.topology import soft_skeleton, worst_neighbours
from benchmark.utils import extensions
from benchmark.utils.errors import UserError

#: Logit of an ignored pixel that counts as certain background: its sigmoid is 0, and so is its gradient.
CERTAIN = 1e4

LossFunction = Callable[[Tensor, Tensor, Loss, Tensor | None, Tensor | None], Tensor]


def loss_of_layers(
    logits: Tensor, batch: Batch, layers: Sequence[str], settings: Loss, pixels: Sequence[Tensor] | None = None
) -> Tensor:
    """Return the mean of the layers' losses under ``loss.layer_weights``; of a single layer, its loss.

    Args:
        logits: ``(N, L, H, W)``, any floating type.
        batch: the masks, and which pixels count.
        layers: the names of the L layers.
        settings: of the loss.
        pixels: for each layer, as for :func:`segmentation_loss`.
    """
    losses = []
    for index in range(len(layers)):
        channel = slice(index, index + 1)
        counted = None if batch.counted is None else batch.counted[:, channel]
        divisor = None if pixels is None else pixels[index]
        losses.append(segmentation_loss(logits[:, channel], batch.masks[:, channel], settings, counted, divisor))
    if len(losses) == 1:
        return losses[0]
    weights = [settings.layer_weights.get(layer, 1.0) for layer in layers]
    return torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum() / sum(weights)


def segmentation_loss(
    logits: Tensor, mask: Tensor, settings: Loss, counted: Tensor | None = None, pixels: Tensor | None = None
) -> Tensor:
    """Return the loss that the settings name, a scalar in float32.

    Nothing in it waits for a GPU, so that a CUDA graph can hold it.

    Args:
        logits: ``(N, 1, H, W)``, any floating type.
        mask: the same shape, 0 or 1.
        settings: name and parameters of the loss.
        counted: the same shape, 0 on ignored pixels, else 1; a batch without counted pixels has no gradient.
        pixels: divisor of sums over pixels in place of the number of counted pixels here: for a part of a batch, its
            share of the whole batch's counted pixels. Losses that are no mean over pixels do not use it.
    """
    logits, mask = logits.float(), mask.float()
    if settings.name == "scnp":
        logits = worst_neighbours(logits, mask, counted)
    function = LOSS_FUNCTIONS.get(settings.of_logits, _installed)
    return function(logits, mask, settings, counted, pixels)


def bce_dice(logits: Tensor, mask: Tensor, settings: Loss, counted: Tensor | None, pixels: Tensor | None) -> Tensor:
    """Return ``bce * BCE + dice * (1 - Dice)``, with Dice of :func:`soft_dice`."""
    probability = logits.sigmoid()
    if counted is None:
        bce = F.binary_cross_entropy_with_logits(logits, mask)
    else:
        total = F.binary_cross_entropy_with_logits(logits, mask, weight=counted, reduction="sum")
        bce = total / (counted.sum().clamp(min=1) if pixels is None else pixels)
        probability, mask = probability * counted, mask * counted
    return settings.bce * bce + settings.dice * (1 - soft_dice(probability, mask, settings.epsilon))


def focal(logits: Tensor, mask: Tensor, settings: Loss, counted: Tensor | None, pixels: Tensor | None) -> Tensor:
    """Return the mean focal loss of the counted pixels (Lin et al., ICCV 2017)."""
    from segmentation_models_pytorch.losses import FocalLoss

    loss = FocalLoss("binary", alpha=settings.focal_alpha, gamma=settings.focal_gamma, reduction="none")
    losses: Tensor = loss(logits, mask)
    if counted is None:
        return losses.mean()
    return (losses * counted.flatten()).sum() / (counted.sum().clamp(min=1) if pixels is None else pixels)


def tversky(logits: Tensor, mask: Tensor, settings: Loss, counted: Tensor | None, pixels: Tensor | None) -> Tensor:
    """Return 1 - Tversky index over the batch (Salehi et al., MLMI 2017); 0 without foreground."""
    from segmentation_models_pytorch.losses import TverskyLoss

    loss = TverskyLoss("binary", alpha=settings.tversky_alpha, beta=1 - settings.tversky_alpha)
    value: Tensor = loss(*_ignored_as_background(logits, mask, counted))
    return value


def lovasz(logits: Tensor, mask: Tensor, settings: Loss, counted: Tensor | None, pixels: Tensor | None) -> Tensor:
    """Return the Lovász hinge of the foreground's IoU over the batch (Berman et al., CVPR 2018).

    On a GPU it needs ``determinism=seeded``: its cumulative sum has no deterministic kernel there.
    """
    from segmentation_models_pytorch.losses import LovaszLoss

    # An ignored pixel has no error, so it comes after all pixels with an error and changes none of their weights.
    value: Tensor = LovaszLoss("binary")(*_ignored_as_background(logits, mask, counted))
    return value


def cldice(logits: Tensor, mask: Tensor, settings: Loss, counted: Tensor | None, pixels: Tensor | None) -> Tensor:
    """Return ``(1 - alpha) * (1 - Dice) + alpha * (1 - clDice)`` (Shit et al., CVPR 2021, section 3.3).

    clDice is the harmonic mean of the share of the prediction's soft skeleton on the mask and the converse.
    """
    logits, mask = _ignored_as_background(logits, mask, counted)
    probability, epsilon = logits.sigmoid(), settings.epsilon
    predicted = soft_skeleton(probability, settings.cldice_iterations)
    true = soft_skeleton(mask, settings.cldice_iterations)
    precision = ((predicted * mask).sum() + epsilon) / (predicted.sum() + epsilon)
    sensitivity = ((true * probability).sum() + epsilon) / (true.sum() + epsilon)
    centreline = 2 * precision * sensitivity / (precision + sensitivity)
    alpha = settings.cldice_alpha
    return (1 - alpha) * (1 - soft_dice(probability, mask, epsilon)) + alpha * (1 - centreline)


#: The losses by name, scnp apart: it changes the logits of one of them.
LOSS_FUNCTIONS: Mapping[str, LossFunction] = MappingProxyType(
    {"bce_dice": bce_dice, "focal": focal, "tversky": tversky, "lovasz": lovasz, "cldice": cldice}
)


def _installed(logits: Tensor, mask: Tensor, settings: Loss, counted: Tensor | None, pixels: Tensor | None) -> Tensor:
    """Return the loss of an installed package: a function of logits, mask and the counted pixels (or ``None``).

    Raises:
        UserError: its result is no scalar tensor.
    """
    name = settings.of_logits
    value = extensions.load("losses", name)(*_ignored_as_background(logits, mask, counted), counted)
    if not isinstance(value, Tensor) or value.shape != ():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UserError(f"loss.name={name}: returned {shape}; expected a tensor of one number: take the mean")
    return value.float()


def soft_dice(probability: Tensor, mask: Tensor, epsilon: float) -> Tensor:
    """Return ``(2 * sum(p * g) + eps) / (sum(p) + sum(g) + eps)``, summed over the whole batch.

    Milletari et al., 3DV 2016, with plain instead of squared sums in the denominator.
    """
    overlap = (probability * mask).sum()
    return (2 * overlap + epsilon) / (probability.sum() + mask.sum() + epsilon)


def _ignored_as_background(logits: Tensor, mask: Tensor, counted: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return logits and mask in which ignored pixels are background beyond doubt, without a gradient."""
    return (logits, mask) if counted is None else (logits.masked_fill(counted == 0, -CERTAIN), mask * counted)
