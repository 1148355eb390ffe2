from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmark.config.protocol import load_protocol
from benchmark.data import synthetic
from benchmark.data.check.findings_table import FindingRow, Verification, write
from benchmark.data.check.survey import DatasetFolder
from benchmark.data.check.verify import verify_dataset
from tests.benchmark.data.check.folder_checks import STEMS, check, protocol, row, with_parts
from tests.benchmark.data.folder_makers import add_pair, make_folder, picture, save

Breaker = Callable[[Path], object]


def test_clean_folder_gives_no_warning(root: Path) -> None:
    verification = check(root)
    assert verification.ok
    assert [row for row in verification.rows if row.problem or row.warning] == []
    assert row(verification, "pairs").value == "10"
    assert row(verification, "image sizes").value == "64x64: 10"
    assert row(verification, "mask values").value == "{0, 255}: 10"
    assert row(verification, "bit depth").value == "8 bit: 10"
    assert row(verification, "split").value == "8 train, 1 val, 1 test (by group, seed 0)"


def test_clean_split_folders_are_ok_and_keep_their_division(tmp_path: Path) -> None:
    verification = check(with_parts(tmp_path))
    assert verification.ok
    assert row(verification, "split").value == "3 train, 3 val, 3 test (as the folders give it)"


def empty_all(root: Path) -> None:
    for path in (root / "label").iterdir():
        save(path, np.zeros((64, 64), np.uint8))


def fill_all(root: Path) -> None:
    for path in (root / "label").iterdir():
        save(path, np.full((64, 64), 255, np.uint8))


def swap(root: Path) -> None:
    (root / "image").rename(root / "was_image")
    (root / "label").rename(root / "image")
    (root / "was_image").rename(root / "label")


def make_gray(root: Path) -> None:
    save(root / "label" / "a.png", np.resize(np.array([0, 127, 255], np.uint8), (64, 64)))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("breaker", "name", "value", "problem"),
    [
        (lambda root: (root / "label" / "a.png").unlink(), "images without label", "1", "image/a.png: add the label"),
        (lambda root: (root / "image" / "a.png").unlink(), "labels without image", "1", "label/a.png: add the image"),
        (lambda root: save(root / "ignore" / "z.png", picture(0)), "ignore masks without image", "1", "ignore/z.png"),
        (lambda root: save(root / "image" / "a.bmp", picture(50)), "duplicate stems", "1", "image/a.png: another"),
        (lambda root: truncate(root / "image" / "a.png"), "unreadable files", "1", "image/a.png: not a readable image"),
        (lambda root: truncate(root / "label" / "b.png"), "unreadable files", "1", "label/b.png: not a readable image"),
        (lambda root: (root / "label" / "b.png").write_bytes(b""), "unreadable files", "1", "label/b.png"),
        (lambda root: link_to_itself(root / "image" / "c.png"), "unreadable files", "1", "image/c.png"),
        (lambda root: add_pair(root, "z", picture(50, 40)), "images smaller than the input", "1", "image/z.png"),
        (
            lambda root: save(root / "label" / "a.png", picture(0, 32) // 255),
            "label sizes",
            "1 differ from their image's",
            "label/a.png: 32x32 pixels, its image 64x64",
        ),
        (
            lambda root: save(root / "ignore" / "a.png", picture(0)),
            "unreadable files",
            "1",
            "ignore/a.png: mask values {0, 1, 2",
        ),
        (
            lambda root: save(root / "ignore" / "a.png", picture(0, 32) // 255),
            "unreadable files",
            "1",
            "ignore/a.png: 32x32 pixels, but its image has 64x64",
        ),
        (
            lambda root: save(root / "label" / "a.png", picture(0, channels=3)),
            "mask values",
            "{0, 255}: 9, more",
            "a.png",
        ),
        (make_gray, "mask values", "{0, 255}: 9, {0, 127, 255}: 1", "label/a.png"),
        (
            lambda root: save(root / "image" / "a.png", picture(0).astype(np.uint16) * 257),
            "bit depth",
            "8 bit: 9, 16 bit: 1; ",
            "one gray would mean two things",
        ),
        (empty_all, "empty masks", "10", "every mask is empty"),
        (fill_all, "full masks", "10", "every mask is full"),
        (
            swap,
            "swapped folders",
            "images that look like masks: 10, labels that look like images: 10",
            "swapped folders",
        ),
        (lambda root: make_folder(root / "train", "a"), "files", "11 images", "found train/ but not val/, test/"),
    ],
)
def test_faults_that_make_numbers_wrong_are_problems(
    root: Path, breaker: Breaker, name: str, value: str, problem: str
) -> None:
    breaker(root)
    verification = check(root)
    assert row(verification, name).value.startswith(value)
    assert problem in row(verification, name).problem
    assert not verification.ok


def write_jpeg_mask(root: Path) -> None:
    (root / "label" / "a.png").unlink()
    blocks = np.kron(np.random.default_rng(0).integers(0, 2, (4, 4)), np.ones((16, 16))).astype(np.uint8)
    Image.fromarray(blocks * np.uint8(255)).save(root / "label" / "a.jpg", quality=70)


def make_transparent(root: Path) -> None:
    with Image.open(root / "image" / "a.png") as file:
        save(
            root / "image" / "a.png", np.dstack([np.asarray(file.convert("RGB")), np.zeros(file.size[::-1], np.uint8)])
        )


def invert_one(root: Path) -> None:
    image = np.clip(picture(50) + 0, 0, 255).astype(np.uint8)
    image[:10] = 255
    save(root / "image" / "z.png", image)
    save(root / "label" / "z.png", np.where(image > 200, 0, 255).astype(np.uint8))


def draw_one_as_1(root: Path) -> None:
    save(root / "label" / "a.png", np.asarray(Image.open(root / "label" / "a.png")) // np.uint8(255))


@pytest.mark.parametrize(
    ("breaker", "name", "warning"),
    [
        (draw_one_as_1, "mask values", "foreground is 1 in label/a.png and 255 in label/b.png, label/c.png"),
        (write_jpeg_mask, "mask values", "label/a.jpg: JPEG mask, thresholded at 128"),
        (lambda root: save(root / "label" / "a.png", np.zeros((64, 64), np.uint8)), "empty masks", "label/a.png"),
        (lambda root: save(root / "label" / "a.png", np.ones((64, 64), np.uint8)), "full masks", "label/a.png"),
        (invert_one, "mean gray", "label/z.png: more than half is foreground and its contrast is not the others'"),
        (lambda root: make_folder(root / "image" / "more", ["z"]), "files", "1 folder not searched: image/more"),
        (make_transparent, "image formats", "image/a.png: transparent pixels, of which the stored colours count"),
        (lambda root: add_pair(root, "z", picture(0)), "exact duplicates", "image/a.png = image/z.png: counted more"),
    ],
)
def test_faults_that_change_no_number_are_warnings(root: Path, breaker: Breaker, name: str, warning: str) -> None:
    breaker(root)
    verification = check(root)
    assert warning in row(verification, name).warning
    assert verification.ok


def test_inverted_masks_of_a_whole_dataset_are_suspected(root: Path) -> None:
    for path in (root / "image").iterdir():
        save(root / "label" / path.name, np.where(np.asarray(Image.open(path)) > 200, 0, 255).astype(np.uint8))
    assert "are they inverted?" in row(check(root), "mean gray").warning


def test_left_out_images_without_label_are_no_problem(root: Path) -> None:
    (root / "label" / "a.png").unlink()
    verification = check(root, unlabelled="skip")
    assert verification.ok
    assert row(verification, "images without label").warning == "image/a.png: left out"


def test_link_loop_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "image").symlink_to(tmp_path / "image")
    verification = check(tmp_path)
    assert "image: cannot be listed (Too many levels of symbolic links)" in row(verification, "files").problem
    assert row(verification, "pairs").value == "0"
    assert row(verification, "split").problem == "no image can be used"
    assert not verification.ok


def test_all_problems_are_reported(root: Path) -> None:
    (root / "label" / "a.png").unlink()
    truncate(root / "image" / "b.png")
    make_gray(root)
    (root / "label" / "a.png").rename(root / "label" / "c.png")
    verification = check(root)
    broken = [row.name for row in verification.rows if row.problem]
    assert broken == ["images without label", "unreadable files", "mask values"]


def test_first_problem_is_explained_and_others_are_named(root: Path) -> None:
    for stem in STEMS[:6]:
        truncate(root / "image" / f"{stem}.png")
    broken = row(check(root), "unreadable files")
    first, others = broken.problem.splitlines()
    assert broken.value == "6"
    assert first.startswith("image/a.png: not a readable image")
    assert others == "also image/b.png, image/c.png, image/d.png (and 2 more)"


def test_advised_input_for_small_images_fits(tmp_path: Path) -> None:
    make_folder(tmp_path, STEMS, 50)
    for how in ([], ["input.size_by_dataset.mychip=64"]):
        (flag,) = re.findall(r"--set (\S+)$", row(check(tmp_path, *how), "images smaller than the input").problem)
        assert check(tmp_path, *how, flag).ok


def test_image_without_group_match_is_a_problem(root: Path) -> None:
    assert "image/b.png" in row(check(root, group="(a)|[c-j]"), "source frames").problem


def test_tiles_and_left_out_pixels_are_counted(tmp_path: Path) -> None:
    make_folder(tmp_path, "abc", 160)
    add_pair(tmp_path, "d", picture(9, 80))
    verification = row(check(tmp_path), "tiles of 64x64")
    left_out = 1 - 13 * 64**2 / (3 * 160**2 + 80**2)
    assert verification.value == f"13; 1 each from 1 image, 4 each from 3 images; {left_out:.1%} of all pixels left out"
    add_pair(tmp_path, "small", picture(9, 50))
    partial = row(check(tmp_path, "input.partial_tiles=true"), "tiles of 64x64").value
    left_out = 50**2 / (3 * 160**2 + 80**2 + 50**2)
    assert partial == f"31; 4 each from 1 image, 9 each from 3 images; {left_out:.1%} of all pixels left out"


def test_ignored_pixels_count_in_no_share(root: Path) -> None:
    left = np.zeros((64, 64), np.uint8)
    left[:, :32] = 1
    for stem in STEMS:
        save(root / "ignore" / f"{stem}.png", left)
        save(root / "label" / f"{stem}.png", left)
    verification = check(root)
    assert row(verification, "ignored pixels").value == "50.00%"
    assert row(verification, "empty masks").value == "10"


def test_sixteen_bit_levels_are_reported(tmp_path: Path) -> None:
    for seed, stem in enumerate(STEMS):
        add_pair(tmp_path, stem, picture(seed))
        save(tmp_path / "image" / f"{stem}.png", picture(seed).astype(np.uint16) * 10 + 100)
    assert row(check(tmp_path), "bit depth").value == "16 bit: 10; 100 becomes 0 and 2650 becomes 255"
    assert row(check(tmp_path), "bit depth").warning == ""
    declared = check(tmp_path, levels=(0, 4000))
    assert row(declared, "bit depth").value.endswith("0 becomes 0 and 4000 becomes 255")
    assert declared.ok


def test_levels_under_a_data_bar_are_a_warning(tmp_path: Path) -> None:
    for seed, stem in enumerate(STEMS):
        add_pair(tmp_path, stem, picture(seed))
        pixels = picture(seed).astype(np.uint16) * 10 + 100
        pixels[56:], pixels[60:62, :9] = 0, 65535
        save(tmp_path / "image" / f"{stem}.png", pixels)
    warning = row(check(tmp_path), "bit depth").warning
    assert "fill 10 of 256 gray values" in warning
    assert "add levels = [1" in warning


def test_smallest_image_that_sets_the_tile_is_a_warning(tmp_path: Path) -> None:
    make_folder(tmp_path, STEMS, 128)
    add_pair(tmp_path, "small", picture(50, 70))
    verification = row(check(tmp_path, "input.tile=128"), "tiles of 70x70")
    assert verification.warning.startswith(
        "tiles are 70x70 and not 128x128, as the smallest image is; so are the tiles of 10 larger images"
    )


def test_progress_reaches_the_number_of_pairs(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    verify_dataset(DatasetFolder("mychip", root), protocol(), progress=lambda *call: calls.append(call))
    assert calls == [(done, 10) for done in range(1, 11)]


def test_all_forms_of_the_table_have_equal_content(root: Path, tmp_path: Path) -> None:
    make_gray(root)
    verification = check(root)
    as_json, as_markdown, as_csv = write(verification, tmp_path / "out")
    text = as_json.read_text()
    assert Verification.model_validate_json(text) == verification
    assert json.loads(text)["ok"] is False
    with as_csv.open(newline="") as file:
        assert [FindingRow(**line) for line in csv.DictReader(file)] == list(verification.rows)
    lines = as_markdown.read_text().splitlines()
    assert len(lines) == 4 + len(verification.rows)
    assert {line.replace("\\|", "").count("|") for line in lines[2:]} == {5}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(verification.to_table())
    shown = console.export_text()
    assert all(row.name in shown for row in verification.rows)


def test_no_content_of_a_file_stops_the_check(root: Path) -> None:
    rng = np.random.default_rng(0)
    for index, stem in enumerate(f"z{index}" for index in range(40)):
        add_pair(root, stem, picture(index))
        path = root / ("image", "label")[index % 2] / f"{stem}.png"
        content = bytearray(path.read_bytes())
        for place in rng.integers(0, 60 if index % 4 < 2 else len(content), 3):
            content[place] = rng.integers(256)
        path.write_bytes(content[: int(rng.integers(1, len(content)))] if index % 5 == 0 else content)
    (root / "image" / "folder.png").mkdir()
    (root / "label" / "folder.svg").mkdir()
    verification = verify_dataset(DatasetFolder("mychip", root), protocol())
    assert int(row(verification, "unreadable files").value) > 20
    assert row(verification, "pairs").value == "51"


@pytest.mark.parametrize("dataset", ["hy5syn", "miic", "omc", "omv"])
def test_stand_ins_are_clean(dataset: str, tmp_path: Path) -> None:
    folder = synthetic.write(dataset, tmp_path / f"{dataset}-syn", 6, height=128, width=128)
    settings = load_protocol("strict", [f"input.size_by_dataset.{dataset}=128"])
    verification = verify_dataset(
        DatasetFolder(f"{dataset}-syn", folder, "via" if dataset == "omv" else "track"), settings
    )
    assert [row for row in verification.rows if row.problem or row.warning] == []
