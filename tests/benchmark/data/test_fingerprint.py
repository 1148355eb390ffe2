from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmark.data.fingerprint import HashCache, fingerprint
from benchmark.data.pairs import Pair, find_pairs
from benchmark.data.specs import DatasetSpec
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import add_pair, make_folder, picture, save


def identity(root: Path) -> str:
    return fingerprint(find_pairs(root), HashCache(root.parent / "hashes.json"))


def test_flat_folder_gives_its_pairs_by_name(tmp_path: Path) -> None:
    make_folder(tmp_path, ["b", "a"])
    assert find_pairs(tmp_path) == [
        Pair(stem, tmp_path / "image" / f"{stem}.png", tmp_path / "label" / f"{stem}.png", None, stem) for stem in "ab"
    ]


def test_split_folders_give_their_part_and_may_repeat_a_stem(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        make_folder(tmp_path / part, ["a"])
    assert [(pair.name, pair.split) for pair in find_pairs(tmp_path)] == [
        ("test/a", "test"),
        ("train/a", "train"),
        ("val/a", "val"),
    ]


def test_image_and_label_may_differ_in_format(tmp_path: Path) -> None:
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


def test_number_of_further_orphans_is_reported(tmp_path: Path) -> None:
    make_folder(tmp_path, "abc")
    for stem in "abc":
        (tmp_path / "label" / f"{stem}.png").unlink()
    with pytest.raises(UserError, match=r"a\.png: image without label \(and 2 more such\)"):
        find_pairs(tmp_path)


def test_two_files_of_one_stem_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, ["a"])
    save(tmp_path / "image" / "a.tif", picture(0))
    with pytest.raises(UserError, match=r"a\.tif: another file has the stem 'a'; keep one of them"):
        find_pairs(tmp_path)


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "label").mkdir()
    with pytest.raises(UserError, match=r"image: no images; expected image/<name>\.png beside label/<name>\.png"):
        find_pairs(tmp_path)


@pytest.mark.parametrize("missing", ["image", "label"])
def test_missing_folder_is_refused(tmp_path: Path, missing: str) -> None:
    shutil.rmtree(make_folder(tmp_path, ["a"]) / missing)
    with pytest.raises(UserError, match=rf"{missing}: no such folder; expected image/ and label/"):
        find_pairs(tmp_path)


def test_file_instead_of_dataset_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "omc").write_bytes(b"")
    with pytest.raises(UserError, match="omc: a file, not a folder"):
        find_pairs(tmp_path / "omc")


def test_some_of_the_split_folders_are_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        make_folder(tmp_path / part, ["a"])
    with pytest.raises(
        UserError, match=r"found train/, test/ but not val/; expected all of train/ val/ test/, only test"
    ):
        find_pairs(tmp_path)


def test_images_beside_split_folders_are_refused(tmp_path: Path) -> None:
    for part in ("train", "val", "test", "."):
        make_folder(tmp_path / part, ["a"])
    with pytest.raises(UserError, match="both image/ and train/ val/ test/"):
        find_pairs(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_folder_without_permission_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, ["a"])
    (tmp_path / "image").chmod(0)
    try:
        with pytest.raises(UserError, match=r"image: cannot be listed \(Permission denied\); check its permissions"):
            find_pairs(tmp_path)
    finally:
        (tmp_path / "image").chmod(0o755)


def test_fingerprint_depends_on_content_not_dates(tmp_path: Path) -> None:
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


def test_fingerprint_depends_on_names_and_parts_not_on_place(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "here" / "omc", ["a", "b"])
    before = identity(root)
    moved = tmp_path / "there" / "omc"
    shutil.copytree(root, moved)
    assert identity(moved) == before
    pairs = find_pairs(root)
    hashes = HashCache(tmp_path / "hashes.json")
    assert fingerprint(pairs[::-1], hashes) == before
    assert fingerprint([Pair(p.name, p.image, p.label, "train", p.group) for p in pairs], hashes) != before
    add_pair(root, "c", picture(7))
    assert identity(root) != before


def test_second_plan_opens_no_unchanged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path / "omc", ["a", "b"])
    before = fingerprint(find_pairs(root), HashCache(tmp_path / "hashes.json", settled_s=0))

    def forbidden(self: Path, *args: object) -> None:
        raise AssertionError(f"{self} was opened")

    hashes = HashCache(tmp_path / "hashes.json")
    monkeypatch.setattr(Path, "open", forbidden)
    assert fingerprint(find_pairs(root), hashes) == before


def test_corrected_masks_of_the_same_size_and_time_are_seen(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "omc", ["a"])
    label = save(root / "label" / "a.bmp", picture(0) // 255)
    (root / "label" / "a.png").unlink()
    os.utime(label, (1.6e9, 1.6e9))
    before, size = identity(root), label.stat().st_size
    save(label, 1 - picture(0) // 255)
    os.utime(label, (1.6e9, 1.6e9))  # as `cp -p` and archives leave it
    assert label.stat().st_size == size
    assert identity(root) != before


def test_masks_that_swap_their_names_are_seen(tmp_path: Path) -> None:
    hashes = HashCache(tmp_path / "hashes.json", settled_s=0)
    first, second = (save(tmp_path / f"{seed}.bmp", picture(seed)) for seed in (0, 1))
    for file in (first, second):
        os.utime(file, (1.6e9, 1.6e9))
    before = hashes.digest(first), hashes.digest(second)
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    assert (hashes.digest(first), hashes.digest(second)) == before[::-1]


def test_very_recent_file_is_not_cached(tmp_path: Path) -> None:
    file = save(tmp_path / "a.bmp", picture(0))
    hashes = HashCache(tmp_path / "hashes.json")
    hashes.digest(file)
    assert hashes.known == {}


def test_file_of_many_images_is_read_once(tmp_path: Path) -> None:
    class Counts(HashCache):
        read = 0

        def digest(self, path: Path) -> str:
            self.read += path.suffix == ".json"
            return super().digest(path)

    (tmp_path / "instances.json").write_text("{}")
    image, entry = save(tmp_path / "a.png", picture(0)), tmp_path / "instances.json"
    hashes = Counts(None)
    fingerprint([Pair(name, image, entry / name, None, name) for name in "abc"], hashes)
    assert hashes.read == 1


EARLIER = b'{"/data/omc/image/a.png": [4096, 1600000000000000000, "0123"]}'  # path: size, mtime, hash


@pytest.mark.parametrize("content", [b"", b"[]", b'{"x": [1]}', b"\xff", b"{}", EARLIER])
def test_broken_or_old_hash_cache_is_rebuilt(tmp_path: Path, content: bytes) -> None:
    root = make_folder(tmp_path / "omc", ["a"])
    before = identity(root)
    (tmp_path / "hashes.json").write_bytes(content)
    hashes = HashCache(tmp_path / "hashes.json", settled_s=0)
    assert fingerprint(find_pairs(root), hashes) == before
    assert HashCache(tmp_path / "hashes.json").known.keys() == {
        str(root / "image" / "a.png"),
        str(root / "label" / "a.png"),
    }


def test_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "omc", ["a"])
    (tmp_path / "file").write_bytes(b"")
    hashes = HashCache(tmp_path / "file" / "hashes.json")
    assert fingerprint(find_pairs(root), hashes) == identity(root)


def test_file_that_vanished_is_refused_by_name(tmp_path: Path) -> None:
    pairs = find_pairs(make_folder(tmp_path / "omc", ["a"]))
    pairs[0].label.unlink()
    with pytest.raises(UserError, match=r"a\.png: cannot be read \(No such file"):
        fingerprint(pairs, HashCache(tmp_path / "hashes.json"))


@pytest.mark.parametrize("ending", ["_mask", "_"])
def test_label_suffix_is_ignored_in_pairing(tmp_path: Path, ending: str) -> None:
    make_folder(tmp_path, ["a", "b"])
    (tmp_path / "label" / "a.png").rename(tmp_path / "label" / f"a{ending}.png")
    assert [(pair.name, pair.label.stem) for pair in find_pairs(tmp_path)] == [("a", f"a{ending}"), ("b", "b")]


def test_image_with_label_suffix_keeps_its_label(tmp_path: Path) -> None:
    make_folder(tmp_path, ["a", "a_"])
    assert [(pair.name, pair.label.stem) for pair in find_pairs(tmp_path)] == [("a", "a"), ("a_", "a_")]


def frames(root: Path, images: str = "01", labels: str = "01") -> Path:
    for number in images:
        save(root / "sems" / f"sem000{number}.png", picture(0))
    (root / "labels").mkdir(parents=True, exist_ok=True)
    for number in labels:
        (root / "labels" / f"label000{number}.svg").write_text("<svg/>", "utf-8")
    return root


def test_hy5syns_folders_pair_by_number(tmp_path: Path) -> None:
    result = find_pairs(frames(tmp_path))
    assert [(pair.name, pair.label.name, pair.group) for pair in result] == [
        ("sem0000", "label0000.svg", "sem0000"),
        ("sem0001", "label0001.svg", "sem0001"),
    ]


def test_images_without_label_are_left_out_for_datasets_with_such_images(tmp_path: Path) -> None:
    frames(tmp_path, images="012", labels="02")
    assert [pair.name for pair in find_pairs(tmp_path, DatasetSpec(name="chip", unlabelled="skip"))] == [
        "sem0000",
        "sem0002",
    ]
    with pytest.raises(UserError, match=r"sem0001\.png: image without label"):
        find_pairs(tmp_path)


def test_labels_without_image_and_no_labels_at_all_are_refused_everywhere(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"label0001\.svg: label without image"):
        find_pairs(frames(tmp_path / "a", images="0"), DatasetSpec(name="chip", unlabelled="skip"))
    with pytest.raises(UserError, match=r"b: no labels for 2 images"):
        find_pairs(frames(tmp_path / "b", labels=""), DatasetSpec(name="chip", unlabelled="skip"))


def test_unknown_file_name_in_hy5syn_is_refused(tmp_path: Path) -> None:
    frames(tmp_path)
    save(tmp_path / "sems" / "overview.png", picture(0))
    with pytest.raises(UserError, match=r"overview\.png: expected a name such as sem0001\.png"):
        find_pairs(tmp_path)


def test_ignore_masks_belong_to_images(tmp_path: Path) -> None:
    make_folder(tmp_path, ["a", "b"])
    save(tmp_path / "ignore" / "b.png", picture(0) * 0)
    assert [pair.ignore and pair.ignore.name for pair in find_pairs(tmp_path)] == [None, "b.png"]
    before = identity(tmp_path)
    save(tmp_path / "ignore" / "b.png", picture(0) * 0 + 1)
    assert identity(tmp_path) != before
    save(tmp_path / "ignore" / "c.png", picture(0) * 0)
    with pytest.raises(UserError, match=r"c\.png: ignore mask without image"):
        find_pairs(tmp_path)


def test_groups_come_from_the_name_and_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    make_folder(tmp_path, ["f1_a", "f1_b", "f2_a"])
    result = find_pairs(tmp_path, DatasetSpec(name="chip", group=r"(f\d)_"))
    assert [pair.group for pair in result] == ["f1", "f1", "f2"]
    assert fingerprint(result, HashCache(tmp_path.parent / "hashes.json")) != identity(tmp_path)
