"""Tests a network: predicts test images and counts their terms of the metrics."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.config.protocol import Protocol
from benchmark.data.batches import evaluation_batches, to_device
from benchmark.data.formats.images import UInt8Array
from benchmark.data.packs import Pack
from benchmark.data.splits import Tile
from benchmark.devices.launch_mode import Launch
from benchmark.devices.precision import autocast
from benchmark.evaluation.counts import Row, count_layers, rows_by_test, window_side
from benchmark.evaluation.ensemble import probabilities_of
from benchmark.evaluation.sliding_window import ArrayRows, Probabilities, blended_rows
from benchmark.evaluation.tested_windows import read_block, tested_blocks
from benchmark.evaluation.tiles import TileGrid

# Counting takes a millisecond per image, but up to a second with skeletons or noise: only then several threads work.
SCORERS = min(4, os.cpu_count() or 1)
BACKLOG = 4 * SCORERS  # images, each a mask and a prediction, that may wait for a thread
STRIDES = 32  # of the deepest stages; windows of blocks begin at multiples of it, or of what half a window divides by


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    pack: Pack,
    indices: Sequence[int],
    protocol: Protocol,
    device: torch.device,
    watch: Callable[[str, NDArray[np.bool_]], None] = lambda name, prediction: None,
    launch: Launch | None = None,
) -> dict[str, list[Row]]:
    """Predict and score images; threads score while the next forward runs.

    Args:
        network: on ``device``, perhaps an ensemble; switched to eval mode.
        pack: the dataset.
        indices: the images in the order of the rows.
        protocol: window, threshold, border, minimum area.
        device: of the network.
        watch: called with the name and the ``(L, H, W)`` prediction of every image or block, in order.
        launch: runs forwards on the device; eagerly by default.

    Returns:
        The rows of each layer's test, one per image: ``image``, ``group``, then the integer terms of every metric.
    """
    network.eval()
    if protocol.evaluation.window == "block":
        return _evaluate_blocks(network, pack, indices, protocol, device, watch)
    side = window_side(pack, protocol)
    rows: list[tuple[Tile, Future[list[dict[str, int]]]]] = []

    def foreground(images: Tensor) -> Tensor:
        with autocast(device, protocol):
            probabilities = probabilities_of(network, images)
        return probabilities >= protocol.evaluation.threshold

    predict = (launch or Launch(network, device)).of(foreground)
    with ThreadPoolExecutor(SCORERS) as scorer:
        for batch in evaluation_batches(pack, indices, side, protocol.evaluation.batch, device):
            for prediction in predict(batch.images).cpu().numpy():
                index = indices[len(rows)]
                if len(rows) >= BACKLOG:
                    rows[-BACKLOG][1].result()
                watch(pack.tiles[index].name, prediction)
                masks = pack.centre([index], side)[1][0]
                counts = scorer.submit(count_layers, masks, prediction, pack.layers, protocol.evaluation)
                rows.append((pack.tiles[index], counts))
        return rows_by_test(pack, [(tile, future.result()) for tile, future in rows])


def _evaluate_blocks(
    network: nn.Module,
    pack: Pack,
    indices: Sequence[int],
    protocol: Protocol,
    device: torch.device,
    watch: Callable[[str, NDArray[np.bool_]], None],
) -> dict[str, list[Row]]:
    """Predict and score the blocks of test tiles; windows of the input's size overlap by half, as in nnU-Net.

    Forwards run eagerly: the last of a row of windows has fewer images than the others.
    """
    size = protocol.input.size_for(pack.dataset)

    def forward(windows: UInt8Array) -> Probabilities:
        nothing = np.zeros((len(windows), 1, 1, 1), np.uint8)
        with autocast(device, protocol):
            return probabilities_of(network, to_device(windows, nothing, device, ignored=False).images).cpu().numpy()

    counted: list[tuple[Tile, list[dict[str, int]]]] = []
    for block in tested_blocks(pack, indices, protocol):
        image, masks = read_block(pack, block, protocol)
        grid = TileGrid.of(image.shape[:2], size, size // 2, math.gcd(size, size // 2, STRIDES))
        rows = blended_rows(
            forward,
            ArrayRows(image),
            grid,
            channels=image.shape[-1],
            batch=protocol.evaluation.batch,
            layers=len(pack.layers),
        )
        prediction = np.concatenate([values for _, values in rows], axis=1) >= protocol.evaluation.threshold
        watch(block.tile.name, prediction)
        counted.append((block.tile, count_layers(masks, prediction, pack.layers, protocol.evaluation)))
    return rows_by_test(pack, counted)
