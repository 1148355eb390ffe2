"""Panels: which images they show, where they look closer, what they leave out, and that no file leads them astray."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.config.protocol import load_protocol
from benchmark.data.packs import IGNORED
from benchmark.evaluation import kept_images
from benchmark.evaluation.counts import count_terms, counts_csv
from benchmark.evaluation.fault_overlay import COLOURS, DARKENED, ONLY_PREDICTED
from benchmark.records.store import Store
from benchmark.report import build
from benchmark.report.plots import panels, sheet
from benchmark.report.read import read_study
from benchmark.report.tables.accuracy_table import ACCURACY, scores
from tests.benchmark.report import fake

SIDE = 96
Damage = Callable[[np.ndarray], None]


def layout(number: int) -> np.ndarray:
    """Three bars of 12x80 px, as a pack's mask."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for top in (10, 40, 70):
        mask[top : top + 12, 8:88] = 1
    return np.roll(mask, number, axis=0)


def cut(number: int, width: int = 4) -> Damage:
    def apply(prediction: np.ndarray) -> None:
        prediction[40 + number : 52 + number, 30 : 30 + width] = False

    return apply


def write_npz(file: Path, **arrays: np.ndarray) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.getvalue())


def names(count: int) -> np.ndarray:
    return np.array([f"{number}.png" for number in range(count)])


def write_images(folder: Path, test: str, masks: Sequence[np.ndarray]) -> None:
    images = np.stack(masks)[..., None] * np.uint8(90) + np.uint8(40)
    file = Store(folder).images_file(test)
    write_npz(file, names=names(len(masks)), images=images, masks=np.stack(masks))


def write_result(
    folder: Path,
    model: str,
    predictions: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    *,
    repeat: int = 0,
    train: Sequence[str] = ("omc-syn",),
    test: Sequence[str] = ("omc-syn",),
    target: str = "track",
) -> Path:
    """Write a run with the counts of its predictions, and these; return their file."""
    limits = load_protocol("quick").evaluation
    rows = [count_terms(*pair, target, limits) for pair in zip(masks, predictions, strict=True)]
    fake.write_run(folder, model, train, repeat, rows, test=test)
    bits = np.packbits(np.stack(predictions), axis=-1)
    for name in test:
        file = Store(folder).predictions_file(train, model, repeat, name)
        write_npz(file, names=names(len(masks)), bits=bits, width=np.array([SIDE]))
    return file


def spoiled(masks: Sequence[np.ndarray], damages: Mapping[int, Damage] = {}) -> list[np.ndarray]:
    """Return the truths as predictions, some of them damaged."""
    predictions = [mask == 1 for mask in masks]
    for number, damage in damages.items():
        damage(predictions[number])
    return predictions


@pytest.fixture
def masks() -> list[np.ndarray]:
    return [layout(number) for number in range(5)]


@pytest.fixture
def study(tmp_path: Path, masks: list[np.ndarray]) -> Path:
    """Five images; of image n, 8 + 2 n columns are missing in one bar, so that the last is hardest."""
    folder = tmp_path / "quick"
    fake.write_protocol(folder)
    write_images(folder, "omc-syn", masks)
    for model in ("eal_icnet", "unet"):
        damages = {number: cut(number, 8 + 2 * number) for number in range(5)}
        write_result(folder, model, spoiled(masks, damages), masks)
    return folder


def drawn(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    found, told = read_study(folder), []
    return panels.build(folder, found, scores(found, ACCURACY).blocks, told.append), told


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Collect what sheets are drawn of, and draw small ones."""
    seen: list[tuple[object, ...]] = []
    draw = sheet.draw

    def spy(*arguments: object) -> object:
        seen.append(arguments)
        return draw(arguments[0], arguments[1][:1], *arguments[2:])

    monkeypatch.setattr(sheet, "draw", spy)
    monkeypatch.setattr(panels, "KINDS", ("png",))
    return seen


def test_hardest_the_median_and_the_easiest_are_those_of_the_mean_miou(
    study: Path, masks: list[np.ndarray], sheets: list[tuple]
) -> None:
    # The networks disagree on image 0, which their mean makes the hardest.
    write_result(study, "unet", spoiled(masks, {0: lambda prediction: prediction.fill(True)}), masks)
    files, told = drawn(study)
    assert list(files) == [f"panels/omc-syn.{rank}.png" for rank in ("hardest", "median", "easiest")]
    assert told == []
    titles = [str(title) for title, *_ in sheets]
    assert [title.rpartition(": ")[2] for title in titles] == ["0.png", "3.png", "1.png"]
    assert titles[1] == "Median of 5 images on omc-syn: 3.png"
    means = [(1 - 8 * 12 / (3 * 12 * 80)), 1.0]
    assert means[0] < means[1]
    assert "its mean over the 2 networks" in sheets[0][4]


def test_equal_images_are_ranked_by_name_and_of_two_there_is_no_median(tmp_path: Path, sheets: list[tuple]) -> None:
    fake.write_protocol(tmp_path)
    two = [layout(3), layout(3)]
    write_images(tmp_path, "omc-syn", two)
    write_result(tmp_path, "unet", spoiled(two), two)
    files, _ = drawn(tmp_path)
    assert list(files) == ["panels/omc-syn.hardest.png", "panels/omc-syn.easiest.png"]
    assert [str(title).rpartition(": ")[2] for title, *_ in sheets] == ["0.png", "1.png"]


def test_cells_show_image_truth_every_network_and_otsu_with_their_figures(study: Path, sheets: list[tuple]) -> None:
    drawn(study)
    _, pictures, place, legend, caption = sheets[0]
    assert [picture.title for picture in pictures] == ["Image", "Truth", "EAL-ICNet", "UNet", "Otsu threshold"]
    assert [picture.lines for picture in pictures[1:3]] == [
        ("3 interior nets",),
        ("0 shorts, 1 open", "0 false, 0 missed"),
    ]
    tp, fn = 3 * 12 * 80 - 16 * 12, 16 * 12
    tn = SIDE * SIDE - tp - fn
    miou = (tp / (tp + fn) + tn / (tn + fn)) / 2
    assert pictures[2].figure == f"{100 * miou:.2f} %"
    assert f"{100 * miou:.2f} %, ranks the images" in caption
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
    side = sheet.part_side((SIDE, SIDE))
    assert place[0] <= 44
    assert place[0] + side >= 56
    assert place[1] <= 30
    assert place[1] + side >= 46
    assert {text.partition(":")[0] for text, _ in legend} >= {"short", "open", "false", "missed"}


def test_cell_says_what_the_border_and_the_least_area_keep_from_counting(tmp_path: Path, sheets: list[tuple]) -> None:
    fake.write_protocol(tmp_path)
    mask = layout(0)
    mask[:4, 20:60] = 1  # a net of the border band alone
    prediction = mask == 1
    prediction[3:12, 30:40] = True  # joins it to the first bar
    prediction[60:62, 4:6] = True
    write_images(tmp_path, "omc-syn", [mask])
    write_result(tmp_path, "unet", [prediction], [mask])
    drawn(tmp_path)
    _, pictures, _, legend, caption = sheets[0]
    assert pictures[1].lines == ("3 interior nets", "1 in the border alone")
    assert pictures[2].lines == ("0 shorts, 0 opens", "0 false, 0 missed", "not counted: 1 short, 1 speck")
    wrong = prediction & (mask == 0)
    np.testing.assert_array_equal((pictures[2].pixels == ONLY_PREDICTED).all(axis=-1), wrong)
    assert ("predicted, not true", ONLY_PREDICTED) in legend
    assert "Not counted: errors of nets in that border, and specks" in caption


def test_vias_are_missed_or_false_and_never_open(tmp_path: Path, sheets: list[tuple]) -> None:
    fake.write_protocol(tmp_path)
    truth = np.zeros((SIDE, SIDE), np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE]
    for at in (20, 50):
        truth[(y - 30) ** 2 + (x - at) ** 2 < 40] = 1
    prediction = truth == 1
    prediction[:, 40:] = False
    prediction |= (y - 70) ** 2 + (x - 70) ** 2 < 40
    write_images(tmp_path, "omv-syn", [truth])
    write_result(tmp_path, "unet", [prediction], [truth], train=["omv-syn"], test=["omv-syn"], target="via")
    files, told = drawn(tmp_path)
    assert list(files) == ["panels/omv-syn.hardest.png"]
    _, pictures, _place, legend, caption = sheets[0]
    assert pictures[1].lines == ("2 vias",)
    assert pictures[2].lines[0] == "1 false, 1 missed"
    assert tuple(pictures[2].pixels[30, 50]) == COLOURS["missed"]
    assert tuple(pictures[2].pixels[70, 70]) == COLOURS["false"]
    assert not any("net" in text for text, _ in legend)
    assert "A via is found where" in caption
    assert "outer" not in caption
    assert told == []


def test_ignored_pixels_are_shown_as_such_and_are_no_errors(tmp_path: Path, sheets: list[tuple]) -> None:
    fake.write_protocol(tmp_path)
    mask = layout(0)
    mask[:, 60:] = IGNORED
    prediction = mask == 1
    prediction[20:90, 65:70] = True  # would join all nets
    write_images(tmp_path, "omc-syn", [mask])
    write_result(tmp_path, "unet", [prediction], [mask])
    drawn(tmp_path)
    _, pictures, _, legend, caption = sheets[0]
    assert pictures[2].figure == "100.00 %"
    assert pictures[2].lines[0] == "0 shorts, 0 opens"
    assert legend[-1][0] == "ignored"
    assert "have wrong pixels, since none has an electrical error" in caption


def test_network_s_first_kept_repeat_is_shown_and_named(
    study: Path, masks: list[np.ndarray], sheets: list[tuple]
) -> None:
    write_result(study, "unet", spoiled(masks), masks, repeat=1)
    Store(study).predictions_file(["omc-syn"], "unet", 0, "omc-syn").unlink()
    drawn(study)
    assert [picture.title for picture in sheets[0][1][2:4]] == ["EAL-ICNet", "UNet"]
    assert [picture.lines[1] for picture in sheets[0][1][2:4]] == ["0 false, 0 missed", "0 false, 0 missed; repeat 1"]
    assert "repeat 0 where no other is named" in sheets[0][4]


def test_transfers_have_names_of_their_own(study: Path, masks: list[np.ndarray]) -> None:
    for train in (["miic-syn"], ["omc-syn", "miic-syn"]):
        write_result(study, "unet", spoiled(masks), masks, train=train)
    files, told = drawn(study)
    stems = {name.rsplit(".", 2)[0] for name in files}
    assert stems == {"panels/omc-syn", "panels/miic-syn-on-omc-syn", "panels/omc-syn+miic-syn-on-omc-syn"}
    assert told == []


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
    top, left = panels.place_of(marks, 8)
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
    assert panels.place_of([mark, mark], 10) == (15, 15)
    mark[25, 12] = True
    assert panels.place_of([mark, ~mark & False], 10) == (20, 7)
    corner = np.zeros((40, 40), bool)
    corner[0, 39] = True
    assert panels.place_of([corner], 10) == (0, 30)


def test_older_studies_have_no_panels_and_one_line_says_so(study: Path) -> None:
    Store(study).images_file("omc-syn").unlink()
    files, told = drawn(study)
    assert files == {}
    assert len(told) == 1
    assert "no panels of omc-syn" in told[0]
    assert "report.panels" not in told[0] or "made before" in told[0]


def test_no_panels_are_asked_for(study: Path) -> None:
    fake.write_protocol(study, "report.panels=0")
    assert drawn(study) == ({}, [])


def test_run_without_kept_predictions_is_named_in_the_caption(
    study: Path, masks: list[np.ndarray], sheets: list[tuple]
) -> None:
    write_result(study, "fcn", spoiled(masks), masks).unlink()
    _, told = drawn(study)
    assert told == []
    assert "Without kept predictions: FCN." in sheets[0][4]


@pytest.mark.parametrize("spoil", ["bytes", "other predictions", "pickle"])
def test_file_that_is_broken_or_of_other_predictions_is_told_by_name_and_left_out(
    study: Path, masks: list[np.ndarray], sheets: list[tuple], spoil: str, tmp_path: Path
) -> None:
    file = Store(study).predictions_file(["omc-syn"], "unet", 0, "omc-syn")
    if spoil == "bytes":
        file.write_bytes(file.read_bytes()[:-30])
    elif spoil == "pickle":
        write_npz(file, names=np.array([Payload(tmp_path / "ran")] * 5, object), bits=np.zeros((5, 96, 12), np.uint8))
    else:
        bits = np.packbits(np.stack(spoiled(masks)), axis=-1)
        write_npz(file, names=names(5), bits=bits, width=np.array([SIDE]))
    files, told = drawn(study)
    assert len(files) == 3
    assert len(told) == 1
    assert str(file) in told[0]
    assert "left out of the panels" in told[0]
    assert [picture.title for picture in sheets[0][1]] == ["Image", "Truth", "EAL-ICNet", "Otsu threshold"]
    assert not (tmp_path / "ran").exists()


class Payload:
    """Leaves a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


def test_broken_images_are_told_and_the_rest_of_the_report_is_built(study: Path) -> None:
    file = Store(study).images_file("omc-syn")
    file.write_bytes(b"PK\x03\x04 no archive")
    told: list[str] = []
    built = build.build(study, tell=told.append)
    assert [path for path in built if path.parent.name == "panels"] == []
    assert study / "report/tables/accuracy.md" in built
    assert len(told) == 1
    assert str(file) in told[0]


def test_names_in_files_lead_nowhere(study: Path, masks: list[np.ndarray]) -> None:
    hostile = np.array(["../../../escaped", "/escaped", "..", "$x^2$\n\x1b[2J", "\ud800<script>"])
    before = {path for path in study.parent.rglob("*") if path.is_file()}
    write_npz(
        Store(study).images_file("omc-syn"),
        names=hostile, images=np.stack(masks)[..., None], masks=np.stack(masks),
    )  # fmt: skip
    for model in ("eal_icnet", "unet"):
        bits = np.packbits(np.stack(spoiled(masks)), axis=-1)
        file = Store(study).predictions_file(["omc-syn"], model, 0, "omc-syn")
        write_npz(file, names=hostile, bits=bits, width=np.array([SIDE]))
        counts = file.with_name("images.omc-syn.csv")
        limits = load_protocol("quick").evaluation
        rows = [count_terms(mask, mask == 1, "track", limits) for mask in masks]
        named = [{"image": name, "group": "g", **row} for name, row in zip(hostile.tolist(), rows, strict=True)]
        counts.write_bytes(counts_csv(named[:4]))  # a lone surrogate is no text of a CSV file
    told: list[str] = []
    built = build.build(study, tell=told.append)
    shown = sorted(path.name for path in built if path.parent.name == "panels" and path.suffix == ".png")
    assert shown == [f"omc-syn.{rank}.png" for rank in ("easiest", "hardest", "median")]
    after = {path for path in study.parent.rglob("*") if path.is_file()}
    assert after - before == set(built)
    assert told == []


def test_report_without_panels_leaves_none_of_earlier_ones_but_nobody_else_s_files(study: Path) -> None:
    built = {path for path in build.build(study) if path.parent.name == "panels"}
    assert len(built) == 6
    assert all(path.is_file() for path in built)
    other = study / "report/panels/notes.txt"
    other.touch()
    shutil.rmtree(study / "panels")  # the images may no longer be shown
    redacted = build.build(study, redact=True)
    assert not [path for path in redacted if path.parent.name == "panels"]
    again = build.build(study)
    assert not [path for path in again if path.parent.name == "panels"]
    assert list((study / "report/panels").iterdir()) == [other]


def test_same_files_give_the_same_bytes_at_the_size_of_a_page(study: Path) -> None:
    first, second = (drawn(study)[0] for _ in range(2))
    assert first == second
    picture = Image.open(io.BytesIO(first["panels/omc-syn.hardest.png"]))
    assert picture.width <= 11.7 * 200
    assert picture.height <= 8.3 * 200
    assert b"CreationDate" not in first["panels/omc-syn.hardest.pdf"]


@pytest.mark.parametrize("side", [32, 96, 512, 1024])
def test_page_of_fourteen_cells_shows_pixels_unblurred_and_fits_a4(side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    pictures = [
        sheet.SheetPicture(f"Network {n}", "91.42 %", ("12 shorts, 13 opens", "1 false, 2 missed"), pixels)
        for n in range(14)
    ]
    place = (side // 3, side // 4)
    figure = sheet.draw("title", pictures, place, [("open", COLOURS["open"])], "word " * 150)
    page = np.asarray(Image.open(io.BytesIO(build.plot_style.save(figure, "png"))).convert("RGB"))
    assert page.shape[1] <= 11.7 * 200
    assert page.shape[0] <= 8.3 * 200
    part, zoom = sheet.part_side((side, side)), sheet.zoom_of((side, side))
    assert zoom >= 2
    enlarged = pixels[place[0] : place[0] + part, place[1] : place[1] + part].repeat(zoom, 0).repeat(zoom, 1)
    whole = side * (sheet.CELL // side) if side < sheet.CELL else sheet.CELL
    top = sheet.HEAD + 3 * sheet.LINE + whole + sheet.AFTER
    for number in (0, 6):
        left = sheet.MARGIN + number * (sheet.CELL + sheet.GAP)
        shown = page[top : top + len(enlarged), left : left + len(enlarged)]
        np.testing.assert_array_equal(shown, enlarged)


def test_keeping_is_bounded_as_the_protocol_says() -> None:
    assert load_protocol("quick").report.panels == 12
    assert kept_images.MOST_PIXELS >= 12 * 1024 * 1024
