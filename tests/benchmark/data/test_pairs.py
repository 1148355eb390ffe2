from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.data.pairs import find_pairs, scan
from benchmark.data.specs import DatasetSpec
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import make_folder, picture, save


def test_flat_folder_gives_the_pairs_of_a_study(tmp_path: Path) -> None:
    make_folder(tmp_path, ["f1_a", "f1_b", "f2_a"])
    (tmp_path / "label" / "f1_a.png").rename(tmp_path / "label" / "f1_a_mask.png")
    save(tmp_path / "ignore" / "f2_a.png", picture(0))
    result = scan(tmp_path, DatasetSpec(name="chip", group="(f.)_"))
    assert result.pairs == find_pairs(tmp_path, DatasetSpec(name="chip", group="(f.)_"))
    assert (result.images, result.labels, result.ignores, result.faults) == (3, 3, 1, [])


def test_split_folders_give_the_pairs_of_a_study(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        make_folder(tmp_path / part, ["a"])
    assert scan(tmp_path).pairs == find_pairs(tmp_path)


def test_hy5syn_layout_gives_the_pairs_of_a_study(tmp_path: Path) -> None:
    for index in (1, 2):
        save(tmp_path / "sems" / f"sem{index:04d}.png", picture(index))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "label0002.svg").write_text("<svg/>")
    result = scan(tmp_path)
    assert result.pairs == find_pairs(tmp_path, DatasetSpec(name="chip", unlabelled="skip"))
    assert [path.name for path in result.unlabelled] == ["sem0001.png"]


def test_every_stray_file_is_listed(tmp_path: Path) -> None:
    make_folder(tmp_path, ["a", "b", "c"])
    (tmp_path / "label" / "a.png").unlink()
    (tmp_path / "image" / "b.png").unlink()
    save(tmp_path / "image" / "c.bmp", picture(9))
    save(tmp_path / "ignore" / "z.png", picture(0))
    (tmp_path / "image" / "notes.txt").write_text("")
    result = scan(tmp_path, DatasetSpec(name="chip", group="(never)"))
    names = [
        [path.name for path in paths]
        for paths in (result.unlabelled, result.unpaired, result.unpaired_ignores, result.doubled, result.ungrouped)
    ]
    assert names == [["a.png"], ["b.png"], ["z.png"], ["c.png"], ["c.bmp"]]
    assert result.others == 1
    assert [pair.name for pair in result.pairs] == ["c"]


def test_folders_among_images_are_listed_and_not_searched(tmp_path: Path) -> None:
    make_folder(tmp_path, ["a"])
    make_folder(tmp_path / "image", ["b"])
    result = scan(tmp_path)
    assert [path.name for path in result.folders] == ["image", "label"]
    assert result.others == 0


def test_names_are_compared_in_normalised_unicode(tmp_path: Path) -> None:
    """A letter with its accent, and the two apart, as macOS writes them."""
    save(tmp_path / "image" / "\u00e9.png", picture(0))
    save(tmp_path / "label" / "e\u0301.png", picture(0) > 128)
    assert [pair.name for pair in find_pairs(tmp_path)] == ["\u00e9"]
    save(tmp_path / "image" / "e\u0301.png", picture(0))
    assert len(scan(tmp_path).doubled) == 1


def test_unknown_folder_names_suggest_prepare(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        save(tmp_path / name / "a.png", picture(0))
    with pytest.raises(UserError, match=r"image: no such folder; .*; found images/, masks/: .*data prepare NEWNAME"):
        find_pairs(tmp_path)


def test_names_outside_the_layout_are_listed(tmp_path: Path) -> None:
    save(tmp_path / "sems" / "frame1.png", picture(0))
    (tmp_path / "labels").mkdir()
    assert [path.name for path in scan(tmp_path).misnamed] == ["frame1.png"]


@pytest.mark.parametrize("missing", ["val", "train"])
def test_missing_part_is_a_fault(tmp_path: Path, missing: str) -> None:
    for part in {"train", "val", "test"} - {missing}:
        make_folder(tmp_path / part, ["a"])
    result = scan(tmp_path)
    assert f"but not {missing}/" in result.faults[0]
    assert len(result.pairs) == 2


def test_images_beside_split_folders_are_a_fault_and_are_listed(tmp_path: Path) -> None:
    for part in ("train", "val", "test", "."):
        make_folder(tmp_path / part, ["a"])
    result = scan(tmp_path)
    assert len(result.faults) == 1
    assert "both image/ and train/ val/ test/" in result.faults[0]
    assert [pair.name for pair in result.pairs] == ["a", "test/a", "train/a", "val/a"]


def test_link_loop_missing_folder_and_file_instead_of_folder_are_faults(tmp_path: Path) -> None:
    assert "no such folder" in scan(tmp_path / "nowhere").faults[0]
    (tmp_path / "image").symlink_to(tmp_path / "image")
    (tmp_path / "label").write_text("")
    (tmp_path / "ignore").symlink_to(tmp_path / "ignore")
    faults = scan(tmp_path).faults
    assert ["image" in faults[0], "label" in faults[1], "ignore" in faults[2]] == [True] * 3
