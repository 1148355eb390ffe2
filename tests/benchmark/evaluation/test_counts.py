"""Counts of a test set, their reductions and their sentences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmark.config.protocol import Protocol
from benchmark.data.packs import IGNORED, Pack
from benchmark.evaluation.counts import describe_net_limits, reduce_counts
from benchmark.evaluation.reference_methods import score_reference


def test_via_targets_have_via_counts_and_no_opens(small: Protocol, pack: Pack) -> None:
    rows = score_reference("otsu", pack, pack.divide(small).test, "via", small)
    assert {"via_true", "via_predicted", "via_matched"} <= rows[0].keys()
    assert not {"opens", "shorts"} & rows[0].keys()
    assert "opens" not in reduce_counts(rows)["pooled"]


@pytest.mark.parametrize("target", ["track", "via"])
def test_ignored_pixels_are_no_foreground(small: Protocol, pack: Pack, target: str) -> None:
    test = pack.divide(small).test
    masks = np.array(pack.masks)
    masks[:, 30:] = IGNORED
    rows = score_reference("otsu", replace(pack, masks=masks), test, target, small)  # type: ignore[arg-type]
    for row, index in zip(rows, test, strict=True):
        truth = pack.masks[index][16:30, 16:48]
        assert row["ignored"] == 18 * 32
        assert int(row["tp"]) + int(row["fn"]) == truth.sum()


@pytest.mark.parametrize(
    ("behaviours", "ending"),
    [
        ([1, 2], "below 16 px², do not count."),
        ([3], "below 16 px², do not count, except the largest such component of a net that no larger one hits."),
        ([2, 3], "do not count, except (runs of behaviour number 3 on) the largest such component of a net that no "
                 "larger one hits."),
    ],
)  # fmt: skip
def test_sentence_about_small_nets_follows_the_behaviour_number_of_the_runs(
    behaviours: list[int], ending: str, small: Protocol
) -> None:
    limits = small.evaluation.model_copy(update={"border_px": 8, "min_area_px": 16})
    assert describe_net_limits(limits, behaviours).endswith(ending)
    assert describe_net_limits(limits).startswith("Nets that lie only in the outer 8 px of an image, and predicted ")
