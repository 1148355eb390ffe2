"""Faults and doubts of images, masks and splits, as packs tell them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import add_pair, make_folder, picture, save
from tests.benchmark.data.pack_makers import build, pixels_of, settings


@pytest.mark.parametrize(("level", "name"), [(0, "empty"), (255, "full")])
def test_dataset_with_masks_of_one_value_is_refused(tmp_path: Path, level: int, name: str) -> None:
    root = make_folder(tmp_path / "data" / "omc", ["a", "b"])
    save(root / "label" / "a.png", np.full((64, 64), level, np.uint8))
    assert build(tmp_path).notes == (f"{name} masks: label/a.png",)
    save(root / "label" / "b.png", np.full((64, 64), level, np.uint8))
    with pytest.raises(UserError, match=rf"omc: every mask is {name}: nothing can be learned .*`data show omc`"):
        build(tmp_path)


def test_fully_ignored_data_are_refused(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", ["a"])
    save(root / "ignore" / "a.png", np.ones((64, 64), np.uint8))
    with pytest.raises(UserError, match="omc: every pixel is ignored"):
        build(tmp_path)


def test_inverted_masks_are_noted(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", "abc")
    for path in (root / "image").iterdir():
        save(root / "label" / path.name, np.where(pixels_of(path) > 200, 0, 255).astype(np.uint8))
    (note,) = build(tmp_path).notes
    assert note == "mean gray: most masks hold more than half of the image, and its darker part: are they inverted?"


def test_masks_that_draw_foreground_by_two_values_are_noted(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", "ab")
    save(root / "label" / "a.png", pixels_of(root / "label" / "a.png") // np.uint8(255))
    (note,) = build(tmp_path).notes
    assert note.startswith(
        "mask values: foreground is 1 in label/a.png and 255 in label/b.png: where one of them means"
    )
    save(root / "label" / "a.png", np.zeros((64, 64), np.uint8))
    (note,) = build(tmp_path).notes
    assert note == "empty masks: label/a.png"


def test_transparent_images_are_noted(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", ["a"])
    save(root / "image" / "a.png", np.stack([picture(0), picture(1)], -1))
    (note,) = build(tmp_path).notes
    assert note.startswith("image formats: image/a.png: transparent pixels")


def test_data_bar_in_16_bit_images_is_noted_with_levels(tmp_path: Path) -> None:
    root = tmp_path / "data" / "omc"
    for seed in range(2):
        pixels = 800 + picture(seed, 128).astype(np.uint16) * 10
        pixels[110:] = 0
        pixels[112:118, 5:60] = 65535
        save(root / "image" / f"{seed}.png", pixels)
        save(root / "label" / f"{seed}.png", picture(seed, 128) // 128)
    (note,) = build(tmp_path).notes
    assert "the middle 90 % of the pixels fill 13 of 256 gray values" in note
    (low, high) = (int(text) for text in note.partition("levels = [")[2].partition("]")[0].split(","))
    assert 800 <= low < 820
    assert 3330 < high <= 3350
    (tmp_path / "data" / "omc.toml").write_text(f"levels = [{low}, {high}]", "utf-8")
    pack = build(tmp_path)
    assert pack.notes == ()
    assert pack.images[:, :64].std() > 60


def test_similar_images_in_two_parts_are_noted_with_remedy(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", "abcdefgh")
    for seed, stem in enumerate("abcd"):
        add_pair(root, f"{stem}2", np.clip(picture(seed).astype(int) + 12, 0, 255).astype(np.uint8))
    shares = ("split.counts=none", "split.test=0.3", "split.validation=0.3")
    notes = build(tmp_path).notes_under(settings("split.near_duplicates=apart", *shares))
    assert [note.partition(": ")[0] for note in notes] == ["near duplicates", "leakage"]
    assert "use --set split.near_duplicates=together" in notes[0]
    assert build(tmp_path).notes_under(settings(*shares)) == []
