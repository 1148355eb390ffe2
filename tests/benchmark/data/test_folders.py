from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmark.data.folders import HashCache, Pair, find_pairs, fingerprint
from benchmark.errors import UserError
from tests.benchmark.data.folder_makers import add_pair, make_folder, picture, save


def identity(root: Path) -> str:
    return fingerprint(find_pairs(root), HashCache(root.parent / "hashes.json"))


def test_a_flat_folder_gives_its_pairs_by_name(tmp_path: Path) -> None:
    make_folder(tmp_path, ["b", "a"])
    assert find_pairs(tmp_path) == [
        Pair(stem, tmp_path / "image" / f"{stem}.png", tmp_path / "label" / f"{stem}.png", None) for stem in "ab"
    ]


def test_split_folders_give_their_part_and_may_repeat_a_stem(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        make_folder(tmp_path / part, ["a"])
    assert [(pair.name, pair.split) for pair in find_pairs(tmp_path)] == [
        ("test/a", "test"),
        ("train/a", "train"),
        ("val/a", "val"),
    ]


def test_image_and_label_may_differ_in_format_and_other_files_are_left_alone(tmp_path: Path) -> None:
    save(tmp_path / "image" / "a.JPG", picture(0))
    save(tmp_path / "label" / "a.png", picture(0) * 0)
    for stray in ("Thumbs.db", ".a.png", "notes.txt"):
        (tmp_path / "image" / stray).write_bytes(b"")
    (pair,) = find_pairs(tmp_path)
    assert (pair.image.name, pair.label.name) == ("a.JPG", "a.png")


@pytest.mark.parametrize(
    ("mine", "other", "message"),
    [
        ("image", "label", r"image[/\\]z\.png: image without label; expected a file of the same stem in .*label"),
        ("label", "image", r"label[/\\]z\.png: label without image; expected a file of the same stem in .*image"),
    ],
)
def test_orphans_are_refused_by_name(tmp_path: Path, mine: str, other: str, message: str) -> None:
    make_folder(tmp_path, ["a", "z"])
    (tmp_path / other / "z.png").unlink()
    with pytest.raises(UserError, match=message):
        find_pairs(tmp_path)


def test_the_number_of_further_orphans_is_told(tmp_path: Path) -> None:
    make_folder(tmp_path, "abc")
    for stem in "abc":
        (tmp_path / "label" / f"{stem}.png").unlink()
    with pytest.raises(UserError, match=r"a\.png: image without label \(and 2 more such\)"):
        find_pairs(tmp_path)


def test_two_files_of_one_stem_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, ["a"])
    save(tmp_path / "image" / "a.tif", picture(0))
    with pytest.raises(UserError, match=r"a\.png and a\.tif share the stem 'a'"):
        find_pairs(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "label").mkdir()
    with pytest.raises(UserError, match=r"image: no images; expected image/<name>\.png beside label/<name>\.png"):
        find_pairs(tmp_path)


@pytest.mark.parametrize("missing", ["image", "label"])
def test_a_missing_folder_is_refused(tmp_path: Path, missing: str) -> None:
    shutil.rmtree(make_folder(tmp_path, ["a"]) / missing)
    with pytest.raises(UserError, match=rf"{missing}: no such folder; expected image/ and label/"):
        find_pairs(tmp_path)


def test_a_file_in_the_place_of_the_dataset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "omc").write_bytes(b"")
    with pytest.raises(UserError, match="omc: no such folder"):
        find_pairs(tmp_path / "omc")


def test_some_of_the_split_folders_are_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        make_folder(tmp_path / part, ["a"])
    with pytest.raises(
        UserError, match=r"found train/, test/ but not val/; expected all of train/ val/ test/, or none"
    ):
        find_pairs(tmp_path)


def test_images_beside_split_folders_are_refused(tmp_path: Path) -> None:
    for part in ("train", "val", "test", "."):
        make_folder(tmp_path / part, ["a"])
    with pytest.raises(UserError, match="both image/ and train/ val/ test/"):
        find_pairs(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, ["a"])
    (tmp_path / "image").chmod(0)
    try:
        with pytest.raises(UserError, match=r"image: cannot be listed \(Permission denied\); check its permissions"):
            find_pairs(tmp_path)
    finally:
        (tmp_path / "image").chmod(0o755)


def test_content_changes_the_fingerprint_and_dates_do_not(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "omc", ["a", "b"])
    before = identity(root)
    for path in (root / "image" / "a.png", root / "label" / "a.png"):
        os.utime(path, ns=(1, 1))
    assert identity(root) == before
    content = (root / "label" / "a.png").read_bytes()
    save(root / "label" / "a.png", picture(9) // 255)
    changed = identity(root)
    assert changed != before
    (root / "label" / "a.png").write_bytes(content)
    assert identity(root) == before


def test_the_fingerprint_follows_names_and_parts_but_not_the_place_or_order(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "here" / "omc", ["a", "b"])
    before = identity(root)
    moved = tmp_path / "there" / "omc"
    shutil.copytree(root, moved)
    assert identity(moved) == before
    pairs = find_pairs(root)
    hashes = HashCache(tmp_path / "hashes.json")
    assert fingerprint(pairs[::-1], hashes) == before
    assert fingerprint([Pair(p.name, p.image, p.label, "train") for p in pairs], hashes) != before
    add_pair(root, "c", picture(7))
    assert identity(root) != before


def test_a_second_plan_opens_no_unchanged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path / "omc", ["a", "b"])
    before = identity(root)

    def forbidden(self: Path, *args: object) -> None:
        raise AssertionError(f"{self} was opened")

    hashes = HashCache(tmp_path / "hashes.json")
    monkeypatch.setattr(Path, "open", forbidden)
    assert fingerprint(find_pairs(root), hashes) == before


@pytest.mark.parametrize("content", [b"", b"[]", b'{"x": [1]}', b"\xff", b"{}"])
def test_a_broken_cache_of_hashes_is_made_again(tmp_path: Path, content: bytes) -> None:
    root = make_folder(tmp_path / "omc", ["a"])
    before = identity(root)
    (tmp_path / "hashes.json").write_bytes(content)
    assert identity(root) == before
    assert HashCache(tmp_path / "hashes.json").known.keys() == {
        str(root / "image" / "a.png"),
        str(root / "label" / "a.png"),
    }


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "omc", ["a"])
    (tmp_path / "file").write_bytes(b"")
    hashes = HashCache(tmp_path / "file" / "hashes.json")
    assert fingerprint(find_pairs(root), hashes) == identity(root)


def test_a_file_that_vanished_is_refused_by_name(tmp_path: Path) -> None:
    pairs = find_pairs(make_folder(tmp_path / "omc", ["a"]))
    pairs[0].label.unlink()
    with pytest.raises(UserError, match=r"a\.png: cannot be read \(No such file"):
        fingerprint(pairs, HashCache(tmp_path / "hashes.json"))
