"""Counts of a test set, their reductions and their sentences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark import metrics
from benchmark.config.protocol import Protocol
from benchmark.data.packs import IGNORED, Pack
from benchmark.evaluation.counts import count_layers, counts_csv, describe_net_limits, reduce_counts
from benchmark.evaluation.reference_methods import score_reference
from benchmark.report.scores import read_scores


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


def test_vias_are_judged_by_the_first_layer_with_nets_where_both_layers_count(small: Protocol) -> None:
    limits = small.evaluation.model_copy(update={"border_px": 8, "min_area_px": 16})
    masks = np.zeros((3, 64, 64), np.uint8)
    masks[1, 28:40] = masks[2, 20:44] = 1  # the layers are via, track, poly
    for left in (10, 26, 42):
        masks[0, 31:37, left : left + 6] = 1
    predictions = masks == 1
    predictions[1, :, 40:] = False  # the last via's track is missed from here on
    predictions[0, :, 8:18] = False  # the first via is missed

    vias, *nets = count_layers(masks, predictions, ("via", "track", "poly"), limits)
    assert {name: vias[name] for name in metrics.CONNECTION_COLUMNS} == {
        "vias_right": 1, "vias_stray": 1, "vias_crossed": 0, "vias_lost": 1, "vias_unjudged": 0,
    }  # fmt: skip
    assert not any(name in terms for terms in nets for name in metrics.CONNECTION_COLUMNS)
    assert not set(metrics.CONNECTION_COLUMNS) & set(count_layers(masks[:1], predictions[:1], ("via",), limits)[0])

    masks[1, :, :18] = IGNORED
    vias, *_ = count_layers(masks, predictions, ("via", "track", "poly"), limits)
    assert (vias["vias_lost"], vias["via_true"]) == (0, 3)
