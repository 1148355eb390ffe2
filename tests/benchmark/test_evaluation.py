"""Testing a network: its predictions become counts, of the windows that the protocol asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.data.packs import IGNORED, Pack
from benchmark.evaluation import evaluate
from benchmark.protocol import Protocol

CPU = torch.device("cpu")


class Bright(torch.nn.Module):
    """Foreground where a pixel is brighter than half, and a note of the sizes seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(x.shape))
        return x - 0.5


def with_evaluation(protocol: Protocol, **changes: object) -> Protocol:
    return protocol.model_copy(update={"evaluation": protocol.evaluation.model_copy(update=changes)})


def test_evaluation_counts_what_the_network_predicts(small: Protocol, pack: Pack) -> None:
    indices = pack.divide(small).test
    rows = evaluate(Bright(), pack, indices, "track", small, CPU)
    images, masks = pack.centre(indices, 32)
    for row, image, mask in zip(rows, images[..., 0], masks, strict=True):
        prediction = image / 255 >= 0.5  # sigmoid(x - 0.5) >= 0.5
        assert row["tp"] == (prediction & (mask > 0)).sum()
        assert row["fp"] == (prediction & (mask == 0)).sum()
    assert [row["image"] for row in rows] == [pack.tiles[index].name for index in indices]


def test_a_threshold_other_than_half_is_applied_to_probabilities(small: Protocol, pack: Pack) -> None:
    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, torch.logit(torch.tensor(0.6)).item())

    indices = pack.divide(small).test
    for threshold, foreground in ((0.5, True), (0.7, False)):
        rows = evaluate(Constant(), pack, indices, "track", with_evaluation(small, threshold=threshold), CPU)
        assert all((int(row["fn"]) + int(row["tn"]) == 0) is foreground for row in rows)


@pytest.mark.parametrize(("window", "side"), [("input", 32), ("tile", 64)])
def test_the_window_is_the_input_or_the_whole_tile(small: Protocol, pack: Pack, window: str, side: int) -> None:
    network, indices = Bright(), pack.divide(small).test
    rows = evaluate(network, pack, indices, "track", with_evaluation(small, window=window), CPU)
    assert {shape[2:] for shape in network.seen} == {(side, side)}
    _, masks = pack.centre(indices, side)
    assert [int(row["tp"]) + int(row["fn"]) for row in rows] == masks.sum(axis=(1, 2)).tolist()


def test_ignored_pixels_count_nowhere(small: Protocol, pack: Pack) -> None:
    indices = pack.divide(small).test
    masks = np.array(pack.masks)
    masks[:, :, :20] = IGNORED  # of the centred window, columns 16 to 47, the first four
    part = replace(pack, masks=masks, has_ignored=True)
    rows = evaluate(Bright(), part, indices, "track", small, CPU)
    images, truth = part.centre(indices, 32)
    for row, image, mask in zip(rows, images[..., 0], truth, strict=True):
        bright = image / 255 >= 0.5
        assert row["ignored"] == 32 * 4
        assert (row["tp"], row["fp"]) == ((bright & (mask == 1)).sum(), (bright & (mask == 0)).sum())
