"""Feeds, trains and runs a network as most repositories of the field do.

float32 in NCHW as torch builds it, images decoded by PIL and converted by ToTensor in a DataLoader, attention by its
formula with the whole matrix in memory, and ``loss.item()`` after every step. Nothing in it is slower than that way is:
forwards run in inference mode, the optimiser is torch's default Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms.functional import to_tensor

from benchmark.config.protocol import Protocol
from benchmark.training.losses import segmentation_loss
from models.attention import PositionAttention, position_attention_plain
from models.blocks import BNPReLU

FORWARD = "float32, NCHW, attention by its formula, inference mode"
STEP = "float32, NCHW, attention by its formula, Adam, loss.item()"
FEEDING = "PIL and ToTensor per image, DataLoader without worker processes"


class PlainImages(Dataset[tuple[Tensor, Tensor]]):
    """Images and masks as files, decoded whenever they are asked for."""

    def __init__(self, files: Sequence[tuple[Path, Path]]) -> None:
        self.files = files

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image ``(C, H, W)`` in [0, 1] and its mask ``(1, H, W)`` in {0, 1}."""
        image, mask = (Image.open(file) for file in self.files[index])
        return to_tensor(image), (to_tensor(mask.convert("L")) > 0.5).float()


def plain_form(network: nn.Module) -> nn.Module:
    """Let a network hold its attention matrices, and all that its norms made, from now on, and return it."""
    for layer in network.modules():
        if isinstance(layer, PositionAttention):
            layer.attend = position_attention_plain
        elif isinstance(layer, BNPReLU):
            layer.sparing = False
    return network


def train(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    protocol: Protocol,
    on_step: Callable[[float], None],
) -> None:
    """Train a network for one pass over batches.

    Args:
        network: in its plain form, in train mode, on its device.
        batches: images ``(N, C, H, W)`` and masks ``(N, 1, H, W)``.
        protocol: learning rate, weight decay and loss.
        on_step: called with the loss of every step.
    """
    device = next(network.parameters()).device
    settings = protocol.training
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    for images, masks in batches:
        optimizer.zero_grad()
        loss = segmentation_loss(network(images.to(device)), masks.to(device), protocol.loss)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward unannotated
        optimizer.step()
        on_step(loss.item())
