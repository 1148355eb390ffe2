"""The verb from end to end: what it writes, what it does not do twice, and what it refuses."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from scipy import ndimage
from torch import nn

from benchmark.config import registry
from benchmark.data.formats.images import OWN_LEVELS
from benchmark.data.formats.svg import rasterise, read_svg
from benchmark.devices.precision import float32_precision
from benchmark.predict import fused_network, outputs, predict_images, shape_files
from benchmark.predict.fused_network import FusedNetwork
from benchmark.predict.polygons.outlines import trace
from benchmark.predict.settings import finds_vias
from benchmark.predict.shape_files import discs_of
from benchmark.records.weights import find_trained
from tests.benchmark.conftest import Call
from tests.benchmark.data.folder_makers import picture, save
from tests.benchmark.predict.conftest import TINYNET, Predict, contents, pixels_of

OAS = ("--polygons", "oas", "--nm-per-pixel", "10")


def test_image_leaves_a_mask_polygons_and_an_overlay(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", frame)
    code, out, err = predict("images/a.png", "--probability")
    assert code == 0, err
    assert "tinynet/0: 1 image, tiles of 32 px that share 8, on cpu" in out
    assert "[1/1] a.png: 130x90, 24 tiles" in out
    assert sorted(contents(tmp_path / "out")) == [
        *("manifest/a.json", "mask/a.png", "overlay/a.png", "polygons/a.svg", "probability/a.png"),
    ]
    mask = frame >= 128
    np.testing.assert_array_equal(pixels_of("out/mask/a.png"), mask * np.uint8(255))
    expected = 1 / (1 + np.exp(10 - 20 * (frame / 255)))
    np.testing.assert_allclose(pixels_of("out/probability/a.png") / 255, expected, atol=0.5 / 255 + 1e-4)
    np.testing.assert_array_equal(rasterise(read_svg(tmp_path / "out/polygons/a.svg")).track, mask)
    assert pixels_of("out/overlay/a.png").shape == (90, 130, 3)
    manifest = json.loads((tmp_path / "out/manifest/a.json").read_text())
    assert manifest["image"] == manifest["image"] | {"file": "a.png", "height": 90, "width": 130, "read": "whole"}
    assert (manifest["foreground_px"], manifest["components"]) == (mask.sum(), ndimage.label(mask, np.ones((3, 3)))[1])
    assert (manifest["settings"]["tile"], manifest["settings"]["overlap"], manifest["overlap"]) == (32, 8, 8)
    assert str(tmp_path) not in json.dumps(manifest)


def test_transparent_pixels_of_an_image_are_told(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.dstack([frame, np.zeros_like(frame)]))
    code, out, err = predict("a.png", "--no-polygons", "--no-overlay")
    assert code == 0, err
    assert "transparent pixels, of which the stored colours were seen" in out
    np.testing.assert_array_equal(pixels_of("out/mask/a.png") > 0, frame >= 128)


def test_network_whose_norms_are_not_folded_says_so_and_why(
    predict: Predict, frame: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", frame)
    monkeypatch.setattr(fused_network, "TOLERANCE", -1.0)  # which no two forms keep
    code, out, err = predict("a.png")
    assert code == 0, err
    reason = re.search(r"note: .* as they are written, which is slower: (with folded norms its logits differ .*)", out)
    assert reason is not None
    assert json.loads((tmp_path / "out/manifest/a.json").read_text())["as_written"] == reason[1]


def test_what_is_not_wanted_is_not_written(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "a.png", frame)
    assert predict("a.png", "--no-polygons", "--no-overlay")[0] == 0
    assert sorted(contents(tmp_path / "out")) == ["manifest/a.json", "mask/a.png"]


def test_masks_can_be_scored(predict: Predict, call: Call, frame: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", frame)
    save(tmp_path / "truth/a.png", (frame >= 128) * np.uint8(255))
    assert predict("images")[0] == 0
    assert call("score", "--truth", "truth", "--prediction", "out/mask", "--out", "scores")[0] == 0
    with (tmp_path / "scores/images.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["fg_iou"] == "1.0"


def test_broken_file_loses_no_other(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", frame)
    save(tmp_path / "images/c.png", frame)
    (tmp_path / "images/b.png").write_bytes((tmp_path / "images/a.png").read_bytes()[:900])
    code, out, _ = predict("images")
    assert code == 1
    assert "[2/3] b.png: broken" in out
    assert "out: 2 predicted, 1 broken" in out
    assert "broken: images/b.png: not a readable image" in out.splitlines()[-1]
    assert {path.stem for path in (tmp_path / "out/mask").iterdir()} == {"a", "c"}
    assert predict("images")[0] == 1


def test_tiff_that_breaks_in_the_middle_leaves_nothing(predict: Predict, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(0, 200, 150), tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset = file.pages.first.dataoffsets[-1]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[offset : offset + 9] = b"\xff" * 9
    (tmp_path / "a.tif").write_bytes(content)
    assert predict("a.tif")[0] == 1
    assert contents(tmp_path / "out") == {}


def test_little_contrast_under_a_data_bar_is_noted_with_levels(
    predict: Predict, frame: np.ndarray, tmp_path: Path
) -> None:
    deep = frame.astype(np.uint16) * 10 + 5000
    deep[-8:] = 0
    deep[-6:-4, :9] = 65535
    save(tmp_path / "deep.png", deep)
    code, out, _ = predict("deep.png")
    assert code == 0
    assert "of 256 gray values" in out
    levels = out.partition("use --levels ")[2].split()[0]
    assert "gray values" not in predict("deep.png", "--out", "told", "--levels", levels)[1]


def test_sixteen_bits_colours_and_small_images(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "deep.png", frame.astype(np.uint16) * 100 + 5000)
    save(tmp_path / "rgb.png", np.stack([frame, frame, frame], axis=-1))
    save(tmp_path / "small.png", frame[38:50, 28:50])
    code, out, _ = predict("deep.png", "rgb.png", "small.png", "--levels", "5000,30500")
    assert (code, out.count(OWN_LEVELS)) == (0, 0)
    expected = (frame >= 128) * np.uint8(255)
    np.testing.assert_array_equal(pixels_of("out/mask/deep.png"), expected)
    np.testing.assert_array_equal(pixels_of("out/mask/rgb.png"), expected)
    np.testing.assert_array_equal(pixels_of("out/mask/small.png"), expected[38:50, 28:50])
    assert json.loads((tmp_path / "out/manifest/deep.json").read_text())["image"]["levels"] == [5000, 30500]
    code, out, _ = predict("deep.png", "--out", "own")
    assert (code, out.count(f"note: {OWN_LEVELS}: --levels sets")) == (0, 1)
    assert "gray values" not in out
    low, high = json.loads((tmp_path / "own/manifest/deep.json").read_text())["image"]["levels"]
    np.testing.assert_array_equal(
        pixels_of("own/mask/deep.png"),
        (np.rint((frame * 100.0 + 5000 - low).clip(0) / (high - low) * 255) >= 128) * np.uint8(255),
    )


def test_manifest_tells_what_a_gpu_may_round_to_and_that_layers_stay_as_written() -> None:
    network = FusedNetwork(nn.Identity())
    by_torch = {"device": "cpu", "runtime": "torch", "runtime_version": version("torch")}
    assert predict_images.computing(network, torch.device("cpu")) == by_torch
    on_gpu = by_torch | {"device": "cuda", "float32_precision": float32_precision()}
    assert predict_images.computing(network, torch.device("cuda", 1)) == on_gpu
    slow = FusedNetwork(nn.Identity(), as_written="torch's meta device cannot run the network (ValueError)")
    assert predict_images.computing(slow, torch.device("cpu"))["as_written"] == slow.as_written


def test_files_folders_and_wildcards_are_images(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    for name in ("one/a.png", "one/b.TIF", "two/c.png", "two/d.png", "e.jpg"):
        save(tmp_path / name, frame)
    (tmp_path / "one/notes.txt").touch()
    assert predict("one", "two/*", "e.jpg", "one/a.png", "--no-overlay")[0] == 0
    assert {path.stem for path in (tmp_path / "out/mask").iterdir()} == set("abcde")


def test_vias_are_listed_and_drawn_as_discs(predict: Predict, tmp_path: Path) -> None:
    y, x = np.mgrid[:90, :130]
    image = np.zeros((90, 130), np.uint8)
    for centre_x, centre_y, radius in ((20, 15, 5), (100, 40, 8), (60, 70, 3)):
        image[(x - centre_x) ** 2 + (y - centre_y) ** 2 <= radius**2] = 255
    save(tmp_path / "a.png", image)
    assert predict("a.png", dataset="omv-syn")[0] == 0
    with (tmp_path / "out/vias/a.csv").open() as file:
        rows = [tuple(float(row[name]) for name in "xyr") for row in csv.DictReader(file)]
    np.testing.assert_allclose(rows, [(20, 15, 5), (100, 40, 8), (60, 70, 3)], atol=0.2)
    assert read_svg(tmp_path / "out/polygons/a.svg").vias.tolist() == [[20, 15, 5], [100, 40, 8], [60, 70, 3]]
    assert predict("a.png", "--vias", "--no-polygons", "--out", "asked")[0] == 0
    assert (tmp_path / "asked/vias/a.csv").read_bytes() == (tmp_path / "out/vias/a.csv").read_bytes()
    assert predict("a.png", "--no-vias", "--out", "tracks", dataset="omv-syn")[0] == 0
    assert not (tmp_path / "tracks/vias").exists()


def test_what_a_network_was_trained_for_is_known_without_a_test_too(results: Path) -> None:
    for name, expected in (("omc-syn", False), ("omv-syn", True)):
        (result,) = find_trained(results / "known", registry.select(TINYNET), name)
        assert finds_vias(result) is expected
        assert finds_vias(replace(result, record=result.record.model_copy(update={"metrics": {}}))) is expected


def test_discs_of_nothing_are_none() -> None:
    assert discs_of(np.zeros((4, 4), np.bool_)).shape == (0, 3)


def test_nothing_found_and_images_too_large_for_polygons_are_told(
    predict: Predict, frame: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "empty.png", np.zeros((40, 40), np.uint8))
    save(tmp_path / "large.png", frame)
    monkeypatch.setattr(outputs, "MOST_TRACED_PIXELS", 5000)
    code, out, _ = predict("empty.png", "large.png")
    assert code == 0
    assert "nothing predicted, so no SVG" in out
    assert "above 5,000 pixels, no polygons and vias: cut the image for them" in out
    assert not (tmp_path / "out/polygons").exists()


@pytest.mark.parametrize("kind", ["--vias", "--no-vias"])
def test_mask_of_too_many_corners_is_told(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
    save(tmp_path / "a.png", noise)
    corners = sum(len(ring) for one in trace(noise >= 128) for ring in (one.outer, *one.holes))
    monkeypatch.setattr(outputs, "MOST_CORNERS", corners)
    code, out, _ = predict("a.png", kind)
    assert code == 0
    assert "no polygons" not in out
    monkeypatch.setattr(outputs, "MOST_CORNERS", corners - 1)
    code, out, _ = predict("a.png", kind, "--out", "less")
    assert code == 0
    assert "a.png: 50x40, 4 tiles" in out
    note = f"{corners:,} corners, above {corners - 1:,}, whose outlines would take gigabytes: no polygons and vias"
    assert note in out
    assert sorted(contents(tmp_path / "less")) == ["manifest/a.json", "mask/a.png", "overlay/a.png"]
    assert note in json.loads((tmp_path / "less/manifest/a.json").read_text())["notes"][0]


def test_image_too_large_for_the_memory_loses_no_other(
    predict: Predict, frame: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", np.vstack([frame, frame]))
    save(tmp_path / "b.png", frame)
    original = shape_files.trace

    def limited(mask: np.ndarray) -> object:
        if mask.size > frame.size:
            raise MemoryError
        return original(mask)

    with monkeypatch.context() as patch:
        patch.setattr(shape_files, "trace", limited)
        code, out, _ = predict("a.png", "b.png")
    assert code == 1
    assert "out: 1 predicted, 1 broken" in out
    assert "broken: a.png: not enough memory" in out.splitlines()[-1]
    assert predict("a.png", "b.png")[0] == 0


def test_overlap_study_is_zero_where_nothing_is_around_a_pixel(
    predict: Predict, frame: np.ndarray, tmp_path: Path
) -> None:
    save(tmp_path / "a.png", frame)
    code, out, err = predict("a.png", "--overlap-study")
    assert code == 0, err
    assert "0 px shared, 15 tiles: probability differs by" in out
    with (tmp_path / "out/overlap.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["overlap_px"]) for row in rows] == [0, 4, 8, 12, 16, 20, 24]
    assert all(float(row["max_difference"]) < 1e-6 and row["changed_px"] == "0" for row in rows)
    assert sorted(contents(tmp_path / "out")) == ["overlap.csv", "overlap.pdf", "overlap.png"]


@pytest.mark.parametrize(
    ("arguments", "models", "message"),
    [
        (("a.png",), f"{TINYNET},unet", "expected one, since results would have the same names"),
        (("none.png",), TINYNET, "none.png: no image; expected a file, a folder or a wildcard"),
        (("no*.png",), TINYNET, "no*.png: no image"),
        (("empty",), TINYNET, "empty: no image"),
        (("a.png", "b/a.tif"), TINYNET, "b/a.tif: a.png has the same stem"),
        (("a.png", "--threshold", "1.5"), TINYNET, "--threshold 1.5: expected a probability between 0 and 1"),
        (("a.png", "--levels", "5"), TINYNET, "--levels 5: expected two numbers, the lower first"),
        (("a.png", "--levels", "9,nan"), TINYNET, "--levels 9,nan: expected two numbers"),
        (("a.png", "--levels=-inf,9"), TINYNET, "--levels -inf,9: expected two numbers"),
        (("a.png", "--overlap", "40"), TINYNET, "--overlap 40: expected 0 to 31 pixels with tiles of 32"),
        (("a.png", "--datasets", "miic"), TINYNET, "trained on omc-syn, omv-syn, not on miic"),
        (("a.png", "--out", "file"), TINYNET, "--out file: file is a file"),
        (("a.png", "b", "--overlap-study"), TINYNET, "2 images; expected one"),
        (("a.png", "--overlap-study", "--repeats", "all"), TINYNET, "--repeats: --overlap-study tries overlaps"),
        (("a.png", "--overlap-study", "--tile", "200"), TINYNET, "a.png: no larger than a tile of 200"),
        (("a.png", "--overlap-study", "--overlap", "0"), TINYNET, "--overlap: --overlap-study tries overlaps"),
        (
            ("a.png", "--overlap-study", "--no-vias", "--no-polygons", "--no-overlay", "--probability"),
            TINYNET,
            "--no-vias, --no-polygons, --no-overlay, --probability: --overlap-study tries",
        ),
        (("a.png", "--overlap-study", "--tile", "1"), TINYNET, "--tile 1: "),
        (
            (
                "a.png",
                "--overlap-study",
                "--polygons",
                "gds",
                "--nm-per-pixel",
                "1",
                "--layer-map",
                "x",
                "--tolerance",
                "1",
            ),
            TINYNET,
            "--polygons, --nm-per-pixel, --layer-map, --tolerance: --overlap-study tries",
        ),
        (
            ("a.png", "--polygons", "gsd"),
            TINYNET,
            "--polygons gsd: found 'gsd'; did you mean 'gds'?; expected a comma list",
        ),
        (("a.png", "--polygons", "svg,"), TINYNET, "--polygons svg,: found ''; expected a comma list of svg, gds, oas"),
        (("a.png", "--polygons", "gds", "--no-polygons"), TINYNET, "--no-polygons: --polygons gds asks for some"),
        (("a.png", "--polygons", "gds"), TINYNET, "--polygons gds: a layout has a scale; give the pitch"),
        (("a.png", "--tolerance", "1", "--layer-map", "x"), TINYNET, "--layer-map, --tolerance: for layout files only"),
        (("a.png", *OAS, "--tolerance", "-1"), TINYNET, "--tolerance -1.0: expected pixels"),
        (("a.png", *OAS, "--tolerance", "nan"), TINYNET, "--tolerance nan: expected pixels"),
        (
            ("a.png", *OAS, "--layer-map", "metal=1/0"),
            TINYNET,
            "--layer-map metal=1/0: found 'metal=1/0'; expected track",
        ),
        (("a.png", "--polygons", "oas", "--nm-per-pixel", "0"), TINYNET, "--nm-per-pixel 0.0: expected nanometres"),
        (("a.png", "--polygons", "oas", "--nm-per-pixel", "inf"), TINYNET, "--nm-per-pixel inf: expected nanometres"),
        (("a.png", "--polygons", "oas", "--nm-per-pixel", "0.12345"), TINYNET, "with at most 4 decimals"),
    ],
)
def test_mistakes_are_named(
    predict: Predict, frame: np.ndarray, tmp_path: Path, arguments: tuple[str, ...], models: str, message: str
) -> None:
    save(tmp_path / "a.png", frame)
    save(tmp_path / ("b/a.tif" if "b/a.tif" in arguments else "b/c.png"), frame)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    code, _, err = predict(*arguments, models=models)
    assert code == 2
    assert message in err
    assert not (tmp_path / "out").exists()
