"""Testing one network: from test images to rows of integer counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.config.protocol import Protocol
from benchmark.data.batches import evaluation_batches
from benchmark.data.packs import Pack
from benchmark.data.specs import Target
from benchmark.data.splits import Tile
from benchmark.devices.launch import Launch
from benchmark.devices.precision import autocast
from benchmark.evaluation.counts import Row, count, tested_side

# Counting takes a millisecond per image; only skeletons and noise, at up to a second, keep more than one thread busy.
SCORERS = min(4, os.cpu_count() or 1)
# Images that may wait for a thread; each holds its mask and prediction.
BACKLOG = 4 * SCORERS


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    pack: Pack,
    indices: Sequence[int],
    target: Target,
    protocol: Protocol,
    device: torch.device,
    watch: Callable[[int, NDArray[np.bool_]], None] = lambda index, prediction: None,
    launch: Launch | None = None,
) -> list[Row]:
    """Predict and score images; scoring runs in threads beside the next forward.

    Args:
        network: on ``device``; switched to eval mode.
        pack: the dataset.
        indices: the images, scored in this order.
        target: decides between net and via counts.
        protocol: window, threshold, border, minimum area.
        device: where the network is.
        watch: called with the index and the ``(H, W)`` prediction of every image, in this order.
        launch: how forwards are given to the device; eagerly by default.

    Returns:
        One row per image: ``image``, ``group``, then the integer terms of every metric.
    """
    network.eval()
    side = tested_side(pack, protocol)
    rows: list[tuple[Tile, Future[dict[str, int]]]] = []

    def foreground(images: Tensor) -> Tensor:
        with autocast(device, protocol):
            logits: Tensor = network(images)
        return (logits.float().sigmoid() >= protocol.evaluation.threshold)[:, 0]

    predict = (launch or Launch(network, device)).of(foreground)
    with ThreadPoolExecutor(SCORERS) as scorer:
        for batch in evaluation_batches(pack, indices, side, protocol.evaluation.batch, device):
            for prediction in predict(batch.images).cpu().numpy():
                index = indices[len(rows)]
                if len(rows) >= BACKLOG:
                    rows[-BACKLOG][1].result()
                watch(index, prediction)
                _, masks = pack.centre([index], side)
                rows.append(
                    (pack.tiles[index], scorer.submit(count, masks[0], prediction, target, protocol.evaluation))
                )
        return [{"image": tile.name, "group": tile.group, **counts.result()} for tile, counts in rows]
