"""Scoring masks made elsewhere: a run's counts, every form of a mask, pictures, and mistakes that leave nothing."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark import metrics
from benchmark.config.protocol import Protocol
from benchmark.data.formats.all_formats import read_label
from benchmark.data.packs import IGNORED, Pack
from benchmark.evaluation.counts import reduce_counts
from benchmark.evaluation.evaluate import evaluate
from benchmark.evaluation.fault_overlay import COLOURS, DARKENED, IGNORED_PIXELS, ONLY_PREDICTED, ONLY_TRUE, PREDICTED
from tests.benchmark.conftest import Call

Save = Callable[[str, np.ndarray], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(name: str, pixels: np.ndarray) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8) * np.uint8(255) if pixels.dtype == bool else pixels).save(path)
        return path

    return write


@pytest.fixture
def bars() -> np.ndarray:
    """Four horizontal bars of 4x60 px on 48x80, rows 8, 18, 28 and 38."""
    mask = np.zeros((48, 80), bool)
    for top in (8, 18, 28, 38):
        mask[top : top + 4, 10:70] = True
    return mask


def rows_of(file: Path) -> dict[str, dict[str, str]]:
    with file.open() as stream:
        return {row["image"]: row for row in csv.DictReader(stream)}


FLAGS = ("score", "--truth", "truth", "--prediction", "prediction", "--out", "out")


def test_saved_predictions_have_the_counts_of_the_harness(
    call: Call, save: Save, small: Protocol, pack: Pack, tmp_path: Path
) -> None:
    class Bright(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - 0.5

    indices = range(len(pack.tiles))
    (expected,) = evaluate(Bright(), pack, indices, small, torch.device("cpu")).values()
    images, masks = pack.centre(indices, 32)
    for index in indices:
        name = pack.tiles[index].name
        save(f"truth/{name}_mask.png", masks[index, 0] == 1)
        save(f"prediction/{name}.png", images[index, ..., 0] / 255 >= 0.5)
        save(f"ignore/{name}.png", masks[index, 0] == IGNORED)
    code, out, err = call(*FLAGS, "--ignore", "ignore", "--protocol", "quick", "--no-cldice")
    assert code == 0, err
    result = rows_of(tmp_path / "out/images.csv")
    assert len(result) == len(expected)
    for row in expected:
        counted = {name: result[str(row["image"])][name] for name in row if name not in ("image", "group")}
        assert counted == {name: str(row[name]) for name in counted}
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["metrics"] == reduce_counts(expected)
    assert (summary["images"], summary["border_px"], summary["min_area_px"]) == (len(expected), 8, 16)
    assert f"{100 * summary['metrics']['pooled']['aji']:.2f} %" in out
    assert "pooled: counts summed over images before the ratio." in out


def test_columns_are_those_of_a_run_and_skeletons_are_made(
    call: Call, save: Save, bars: np.ndarray, tmp_path: Path
) -> None:
    save("truth/a.png", bars)
    save("prediction/a.png", bars)
    assert call(*FLAGS)[0] == 0
    row = rows_of(tmp_path / "out/images.csv")["a"]
    assert tuple(row)[2 : 2 + len(metrics.COUNT_COLUMNS)] == metrics.COUNT_COLUMNS
    assert (row["group"], row["cldice"], row["vi_split"], row["via_true"]) == ("a", "1.0", "0.0", "")


SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="80" height="48" viewBox="0 0 80 48">
<path d="M10,8 L69,8 L69,11 L10,11 Z" fill="lime"/><circle cx="40" cy="30" r="5" fill="red"/></svg>"""


def test_every_form_of_a_mask_is_read_and_paired(call: Call, save: Save, bars: np.ndarray, tmp_path: Path) -> None:
    one_hot = np.zeros((48, 80, 3), np.uint8)
    one_hot[..., 0], one_hot[..., 1] = ~bars * np.uint8(255), bars * np.uint8(255)
    for name, truth, prediction in (
        ("f1_a", one_hot, bars.astype(np.uint8)),
        ("f1_b", bars, one_hot),
        ("f2_c", bars, bars),
    ):
        save(f"truth/{name}.png", truth)
        save(f"prediction/{name}{'_mask' * (name == 'f1_b')}.tif", prediction)
    assert call(*FLAGS, "--group", "(f.)_")[0] == 0
    rows = rows_of(tmp_path / "out/images.csv")
    assert {name: (row["group"], row["fg_iou"]) for name, row in rows.items()} == {
        "f1_a": ("f1", "1.0"),
        "f1_b_mask": ("f1", "1.0"),
        "f2_c": ("f2", "1.0"),
    }


@pytest.mark.parametrize("target", ["track", "via", "metal"])
def test_hy5syn_s_labels_and_names(
    call: Call, save: Save, bars: np.ndarray, tmp_path: Path, target: Literal["track", "via", "metal"]
) -> None:
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth/label0001.svg").write_text(SVG)
    save("prediction/sem0001.png", bars)
    assert call(*FLAGS, "--target", target)[0] == 0
    row = rows_of(tmp_path / "out/images.csv")["sem0001"]
    truth = read_label(tmp_path / "truth/label0001.svg", target, (48, 80)).mask
    assert (int(row["tp"]), int(row["fn"])) == ((truth & bars).sum(), (truth & ~bars).sum())


def test_vias_are_counted_as_vias_and_have_no_opens(call: Call, save: Save, tmp_path: Path) -> None:
    y, x = np.mgrid[:48, :80]
    discs = [(y - 24) ** 2 + (x - at) ** 2 <= 25 for at in (15, 35, 55, 70)]
    save("truth/a.png", discs[0] | discs[1] | discs[2])
    save("prediction/a.png", discs[0] | discs[1] | discs[3])
    assert call(*FLAGS, "--target", "via", "--overlay", "faults")[0] == 0
    row = rows_of(tmp_path / "out/images.csv")["a"]
    assert [row[name] for name in ("via_true", "via_predicted", "via_matched", "opens", "nets")] == [
        *("3", "3", "2", "", ""),
    ]
    picture = np.asarray(Image.open(tmp_path / "faults/a.png"))
    colours = {tuple(picture[24, at]) for at in (15, 35)}, tuple(picture[24, 55]), tuple(picture[24, 70])
    assert colours == ({PREDICTED}, COLOURS["missed"], COLOURS["false"])


@pytest.fixture
def faulty(bars: np.ndarray, save: Save) -> dict[str, np.ndarray]:
    """One net cut, two joined, one lost, a false one, a nick, and pixels that are ignored."""
    prediction = bars.copy()
    prediction[8:12, 40] = False
    prediction[18:32, 20] = True
    prediction[38:42] = False
    prediction[2:6, 72:78] = True
    prediction[18, 60] = False
    ignore = np.zeros_like(bars)
    ignore[:, :5] = True
    save("truth/a.png", bars)
    save("prediction/a.png", prediction)
    save("ignore/a.png", ignore)
    short = np.zeros_like(bars)
    short[18:32] = prediction[18:32]
    only = {
        "short": short,
        "open": bars & (np.arange(48)[:, None] < 12),
        "missed": bars & (np.arange(48)[:, None] > 36),
    }
    others = {"ignore": ignore, "nick": bars & ~prediction & ~only["open"], "wrong": prediction & ~bars}
    return {**only, "false": prediction & ~bars & ~short, **others}


OVERLAY = ("--overlay", "faults", "--ignore", "ignore", "--border", "0", "--min-area", "4")


def test_overlay_shows_each_fault_in_its_colour(call: Call, faulty: dict[str, np.ndarray], tmp_path: Path) -> None:
    assert call(*FLAGS, *OVERLAY)[0] == 0
    picture = np.asarray(Image.open(tmp_path / "faults/a.png"))
    for name, colour in COLOURS.items():
        right, wrong = ((picture == np.rint(share * np.array(colour))).all(axis=-1) for share in (1, DARKENED))
        np.testing.assert_array_equal(right | wrong, faulty[name], err_msg=name)
    bridge = (picture == np.rint(DARKENED * np.array(COLOURS["short"]))).all(axis=-1)
    np.testing.assert_array_equal(bridge, faulty["short"] & faulty["wrong"])
    assert bridge.sum() == 6
    assert (picture[faulty["ignore"]] == IGNORED_PIXELS).all()
    assert tuple(picture[18, 60]) == ONLY_TRUE
    assert tuple(picture[45, 40]) == (0, 0, 0)


def test_colours_are_those_of_the_help_and_the_readme() -> None:
    """Red, blue and green by their strongest channel; yellow is red and green; grays are told apart by brightness."""
    strongest = {name: "rgb"[int(np.argmax(colour))] for name, colour in COLOURS.items() if name != "missed"}
    assert strongest == {"short": "r", "open": "b", "false": "g"}
    red, green, blue = COLOURS["missed"]
    assert min(red, green) > 200 > 50 > blue
    assert len(set(PREDICTED)) == len(set(ONLY_TRUE)) == 1
    assert PREDICTED[0] > ONLY_TRUE[0] + 80
    red, green, blue = ONLY_PREDICTED
    assert red > blue > 2 * green  # pink


def test_foreground_that_is_wrong_has_a_colour_though_it_is_no_fault(
    call: Call, save: Save, bars: np.ndarray, tmp_path: Path
) -> None:
    """Fused in the border band, where nothing is judged: no fault, and yet nothing like a right pixel."""
    prediction = bars.copy()
    prediction[:22, 20:30] = True
    prediction[25, 50:52] = True
    save("truth/a.png", bars)
    save("prediction/a.png", prediction)
    code, out, _ = call(*FLAGS, "--overlay", "faults")
    assert code == 0
    assert rows_of(tmp_path / "out/images.csv")["a"]["shorts"] == "0"
    assert "Left out here by this rule: 1 short, 1 speck." in " ".join(out.split())
    assert json.loads((tmp_path / "out/summary.json").read_text())["not_counted"]["shorts"] == 1
    picture = np.asarray(Image.open(tmp_path / "faults/a.png"))
    np.testing.assert_array_equal((picture == ONLY_PREDICTED).all(axis=-1), prediction & ~bars)
    np.testing.assert_array_equal((picture == PREDICTED).all(axis=-1), bars)


def test_correct_predictions_are_light_gray(call: Call, save: Save, bars: np.ndarray, tmp_path: Path) -> None:
    save("truth/a.png", bars)
    save("prediction/a.png", bars)
    assert call(*FLAGS, "--overlay", "faults")[0] == 0
    picture = np.asarray(Image.open(tmp_path / "faults/a.png"))
    assert (picture[bars] == PREDICTED).all()
    assert (picture[~bars] == 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_overlay_lets_the_image_show_through(
    call: Call, save: Save, faulty: dict[str, np.ndarray], tmp_path: Path, dtype: type
) -> None:
    image = np.tile(np.linspace(0, np.iinfo(dtype).max, 80), (48, 1)).astype(dtype)
    save("images/a.png", image)
    assert call(*FLAGS, *OVERLAY, "--images", "images")[0] == 0
    picture = np.asarray(Image.open(tmp_path / "faults/a.png")).astype(int)
    ground = picture[44, 10:70]
    assert (ground == ground[:, :1]).all()
    np.testing.assert_allclose(ground[:, 0], np.linspace(0, 255, 80)[10:70], atol=2)
    red, _, blue = picture[20, 30:60].T
    assert (red > blue).all()
    assert red[-1] > red[0]


@pytest.mark.parametrize("most", [255, 65535])
def test_gray_predictions_with_a_threshold(call: Call, save: Save, bars: np.ndarray, tmp_path: Path, most: int) -> None:
    dtype = np.uint8 if most == 255 else np.uint16
    save("truth/a.png", bars)
    save("prediction/a.png", np.where(bars, 0.62 * most, 0.58 * most).astype(dtype))
    code, _, err = call(*FLAGS)
    assert code == 2
    assert "mask values" in err
    assert call(*FLAGS, "--threshold", "0.6")[0] == 0
    assert rows_of(tmp_path / "out/images.csv")["a"]["fg_iou"] == "1.0"
    assert call(*FLAGS, "--threshold", "0.5")[0] == 0
    assert rows_of(tmp_path / "out/images.csv")["a"]["fp"] != "0"
    assert json.loads((tmp_path / "out/summary.json").read_text())["threshold"] == 0.5


def test_true_masks_are_read_by_the_values_of_a_dataset(
    call: Call, save: Save, bars: np.ndarray, tmp_path: Path
) -> None:
    """A third value is unlabelled; the prediction is wrong there alone."""
    classes = bars.astype(np.uint8)
    classes[:, :20] = 2
    wrong = bars.copy()
    wrong[:, :20] ^= True
    save("truth/a.png", classes)
    save("prediction/a.png", wrong)
    code, _, err = call(*FLAGS)
    assert code == 2
    assert "[values]" in err
    Path("chip.toml").write_text("[values]\nbackground = 0\nforeground = 1\nignore = 2\n", "utf-8")
    assert call(*FLAGS, "--values", "chip.toml")[0] == 0
    assert rows_of(tmp_path / "out/images.csv")["a"]["fg_iou"] == "1.0"
    assert "ignore = 2" in json.loads((tmp_path / "out/summary.json").read_text())["values"]
    Path("chip.toml").write_text("size = 64\n", "utf-8")
    code, _, err = call(*FLAGS, "--values", "chip.toml")
    assert (code, "--values chip.toml: no [values]" in err) == (2, True)


def test_gray_predictions_with_transparent_pixels_are_refused(call: Call, save: Save, bars: np.ndarray) -> None:
    save("truth/a.png", bars)
    save("prediction/a.png", np.dstack([np.full(bars.shape, 255, np.uint8), np.where(bars, 255, 0).astype(np.uint8)]))
    assert call(*FLAGS)[0] == 0
    code, _, err = call(*FLAGS, "--threshold", "0.5")
    assert code == 2
    assert "prediction/a.png: transparent pixels; expected gray values alone with --threshold" in err


def test_notes_on_how_masks_were_read_are_told(call: Call, save: Save, bars: np.ndarray, tmp_path: Path) -> None:
    save("truth/a.png", bars)
    save("prediction/a.jpg", bars)
    code, out, _ = call(*FLAGS)
    assert code == 0
    assert "JPEG mask, thresholded at 128" in out
    assert len(json.loads((tmp_path / "out/summary.json").read_text())["notes"]) == 1


def remove_all(folder: str) -> Callable[[Save, np.ndarray], object]:
    return lambda save, bars: [path.unlink() for path in save(f"{folder}/a.png", bars).parent.iterdir()]


@pytest.mark.parametrize(
    ("spoil", "flags", "messages"),
    [
        (None, ("--truth", "nowhere"), ("--truth nowhere: no such folder",)),
        (None, ("--prediction", "nowhere"), ("--prediction nowhere: no such folder",)),
        (None, ("--ignore", "nowhere"), ("--ignore nowhere: no such folder",)),
        (remove_all("prediction"), (), ("--prediction prediction: no masks", ".png")),
        (remove_all("truth"), (), ("--truth truth: no masks",)),
        (
            lambda save, bars: save("predicted/mask/a.png", bars),
            ("--prediction", "predicted"),
            ("--prediction predicted: no masks", "(there are some in predicted/mask)"),
        ),
        (lambda save, bars: save("prediction/z.png", bars), (), ("prediction/z.png: prediction without truth",)),
        (lambda save, bars: save("truth/z.png", bars), (), ("truth/z.png: truth without prediction",)),
        (lambda save, bars: save("truth/b.tif", bars), (), ("another file has the stem 'b'",)),
        (
            lambda save, bars: save("prediction/b.png", bars[1:]),
            (),
            ("prediction/b.png: 80x47", "truth/b.png has 80x48"),
        ),
        (
            lambda save, bars: save("prediction/b.png", bars * np.uint8(77)),
            (),
            ("prediction/b.png: mask values {0, 77}", "expected {0, 1} or {0, 255}"),
        ),
        (lambda *_: Path("file").touch(), ("--out", "file"), ("--out file: file is a file",)),
        (lambda *_: Path("file").touch(), ("--out", "file/below"), ("--out file/below",)),
        (None, ("--overlay", "prediction"), ("--overlay prediction: one of the input folders",)),
        (None, ("--images", "truth"), ("--images truth: only shown below an overlay",)),
        (
            lambda save, bars: save("images/a.png", bars),
            ("--images", "images", "--overlay", "faults"),
            ("--images images: no image 'b'",),
        ),
        (
            lambda save, bars: [save(f"images/{name}.png", bars[: 48 - (name == "b")]) for name in "ab"],
            ("--images", "images", "--overlay", "faults"),
            ("images/b.png: 80x47",),
        ),
        (None, ("--threshold", "1.5"), ("--threshold 1.5: expected a share",)),
        (None, ("--group", "x"), ("--group 'x': expected a pattern with one group",)),
        (None, ("--group", "(f.)_"), ("a.png: the name does not match --group '(f.)_'",)),
    ],
)
def test_mistakes_are_named_and_leave_nothing(
    call: Call,
    save: Save,
    bars: np.ndarray,
    tmp_path: Path,
    spoil: Callable[[Save, np.ndarray], object] | None,
    flags: tuple[str, ...],
    messages: tuple[str, ...],
) -> None:
    for name in "ab":
        save(f"truth/{name}.png", bars)
        save(f"prediction/{name}.png", bars)
    if spoil is not None:
        spoil(save, bars)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, _, err = call(*FLAGS, *flags)
    assert code == 2
    for message in messages:
        assert message in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "faults").exists()


def test_images_without_a_counted_pixel_are_listed_and_count_nowhere(
    call: Call, save: Save, bars: np.ndarray, tmp_path: Path
) -> None:
    worse = bars.copy()
    worse[8:12] = False
    for name in ("a", "b"):
        save(f"truth/{name}.png", bars)
        save(f"prediction/{name}.png", worse)
        save(f"ignore/{name}.png", np.full(bars.shape, name == "b"))
    code, out, err = call(*FLAGS, "--ignore", "ignore", "--border", "5", "--no-cldice")
    assert code == 0, err
    assert "1 image; target track" in out
    assert "Without a counted pixel, and so without any value: b." in out
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["images"], summary["without_counted_pixel"]) == (2, ["b"])
    assert summary["metrics"]["image"]["dice"] == pytest.approx(6 / 7)
    rows = rows_of(tmp_path / "out/images.csv")
    ratios = set(rows["b"]) - {"image", "group", *metrics.COUNT_COLUMNS}
    assert {rows["b"][name] for name in ratios} == {""}
