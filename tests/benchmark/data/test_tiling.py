"""Tiles of images, and of images that are labelled in part."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.config.protocol import load_protocol
from benchmark.data.batches import TrainingBatches
from benchmark.data.packs import foresee, open_pack
from benchmark.data.splits import Division
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import add_pair, make_folder, picture, save
from tests.benchmark.data.pack_makers import build, find, pixels_of, settings


def test_partial_tiles_are_moved_inwards(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "omc", ["a"], 64, 150)
    image = pixels_of(tmp_path / "data" / "omc" / "image" / "a.png")
    assert len(build(tmp_path).tiles) == 2
    pack = build(tmp_path, "input.partial_tiles=true")
    assert [(tile.name, tile.column) for tile in pack.tiles] == [("a_r0_c0", 0), ("a_r0_c1", 1), ("a_r0_c2", 2)]
    np.testing.assert_array_equal(pack.images[2, ..., 0], image[:, 150 - 64 :])


def test_sides_that_divide_have_no_partial_tile(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "omc", ["a"], 64, 128)
    assert len(build(tmp_path, "input.partial_tiles=true").tiles) == 2


def test_smallest_image_that_sets_the_tile_is_noted(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", "ab", 128)
    assert build(tmp_path).notes == ()
    add_pair(root, "c", picture(5, 40, 50))
    (note,) = build(tmp_path).notes
    assert note == "tiles are 40x40 and not 64x64, as the smallest image is; so are the tiles of 2 larger images"


def make_partly_labelled(root: Path, share: float, side: int = 256) -> None:
    """Write one frame of which the left part is labelled, and the rest ignored."""
    make_folder(root, ["scan"], side)
    ignored = np.full((side, side), 255, np.uint8)
    ignored[:, : round(side * share)] = 0
    save(root / "ignore" / "scan.png", ignored)


def test_unlabelled_tiles_and_inputs_are_in_no_part(tmp_path: Path) -> None:
    make_partly_labelled(tmp_path / "data/omc", 0.55)
    pack = build(tmp_path)
    protocol = settings("split.unit=image", "split.counts=[4,2,2]")
    # Columns of 64 px end at 64, 128, 192; the label at 141: the third column's centred input begins at 144.
    assert [round(tile.labelled, 3) for tile in pack.tiles] == [1, 1, 0, 0] * 4
    assert used(pack.divide(protocol)) == [0, 1, 4, 5, 8, 9, 12, 13]
    all_of_them = settings("split.unit=image", "split.counts=[8,4,4]", "split.min_labelled=0")
    assert used(pack.divide(all_of_them)) == list(range(16))


def used(division: Division) -> list[int]:
    return sorted(division.train + division.val + division.test)


def test_pack_and_plan_report_left_out_tiles(tmp_path: Path) -> None:
    make_partly_labelled(tmp_path / "data/omc", 0.55)
    protocol = settings("split.unit=image", "split.counts=[4,2,2]")
    source, cache = find(tmp_path, protocol), tmp_path / "cache"
    assert foresee(source, protocol, cache)[1] == [
        "tiles with too few labelled pixels will be left out; `data verify omc` counts them"
    ]
    pack = open_pack(source, protocol, cache)
    (note,) = pack.notes_under(protocol)
    assert note.startswith("8 of 16 tiles left out, since less than 0.1 of their pixels")
    assert foresee(source, protocol, cache)[1] == [note]


def test_too_few_labelled_tiles_are_refused_with_the_field_and_the_counts(tmp_path: Path) -> None:
    make_partly_labelled(tmp_path / "data/omc", 0.55)
    pack = build(tmp_path)
    with pytest.raises(UserError, match=r"8 images cannot .*; 8 of 16 tiles left out.*split\.min_labelled"):
        pack.divide(settings("split.unit=image", "split.counts=[8,4,4]"))


def test_existing_part_without_labels_is_refused(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "val", "test")):
        add_pair(tmp_path / "data/omc" / part, part, picture(number))
    save(tmp_path / "data/omc/test/ignore/test.png", np.full((64, 64), 255, np.uint8))
    with pytest.raises(UserError, match=r"omc: test/ has no image left; 1 of 3 tiles .*split\.min_labelled"):
        build(tmp_path).divide(settings("split.counts=none"))


@pytest.mark.parametrize(("unit", "known"), [("image", "54c21423d377acb9"), ("group", "13d2b291ded127ed")])
def test_labelled_data_give_results_of_earlier_studies(tmp_path: Path, unit: str, known: str) -> None:
    """The hashes were taken before there was a least labelled share."""
    make_folder(tmp_path / "data/chip", "abcdefgh", 150, 200)
    overrides = (f"split.unit={unit}", "split.counts=none", "training.augmentation=flips_turns")
    protocol = load_protocol("quick", ["input.size=32", "input.tile=48", *overrides])
    pack = open_pack(find(tmp_path, protocol, "chip"), protocol, tmp_path / "cache")
    division = pack.divide(protocol)
    digest = hashlib.sha256(pack.images.tobytes() + pack.masks.tobytes())
    digest.update(division.digest([tile.name for tile in pack.tiles]).encode())
    for batch in TrainingBatches([(pack, division.train)], 32, protocol, 0, torch.device("cpu")).epoch(0):
        digest.update((batch.images * 255).round().to(torch.uint8).numpy().tobytes())
        digest.update(batch.masks.to(torch.uint8).numpy().tobytes())
    assert digest.hexdigest()[:16] == known


@pytest.mark.parametrize("name", ["omc", "omc-syn"])
def test_min_labelled_changes_nothing_for_labelled_data(tmp_path: Path, name: str) -> None:
    make_folder(tmp_path / "data/omc", "abcd")
    for stem in "ab":  # an ignore mask that ignores nothing
        save(tmp_path / "data/omc/ignore" / f"{stem}.png", np.zeros((64, 64), np.uint8))
    pack = build(tmp_path, name=name)
    assert {tile.labelled for tile in pack.tiles} == {1.0}
    assert pack.divide(settings()) == pack.divide(settings("split.min_labelled=0"))
    assert pack.notes_under(settings()) == []
