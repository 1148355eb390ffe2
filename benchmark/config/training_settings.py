"""Defines the settings of a training: optimisation, augmentation and loss."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from benchmark.config.setting_types import ByDataset, Count, SettingsModel, Share

LearningRate = Annotated[float, Field(gt=0)]


class Training(SettingsModel):
    """Optimisation."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(1e-3, gt=0)
    lr_by_model: dict[str, LearningRate] = Field({}, description="exceptions to `lr`, by network")
    momentum: Share = Field(0.9, description="of sgd")
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine", "poly"] = Field(
        "constant",
        description="cosine falls to 0 after the last step; poly too, as (1 - share of the steps)^poly_power",
    )
    poly_power: float = Field(0.9, gt=0)
    warmup: Share = Field(0.0, description="share of the steps in which the learning rate first rises to lr")
    clip_norm: float | None = Field(None, gt=0, description="greatest norm of the gradient of all weights together")
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of an average of the weights, which are validated, tested and kept"
    )
    batch: int = Field(1, ge=1, description="images per optimiser step")
    micro_batch: int | None = Field(
        None, ge=1, description="images per forward, and so of BatchNorm and Dice; gradients accumulate up to `batch`"
    )
    micro_batch_by_dataset: ByDataset[Count] = Field({}, description="exceptions to `micro_batch`, by dataset")
    epochs: int = Field(30, ge=1, description="passes over the training images, at most")
    steps: int | None = Field(None, ge=1, description="exact number of optimiser steps instead of epochs")
    steps_by_model: dict[str, Count] = Field({}, description="exceptions to `steps`, by network")
    validate_every: int | None = Field(None, ge=1, description="steps between validations; otherwise once per epoch")
    patience: int | None = Field(None, ge=1, description="validations without improvement before an early stop")
    min_delta: float = Field(1e-7, ge=0, description="the least fall of the validation loss that counts")
    augmentation: Literal["none", "flips_turns"] = "none"
    crops: Literal["tile", "block"] = Field(
        "tile", description="where random crops lie: inside of a tile, or across its edges to training tiles beside it"
    )
    mixed_precision: Literal["off", "bfloat16"] = Field(
        "off", description="of convolutions and products, on a GPU, or on small inputs on a CPU that has bfloat16"
    )
    norm_reestimation_batches: int = Field(
        0, ge=0, description="training batches that BatchNorm statistics are averaged over before each validation"
    )
    encoder_weights: str | None = Field(
        None,
        description="imagenet: download pretrained encoders (needs a network); or a file: the state_dict of the "
        "network's module `encoder`, with these input channels",
    )

    @property
    def encoder_file(self) -> Path | None:
        """The file of the encoder's first weights."""
        named = self.encoder_weights not in (None, "imagenet")
        return Path(str(self.encoder_weights)) if named else None

    def for_model(self, name: str) -> Self:
        """Return the settings of a network's training: with its own learning rate and steps, if it has any."""
        own = {"lr": self.lr_by_model.get(name, self.lr), "steps": self.steps_by_model.get(name, self.steps)}
        return self.model_copy(update=own | {f"{setting}_by_model": {} for setting in own})

    def micro_batch_for(self, dataset: str) -> int:
        """Return the images per forward for a dataset."""
        chosen = self.micro_batch_by_dataset.get(dataset.removesuffix("-syn"), self.micro_batch)
        return min(chosen or self.batch, self.batch)


class Photometric(SettingsModel):
    """Random changes of training images; each image draws its own strength, from none up to the given one."""

    gain: Share = Field(0.0, description="factor of all values, from 1 - gain to 1 + gain")
    gamma: float = Field(0.0, ge=0, description="exponent of all values, from 1 / (1 + gamma) to 1 + gamma")
    blur: float = Field(0.0, ge=0, le=16, description="standard deviation of a Gaussian blur, pixels")
    noise: float = Field(0.0, ge=0, le=1, description="standard deviation of Gaussian noise, share of the full scale")
    blocks: float = Field(
        0.0, ge=0, description="JPEG's losses in blocks of 8x8, as a factor of its steps at quality 50"
    )

    transforms: Annotated[tuple[str, ...], Field(strict=False)] = Field(  # TOML has lists only
        (), description="transforms of installed packages, in this order after the others"
    )

    @property
    def is_on(self) -> bool:
        """Whether any image changes."""
        return self != Photometric()


LossOfLogits = Literal["bce_dice", "focal", "tversky", "lovasz", "cldice"]


class Loss(SettingsModel):
    """The training loss; the settings of a loss begin with its name, and the first three belong to bce_dice."""

    name: LossOfLogits | Literal["scnp"] | str = Field(
        "bce_dice",
        description="scnp replaces each logit by the worst of its class among 3x3 neighbours; installed packages add "
        "losses",
    )
    bce: float = Field(0.5, ge=0, description="weight of binary cross-entropy on logits")
    dice: float = Field(0.5, ge=0, description="weight of soft Dice over the batch")
    epsilon: float = Field(1e-6, gt=0, description="added to both sides of the ratios of Dice and of cldice")
    focal_alpha: float | None = Field(
        None, gt=0, lt=1, description="weight of foreground, 1 - this of background; none: all pixels weigh the same"
    )
    focal_gamma: float = Field(2.0, ge=1, description="exponent that lowers the weight of pixels predicted well")
    tversky_alpha: float = Field(0.3, gt=0, lt=1, description="weight of false positives, 1 - this of false negatives")
    cldice_alpha: float = Field(
        0.5, gt=0, le=0.5, description="weight of soft clDice, at most 0.5 as in its paper; 1 - this of soft Dice"
    )
    cldice_iterations: int = Field(
        20, ge=1, le=100, description="erosions of a soft skeleton: at least half of the widest structure, pixels"
    )
    layer_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="weights of layers in the mean of their losses, 1 each by default, of targets such as track+via"
    )
    scnp_inside: LossOfLogits | str = Field("bce_dice", description="loss that scnp computes from the worst logits")

    @model_validator(mode="after")
    def _something_is_left_to_minimise(self) -> Self:
        if self.bce == self.dice == 0:
            raise ValueError("loss.bce and loss.dice are both 0; at least one must be positive")
        return self

    @property
    def of_logits(self) -> str:
        """Name of the loss that is computed, be it from the logits or from their worst neighbours."""
        return self.scnp_inside if self.name == "scnp" else self.name
