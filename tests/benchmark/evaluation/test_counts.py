"""Counts of a test set, their reductions and their sentences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark import metrics
from benchmark.config.protocol import Protocol
from benchmark.data.packs import IGNORED, Pack
from benchmark.evaluation.counts import counts_csv, describe_net_limits, reduce_counts
from benchmark.evaluation.reference_methods import score_reference
from benchmark.report.read import read_scores


def test_via_targets_have_via_counts_and_no_opens(small: Protocol, pack: Pack) -> None:
    vias = replace(pack, layers=("via",))
    (rows,) = score_reference("otsu", vias, pack.divide(small).test, small).values()
    assert {"via_true", "via_predicted", "via_matched"} <= rows[0].keys()
    assert not {"opens", "shorts"} & rows[0].keys()
    assert "opens" not in reduce_counts(rows)["pooled"]


@pytest.mark.parametrize("target", ["track", "via"])
def test_ignored_pixels_are_no_foreground(small: Protocol, pack: Pack, target: str) -> None:
    test = pack.divide(small).test
    masks = np.array(pack.masks)
    masks[:, 30:] = IGNORED
    (rows,) = score_reference("otsu", replace(pack, masks=masks, layers=(target,)), test, small).values()
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


def test_only_images_with_both_layers_have_columns_of_connections(tmp_path: Path) -> None:
    track, via = np.zeros((2, 64, 64), bool)
    track[30:40], via[32:38, 32:38] = True, True
    of_vias = {"image": "a", "group": "a"} | metrics.via_counts_from_masks(via, via)
    header = counts_csv([of_vias]).decode().splitlines()[0].split(",")
    assert header[2 : 2 + len(metrics.COUNT_COLUMNS)] == list(metrics.COUNT_COLUMNS)
    assert not set(metrics.CONNECTION_COLUMNS) & set(header)

    both = of_vias | metrics.connection_counts(track, track, via, via & False, border_px=8)
    file = tmp_path / "images.csv"
    file.write_bytes(counts_csv([both]))
    known = [*metrics.COUNT_COLUMNS, *metrics.CONNECTION_COLUMNS]
    assert file.read_text().splitlines()[0].split(",")[2 : 2 + len(known)] == known
    scores = read_scores(file)
    assert {name: scores.sums[name] for name in metrics.CONNECTION_COLUMNS} == dict.fromkeys(known[-5:], 0) | {
        "vias_lost": 1
    }
    assert scores.reduced["pooled"]["connection_error_rate"] == 1.0
