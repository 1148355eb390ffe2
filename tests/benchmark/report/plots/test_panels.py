"""Panels: the images that they show, the part that they enlarge, and the results that they leave out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmark.data.packs import IGNORED
from benchmark.evaluation.fault_overlay import COLOURS, DARKENED, ONLY_PREDICTED
from benchmark.records.store import Store
from benchmark.report.plots.panels import sheets
from benchmark.report.plots.sheet import Sheet, part_side
from benchmark.report.plots.wrong_square import part_corner
from benchmark.report.read import read_study
from benchmark.report.tables.accuracy_table import ACCURACY, scores
from tests.benchmark.report import fake
from tests.benchmark.report.plots.panel_study import (
    MASKS,
    SIDE,
    cut,
    image_names,
    layout,
    spoiled,
    write_images,
    write_npz,
    write_result,
    write_study,
)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "quick")


def sheets_of(folder: Path) -> tuple[dict[str, Sheet], list[str]]:
    """Return the panels of a study, and the sentences about those that are left out."""
    sentences: list[str] = []
    results = read_study(folder)
    panels = sheets(folder, results, scores(results, ACCURACY).blocks, sentences.append)
    return {sheet.stem: sheet for sheet in panels}, sentences


def hardest_of(folder: Path) -> Sheet:
    return sheets_of(folder)[0]["omc-syn.hardest"]


def test_hardest_image_has_the_most_errors_of_nets_and_then_the_least_miou(study: Path) -> None:
    # Each image has an open net of EAL-ICNet; UNet joins all nets of image 0, which makes it the hardest.
    write_result(study, "unet", spoiled(MASKS, {0: lambda prediction: prediction.fill(True)}), MASKS)
    sheets, sentences = sheets_of(study)
    assert list(sheets) == [f"omc-syn.{rank}" for rank in ("hardest", "median", "easiest")]
    assert sentences == []
    assert [sheet.title.rpartition(": ")[2] for sheet in sheets.values()] == ["0.png", "3.png", "1.png"]
    assert sheets["omc-syn.median"].title == "Median of 5 images on omc-syn: 3.png"
    order = "the most opens, shorts, missed and false nets first (mean over the 2 networks: 1.50 here)"
    assert order in sheets["omc-syn.hardest"].caption
    assert "networks: 0.50 here); of equal ones, the least mIoU" in sheets["omc-syn.median"].caption


def test_more_errors_of_nets_are_harder_than_more_wrong_pixels(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    masks = [layout(0), layout(0)]

    def widen(prediction: np.ndarray) -> None:
        prediction[4:28, 8:88] = True

    write_images(tmp_path, "omc-syn", masks)
    write_result(tmp_path, "unet", spoiled(masks, {0: widen, 1: cut(0)}), masks)
    hardest = hardest_of(tmp_path)
    assert hardest.title.endswith(": 1.png")
    assert "(of the one network: 1.00 here)" in hardest.caption
    write_result(tmp_path, "unet", spoiled(masks, {0: widen}), masks)
    hardest = hardest_of(tmp_path)
    assert hardest.title.endswith(": 0.png")
    assert "the least mIoU first" in hardest.caption
    assert "since no image has opens, shorts, missed and false nets" in hardest.caption


def test_equal_images_are_ranked_by_name_and_two_have_no_median(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    masks = [layout(3), layout(3)]
    write_images(tmp_path, "omc-syn", masks)
    write_result(tmp_path, "unet", spoiled(masks), masks)
    sheets, _ = sheets_of(tmp_path)
    assert list(sheets) == ["omc-syn.hardest", "omc-syn.easiest"]
    assert [sheet.title.rpartition(": ")[2] for sheet in sheets.values()] == ["0.png", "1.png"]


def test_cells_show_image_truth_every_network_and_otsu_with_their_figures(study: Path) -> None:
    hardest = hardest_of(study)
    pictures, caption, (top, left) = hardest.pictures, hardest.caption, hardest.corner
    assert [picture.title for picture in pictures] == ["Image", "Truth", "EAL-ICNet", "UNet", "Otsu threshold"]
    assert [picture.lines for picture in pictures[1:3]] == [
        ("3 interior nets",),
        ("0 shorts, 1 open", "0 false, 0 missed"),
    ]
    tp, fn = 3 * 12 * 80 - 16 * 12, 16 * 12
    tn = SIDE * SIDE - tp - fn
    miou = (tp / (tp + fn) + tn / (tn + fn)) / 2
    assert pictures[2].figure == f"{100 * miou:.2f} %"
    assert f"the least mIoU ({100 * miou:.2f} % here)" in caption
    assert "5 of 5 test images" in caption
    assert "outer 8 px" in caption
    assert "omc-syn is the synthetic stand-in for omc." in caption
    opened = (pictures[2].pixels == COLOURS["open"]).all(axis=-1)
    truth = layout(4) == 1
    gap = np.zeros_like(truth)
    gap[44:56, 30:46] = True
    np.testing.assert_array_equal(opened[44:56], (truth & ~gap)[44:56])
    assert (pictures[2].pixels[gap] == np.rint(np.array(COLOURS["open"]) * DARKENED)).all()
    assert pictures[4].figure == "100.00 %"  # two gray values: Otsu's threshold is the truth
    side = part_side((SIDE, SIDE))
    assert top <= 44
    assert top + side >= 56
    assert left <= 30
    assert left + side >= 46
    assert {text.partition(":")[0] for text, _ in hardest.legend} >= {"short", "open", "false", "missed"}


def test_cell_says_what_the_border_and_the_least_area_keep_from_counting(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    mask = layout(0)
    mask[:4, 20:60] = 1  # a net of the border band alone
    prediction = mask == 1
    prediction[3:12, 30:40] = True  # joins it to the first bar
    prediction[60:62, 4:6] = True
    write_images(tmp_path, "omc-syn", [mask])
    write_result(tmp_path, "unet", [prediction], [mask])
    hardest = hardest_of(tmp_path)
    pictures = hardest.pictures
    assert pictures[1].lines == ("3 interior nets", "1 in the border alone")
    assert pictures[2].lines == ("0 shorts, 0 opens", "0 false, 0 missed", "not counted: 1 short, 1 speck")
    wrong = prediction & (mask == 0)
    np.testing.assert_array_equal((pictures[2].pixels == ONLY_PREDICTED).all(axis=-1), wrong)
    assert ("predicted, not true", ONLY_PREDICTED) in hardest.legend
    assert "Not counted: errors of nets in that border, and specks" in hardest.caption


def test_vias_are_missed_or_false_and_never_open(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    truth = np.zeros((SIDE, SIDE), np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE]
    for centre in (20, 50):
        truth[(y - 30) ** 2 + (x - centre) ** 2 < 40] = 1
    prediction = truth == 1
    prediction[:, 40:] = False
    prediction |= (y - 70) ** 2 + (x - 70) ** 2 < 40
    write_images(tmp_path, "omv-syn", [truth])
    write_result(tmp_path, "unet", [prediction], [truth], train=["omv-syn"], test=["omv-syn"], target="via")
    sheets, sentences = sheets_of(tmp_path)
    assert list(sheets) == ["omv-syn.hardest"]
    pictures, caption = sheets["omv-syn.hardest"].pictures, sheets["omv-syn.hardest"].caption
    assert pictures[1].lines == ("2 vias",)
    assert pictures[2].lines[0] == "1 false, 1 missed"
    assert tuple(pictures[2].pixels[30, 50]) == COLOURS["missed"]
    assert tuple(pictures[2].pixels[70, 70]) == COLOURS["false"]
    assert not any("net" in text for text, _ in sheets["omv-syn.hardest"].legend)
    assert "A via is found if" in caption
    assert "outer" not in caption
    assert sentences == []


def test_ignored_pixels_are_shown_as_such_and_are_no_errors(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    mask = layout(0)
    mask[:, 60:] = IGNORED
    prediction = mask == 1
    prediction[20:90, 65:70] = True  # would join all nets
    write_images(tmp_path, "omc-syn", [mask])
    write_result(tmp_path, "unet", [prediction], [mask])
    hardest = hardest_of(tmp_path)
    pictures = hardest.pictures
    assert pictures[2].figure == "100.00 %"
    assert pictures[2].lines[0] == "0 shorts, 0 opens"
    assert hardest.legend[-1][0] == "ignored"
    assert "as many networks as possible have wrong pixels in its middle (none has errors of nets)" in hardest.caption


def test_network_s_first_kept_repeat_is_shown_and_named(study: Path) -> None:
    write_result(study, "unet", spoiled(MASKS), MASKS, repeat=1)
    Store(study).predictions_file(["omc-syn"], "unet", 0, "omc-syn").unlink()
    hardest = hardest_of(study)
    assert [picture.title for picture in hardest.pictures[2:4]] == ["EAL-ICNet", "UNet"]
    assert [picture.lines[1] for picture in hardest.pictures[2:4]] == [
        "0 false, 0 missed",
        "0 false, 0 missed; repeat 1",
    ]
    assert "repeat 0 unless another is named" in hardest.caption


def test_transfers_have_names_of_their_own(study: Path) -> None:
    for train in (["miic-syn"], ["omc-syn", "miic-syn"]):
        write_result(study, "unet", spoiled(MASKS), MASKS, train=train)
    sheets, sentences = sheets_of(study)
    names = {stem.rpartition(".")[0] for stem in sheets}
    assert names == {"omc-syn", "miic-syn-on-omc-syn", "omc-syn+miic-syn-on-omc-syn"}
    assert sentences == []


def brute_force(marks: Sequence[np.ndarray], side: int) -> tuple[int, int]:
    """The best square before it is moved, by trying all."""
    height, width = marks[0].shape
    corners = [(y, x) for y in range(height - side + 1) for x in range(width - side + 1)]

    def worth(corner: tuple[int, int]) -> tuple[int, int, int, int]:
        parts = [mark[corner[0] : corner[0] + side, corner[1] : corner[1] + side] for mark in marks]
        return (sum(part.any() for part in parts), sum(int(part.sum()) for part in parts), -corner[0], -corner[1])

    return max(corners, key=worth)


@pytest.mark.parametrize("seed", range(8))
def test_closer_look_is_where_most_networks_err(seed: int) -> None:
    rng = np.random.default_rng(seed)
    marks = [rng.random((30, 24)) < 0.01 for _ in range(4)]
    top, left = part_corner(marks, 8)
    best = brute_force(marks, 4)
    assert 0 <= top <= 22
    assert 0 <= left <= 16
    for mark in marks:  # moved, but nothing is lost by it
        inner = mark[best[0] : best[0] + 4, best[1] : best[1] + 4]
        assert inner.sum() <= mark[top : top + 8, left : left + 8].sum()
    within = np.any(marks, axis=0)[top : top + 8, left : left + 8]
    assert within.any()


def test_single_error_is_in_the_middle_and_without_one_the_middle_is_shown() -> None:
    mark = np.zeros((40, 40), bool)
    assert part_corner([mark, mark], 10) == (15, 15)
    mark[25, 12] = True
    assert part_corner([mark, ~mark & False], 10) == (20, 7)
    corner = np.zeros((40, 40), bool)
    corner[0, 39] = True
    assert part_corner([corner], 10) == (0, 30)


def test_older_studies_have_no_panels_and_one_line_says_so(study: Path) -> None:
    Store(study).images_file("omc-syn").unlink()
    sheets, (sentence,) = sheets_of(study)
    assert sheets == {}
    assert "no panels of omc-syn, since no test images were kept" in sentence


def test_no_panels_are_asked_for(study: Path) -> None:
    fake.write_protocol(study, "report.panels=0")
    assert sheets_of(study) == ({}, [])


def test_run_without_kept_predictions_is_named_in_the_caption(study: Path) -> None:
    write_result(study, "fcn", spoiled(MASKS), MASKS).unlink()
    sheets, sentences = sheets_of(study)
    assert sentences == []
    assert "Without kept predictions: FCN." in sheets["omc-syn.hardest"].caption


class Payload:
    """Leaves a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("spoil", ["bytes", "other predictions", "pickle"])
def test_file_that_is_broken_or_of_other_predictions_is_told_by_name_and_left_out(
    study: Path, spoil: str, tmp_path: Path
) -> None:
    file = Store(study).predictions_file(["omc-syn"], "unet", 0, "omc-syn")
    if spoil == "bytes":
        file.write_bytes(file.read_bytes()[:-30])
    elif spoil == "pickle":
        write_npz(file, names=np.array([Payload(tmp_path / "ran")] * 5, object), bits=np.zeros((5, 96, 12), np.uint8))
    else:
        bits = np.packbits(np.stack(spoiled(MASKS)), axis=-1)
        write_npz(file, names=image_names(5), bits=bits, width=np.array([SIDE]))
    sheets, (sentence,) = sheets_of(study)
    assert len(sheets) == 3
    assert str(file) in sentence
    assert "left out of the panels" in sentence
    assert [picture.title for picture in sheets["omc-syn.hardest"].pictures] == [
        "Image",
        "Truth",
        "EAL-ICNet",
        "Otsu threshold",
    ]
    assert not (tmp_path / "ran").exists()
