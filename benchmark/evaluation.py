"""Testing one network: from test images to rows of integer counts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from benchmark.data.batches import evaluation_batches
from benchmark.data.datasets import Target
from benchmark.data.packs import Pack
from benchmark.protocol import Protocol
from benchmark.scoring import Row, count
from benchmark.training import autocast


@torch.inference_mode()
def evaluate(
    network: nn.Module, pack: Pack, indices: Sequence[int], target: Target, protocol: Protocol, device: torch.device
) -> list[Row]:
    """Predict and score images; scoring runs in a thread beside the next forward.

    Args:
        network: on ``device``; switched to eval mode.
        pack: the dataset.
        indices: the images, scored in this order.
        target: decides between net and via counts.
        protocol: input size, threshold, border, minimum area.
        device: where the network is.

    Returns:
        One row per image: ``image``, ``group``, then the integer terms of every metric.
    """
    network.eval()
    size = protocol.input.size_for(pack.dataset)
    rows = []
    with ThreadPoolExecutor(1) as scorer:
        position = 0
        for batch in evaluation_batches(pack, indices, size, protocol.evaluation.batch, device):
            with autocast(device, protocol):
                logits = network(batch.images)
            predicted = (logits.float().sigmoid() >= protocol.evaluation.threshold)[:, 0].cpu().numpy()
            truth = (batch.masks > 0)[:, 0].cpu().numpy()
            for prediction, label in zip(predicted, truth, strict=True):
                tile = pack.tiles[indices[position]]
                rows.append((tile, scorer.submit(count, label, prediction, target, protocol.evaluation)))
                position += 1
        return [{"image": tile.name, "group": tile.group, **counts.result()} for tile, counts in rows]
