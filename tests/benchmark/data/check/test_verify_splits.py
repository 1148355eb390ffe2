"""Duplicates, leakage and the split in the check of a folder."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data.check.findings_table import FindingRow
from benchmark.data.check.survey import DatasetFolder, survey_folder
from benchmark.data.check.verify import verify_dataset
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.packs import open_pack
from tests.benchmark.data.check.folder_checks import check, protocol, row, with_parts
from tests.benchmark.data.folder_makers import add_pair, make_folder, picture, save


def test_same_image_in_two_parts_is_a_problem(tmp_path: Path) -> None:
    with_parts(tmp_path)
    Image.fromarray(picture(0)).save(tmp_path / "test" / "image" / "test0.png", compress_level=0)
    verification = check(tmp_path)
    assert row(verification, "exact duplicates").value == "2 images in 1 set, 1 across parts"
    assert "test/image/test0.png = train/image/train0.png: one part" in row(verification, "exact duplicates").problem
    assert row(verification, "leakage: looks like a training tile").value == "val 0 of 3, test 1 of 3"
    assert not verification.ok


def test_near_duplicate_in_two_parts_is_a_problem(tmp_path: Path) -> None:
    with_parts(tmp_path)
    save(tmp_path / "val" / "image" / "val1.png", np.clip(picture(0).astype(int) + 12, 0, 255).astype(np.uint8))
    verification = check(tmp_path)
    assert row(verification, "exact duplicates").problem == ""
    assert row(verification, "near duplicates").problem == (
        "train/train0, val/val1: one part knows the other, move them to one part"
    )
    assert "move them" in row(verification, "leakage: looks like a training tile").problem
    assert not verification.ok


def test_joined_similar_images_are_a_warning(root: Path) -> None:
    add_pair(root, "z", np.clip(picture(0).astype(int) + 12, 0, 255).astype(np.uint8))
    verification = check(root)
    assert row(verification, "near duplicates").value == "2 tiles in 1 set, 0 across parts"
    assert row(verification, "near duplicates").warning == "a, z: counted more than once"
    assert verification.ok


def test_divided_similar_images_are_a_problem(root: Path) -> None:
    for index in range(8):
        add_pair(root, f"z{index}", np.clip(picture(0).astype(int) + index, 0, 255).astype(np.uint8))
    verification = check(root, "split.validation=0.4", "split.test=0.4", preset="paper")
    assert "split.near_duplicates=together" in row(verification, "near duplicates").problem
    assert not verification.ok


def test_folds_are_counted_and_judged_together(tmp_path: Path) -> None:
    make_folder(tmp_path, "abc", 320)
    by_group = check(tmp_path, "split.folds=3")
    assert row(by_group, "split").value == "3 folds: 25 train, 25 val, 25 test (by group, seed 0)"
    assert row(by_group, "leakage: frame also trained on").value == "val 0 of 75, test 0 of 75"
    by_image = check(tmp_path, "split.folds=4", preset="paper")
    assert row(by_image, "split").value == "4 folds: 50 to 51 train, 6 val, 18 to 19 test (by image, seed 0)"
    assert row(by_image, "leakage: frame also trained on").value == "val 24 of 24, test 75 of 75"
    few = check(tmp_path, "split.folds=5")
    assert "found 3 groups but split.folds=5 needs 5 at least: use" in row(few, "split").problem


def test_images_in_two_folds_are_in_two_parts(root: Path) -> None:
    add_pair(root, "z", picture(0))
    verification = check(root, "split.folds=9", preset="paper")
    assert row(verification, "exact duplicates").value == "2 images in 1 set, 1 across parts"
    assert "split.near_duplicates=together" in row(verification, "near duplicates").problem


def test_divided_tiles_of_a_frame_are_a_problem_unless_unit_is_image(tmp_path: Path) -> None:
    make_folder(tmp_path, "abc", 320)
    by_image, by_group = check(tmp_path, preset="paper"), check(tmp_path)
    name = "leakage: frame also trained on"
    assert row(by_image, name).value == "val 8 of 8, test 8 of 8"
    assert "use --set split.unit=group" in row(by_image, name).warning
    assert row(by_group, name) == FindingRow(name=name, value="val 0 of 25, test 0 of 25")
    assert row(by_image, "leakage: touches a training tile").warning
    assert by_image.ok
    assert by_group.ok


@pytest.mark.parametrize(
    ("how", "preset", "name"),
    [
        (["split.unit=image"], "paper", "leakage: frame also trained on"),
        (["split.unit=image"], "paper", "leakage: touches a training tile"),
        (["split.unit=group"], "paper", "split"),
        (["split.counts=[48,8,8]"], "strict", "split"),
        (["input.tile=64"], "quick", "split"),
    ],
)
def test_advice_for_single_frame_works(tmp_path: Path, how: list[str], preset: str, name: str) -> None:
    make_folder(tmp_path, ["scan"], 512)
    leak = row(check(tmp_path, *how, preset=preset), name)
    flags = re.findall(r"--set (split\.\w+=\w+)", (leak.problem or leak.warning).partition("; or ")[0])
    assert "split.unit=block" in flags
    after = check(tmp_path, *how, *flags, preset=preset)
    assert after.ok
    assert row(after, "leakage: touches a training tile").value.startswith("val 0 of ")
    assert not any(other.problem or other.warning for other in after.rows if other.name.startswith("leakage"))


def test_frames_in_two_existing_parts_are_a_problem_for_groups(tmp_path: Path) -> None:
    verification = check(with_parts(tmp_path), group="([0-9])$")
    assert row(verification, "source frames").value == "3"
    assert row(verification, "leakage: frame also trained on").problem
    assert not verification.ok


def test_impossible_split_is_a_problem(tmp_path: Path) -> None:
    make_folder(tmp_path, "ab")
    assert "cannot be split" in row(check(tmp_path), "split").problem


def test_tiles_with_too_few_labelled_pixels_are_counted_and_left_out(tmp_path: Path) -> None:
    make_folder(tmp_path, ["scan"], 512)
    ignored = np.full((512, 512), 255, np.uint8)
    ignored[:, :210] = 0
    save(tmp_path / "ignore" / "scan.png", ignored)
    verification = check(tmp_path, "split.unit=image")
    few = row(verification, "tiles with too few labelled pixels")
    assert few.value == "32"
    assert few.warning.startswith("32 of 64 tiles left out, since less than 0.1 of their pixels")
    assert row(verification, "split").value == "26 train, 3 val, 3 test (by image, seed 0)"
    save(tmp_path / "ignore" / "scan.png", np.maximum(ignored, 255 * (np.indices((512, 512))[1] > 90)).astype(np.uint8))
    assert (
        "look whether the ignored pixels are the right ones"
        in row(check(tmp_path, "split.unit=image"), "tiles with too few labelled pixels").warning
    )


def test_overlap_with_another_dataset_is_counted(root: Path, tmp_path: Path) -> None:
    other = make_folder(tmp_path / "other", "abc")
    settings = protocol("split.validation=0.3", "split.test=0.3")
    verification = verify_dataset(DatasetFolder("mychip", root), settings, against=DatasetFolder("other", other))
    assert row(verification, "overlap with other").value.startswith("3 of 10 tiles look like a tile there")
    apart = verify_dataset(
        DatasetFolder("mychip", root),
        settings,
        against=DatasetFolder("other", make_folder(tmp_path / "none", [], 64) / "none"),
    )
    assert row(apart, "overlap with other").value.startswith("0 of 10 tiles")


def test_image_in_test_and_other_training_set_is_a_warning(tmp_path: Path) -> None:
    first, second = with_parts(tmp_path / "first"), tmp_path / "second"
    for offset, part in enumerate(("test", "val", "train")):  # train and test changed places
        for index in range(3):
            add_pair(second / part, f"x{index}", picture(100 * offset + index))
    verification = verify_dataset(DatasetFolder("a", first), protocol(), against=DatasetFolder("b", second))
    assert row(verification, "overlap with b").value == (
        "9 of 9 tiles look like a tile there; 3 are test here and training there, "
        "3 of b are test there and training here"
    )
    assert "do not train on b and test on a" in row(verification, "overlap with b").warning


def test_tiles_and_split_equal_those_of_a_study(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "mychip", "abcd", 200, 140)
    add_pair(tmp_path / "data" / "mychip", "e", picture(0, 200, 140))
    for overrides in ((), ("input.partial_tiles=true",)):
        settings = protocol(*overrides, preset="paper")
        (source,) = resolve("mychip", tmp_path / "data", settings, HashCache(tmp_path / "hashes.json"))
        pack = open_pack(source, settings, tmp_path / "cache")
        seen = survey_folder(DatasetFolder("mychip", tmp_path / "data" / "mychip"), settings)
        assert seen.tiles == pack.tiles
        assert any(tile.cluster for tile in seen.tiles)
        assert seen.divisions == (pack.divide(settings),)
