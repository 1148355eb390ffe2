from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.data.pairs import find_pairs
from benchmark.data.prepare import archives, prepare
from benchmark.data.prepare.archives import Member
from benchmark.data.prepare.prepare import Prepared
from benchmark.data.specs import DatasetSpec
from benchmark.utils.errors import UserError
from tests.benchmark.data.prepare.test_archives import tarred, zipped


def made(root: Path, names: Iterable[str]) -> Path:
    """Write files whose content is their name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def content(names: Iterable[str]) -> dict[str, bytes]:
    return {name: name.encode() for name in names}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def digest(folder: Path) -> str:
    found = ((str(path), path.lstat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*"))
    return hashlib.sha256(repr(sorted(found)).encode()).hexdigest()


def refused(source: Path, match: str, name: str = "mychip") -> None:
    """The message matches and nothing at all is left behind, not even a folder."""
    root = source.parent / "data"
    with pytest.raises(UserError, match=match):
        prepare.prepare(name, source, root)
    assert not root.exists()


def run(source: Path, name: str = "mychip") -> Prepared:
    return prepare.prepare(name, source, source.parent / "data")


FLAT = ("image/1.png", "image/2.png", "label/1.png", "label/2.png")
DIVIDED = tuple(f"{part}/{name}" for part in ("train", "val", "test") for name in FLAT)


@pytest.mark.parametrize("wrapping", ["", "release-1.0/", "a/b/c/"])
@pytest.mark.parametrize("names", [FLAT, (*FLAT, "ignore/2.png"), DIVIDED], ids=["flat", "ignore", "divided"])
@pytest.mark.parametrize("form", ["folder", "zip", "tar", "zip in a folder"])
def test_folders_are_found_at_any_depth(tmp_path: Path, form: str, names: tuple[str, ...], wrapping: str) -> None:
    source = tmp_path / "download"
    files = content(wrapping + name for name in names)
    if form == "folder":
        made(source, files)
    elif form == "zip in a folder":
        source.mkdir()
        (source / "x.zip").write_bytes(zipped(files))
    else:
        source.write_bytes(zipped(files) if form == "zip" else tarred(files, "w:gz"))
    before = digest(tmp_path)
    steps: list[tuple[int, int]] = []
    result = prepare.prepare("mychip", source, tmp_path / "data", lambda *step: steps.append(step))
    assert tree(result.folder) == {name: (wrapping + name).encode() for name in names}
    pairs = find_pairs(result.folder)
    assert result == Prepared(tmp_path / "data" / "mychip", "folders", len(pairs), len(pairs), len(names), 0, ())
    assert steps == [(done, len(names)) for done in range(1, len(names) + 1)]
    shutil.rmtree(tmp_path / "data")
    os.utime(tmp_path)
    assert digest(tmp_path) == before


@pytest.mark.parametrize(("image", "label"), [("Images", "masks"), ("img", "GT"), ("imgs", "annotations")])
def test_synonyms_get_the_usual_names(tmp_path: Path, image: str, label: str) -> None:
    names = [f"{part}/{role}/1.png" for part in ("Train", "Validation", "test") for role in (image, label)]
    result = run(made(tmp_path / "download", names))
    assert set(tree(result.folder)) == {f"{p}/{r}/1.png" for p in ("train", "val", "test") for r in ("image", "label")}
    assert len(find_pairs(result.folder)) == 3


def test_marks_of_annotation_tools_are_renamed_away(tmp_path: Path) -> None:
    names = ("image/1.png", "image/2.png", "image/3_.png", "label/1_mask.png", "label/2_.tif", "label/3_.png")
    result = run(made(tmp_path / "download", names))
    assert set(tree(result.folder)) == {*names[:3], "label/1.png", "label/2.tif", "label/3_.png"}
    assert [pair.name for pair in find_pairs(result.folder)] == ["1", "2", "3_"]


def test_archives_of_images_and_of_labels_belong_together(tmp_path: Path) -> None:
    source = tmp_path / "download"
    source.mkdir()
    (source / "images.zip").write_bytes(zipped(content(["images/1.png", "images/2.png"])))
    (source / "Masks.tar.gz").write_bytes(tarred(content(["1.png", "2.png"]), "w:gz"))
    result = run(source)
    assert set(tree(result.folder)) == set(FLAT)
    assert result.labels == 2


def test_other_files_are_left_out_and_counted(tmp_path: Path) -> None:
    result = run(made(tmp_path / "download", (*FLAT, "README.md", "image/notes.txt", "preview.png")))
    assert set(tree(result.folder)) == set(FLAT)
    assert result.notes == (f"3 files of {tmp_path / 'download'} left out, such as 'README.md'",)


def test_two_labels_of_an_image_are_both_kept(tmp_path: Path) -> None:
    result = run(made(tmp_path / "download", (*FLAT, "label/1_mask.png")))
    with pytest.raises(UserError, match=r"1_mask\.png: label without image"):
        find_pairs(result.folder)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ([*(f"a/{n}" for n in FLAT), *(f"b/{n}" for n in FLAT)], "2 places with image/ and label/: a, b; expected one"),
        ([*FLAT, *(f"train/{n}" for n in FLAT)], "both image/ label/ and train/; expected one of the two"),
        ([*FLAT, "mask/1.png"], "2 folders that may be label/: label, mask; expected one"),
        ([n for n in DIVIDED if not n.startswith("val")], "found train/ test/ but not val/"),
        ([n for n in DIVIDED if not n.startswith("val/label")], "no label/ with files in val/"),
        ([*FLAT, "image/more/3.png"], "3.png: in a folder of its own inside the images"),
        (["image/1.png", "label/1_mask.png", "label/1_.png"], r"both would become label/1\.png"),
        (["image/1.png"], r"found 1 \.png in image/; expected image/ and label/"),
        (
            ["a/x.pdf", "b/y.pdf", "z"],
            r"found 2 \.pdf, 1 no suffix in a/, b/; expected image/ and label/.*HY5SYN.*MIIC",
        ),
        ([], "found no files; expected"),
    ],
)
def test_an_unclear_layout_is_refused(tmp_path: Path, names: list[str], match: str) -> None:
    (tmp_path / "download").mkdir()
    refused(made(tmp_path / "download", names), match)


HY5SYN = ("sems/sem0001.png", "sems/sem0002.png", "sems/sem0003.png", "labels/label0001.svg", "labels/label0003.svg")


@pytest.mark.parametrize("wrapping", ["", "hy5syn/data/"])
def test_hy5syn_keeps_its_layout_and_frames_without_label(tmp_path: Path, wrapping: str) -> None:
    result = run(made(tmp_path / "download", [wrapping + name for name in HY5SYN]), "hy5syn")
    assert set(tree(result.folder)) == set(HY5SYN)
    assert (result.layout, result.images, result.labels) == ("hy5syn", 3, 2)
    assert result.notes == ("3 images, 2 labels",)
    assert len(find_pairs(result.folder, DatasetSpec(name="miic", unlabelled="skip"))) == 2


def test_hy5syn_may_come_in_two_steps_but_frames_first(tmp_path: Path) -> None:
    frames, labels = (tmp_path / name for name in ("frames.zip", "labels.zip"))
    frames.write_bytes(zipped(content(HY5SYN[:3])))
    labels.write_bytes(zipped(content(HY5SYN[3:])))
    refused(labels, r"labels/label0001\.svg'?: label without image; expected sems/sem0001\.png", "hy5syn")
    assert run(frames, "hy5syn").labels == 0
    result = run(labels, "hy5syn")
    assert (result.images, result.labels, result.copied) == (3, 2, 2)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ("labels/label0004.svg", r"label0004\.svg: label without image"),
        ("sems/frame.png", r"frame\.png: expected a name such as sem0001\.png"),
        ("again/sems/sem0009.png", "2 folders sems/: again/sems, sems"),
    ],
)
def test_a_broken_hy5syn_is_refused(tmp_path: Path, more: str, match: str) -> None:
    refused(made(tmp_path / "download", (*HY5SYN, more)), match)


MIIC = (
    "Anomaly_train/train_normal_1.jpg",
    "Anomaly_test/normal_img/test_normal_2.jpg",
    "Anomaly_test/abnormal_img/test_abnormal_3.jpg",
    "Anomaly_test/abnormal_mask/test_abnormal_3.png",
    "Inpainting_train/train_normal_1.jpg",
    "Inpainting_train/train_normal_4.jpg",
    "Inpainting_test/mask/test_normal_2.jpg",
)
MIIC_IMAGES = {f"image/{stem}.jpg" for stem in ("train_normal_1", "test_normal_2", "test_abnormal_3", "train_normal_4")}


def test_miic_gives_images_and_never_takes_masks_of_defects(tmp_path: Path) -> None:
    result = run(made(tmp_path / "download", MIIC), "miic")
    assert set(tree(result.folder)) == MIIC_IMAGES
    assert (result.layout, result.images, result.labels) == ("miic", 4, 0)
    assert result.notes[0].startswith("4 images, 0 labels: MIIC's track masks were never published")
    assert str(tmp_path / "data" / "miic" / "label") in result.notes[0]
    assert result.notes[1].startswith("1 images of Inpainting_* left out")


def test_miic_as_a_folder_of_archives(tmp_path: Path) -> None:
    source = tmp_path / "dataverse_files"
    source.mkdir()
    for top in {name.split("/")[0] for name in MIIC}:
        inside = content(name.partition("/")[2] for name in MIIC if name.startswith(top))
        (source / f"{top}.zip").write_bytes(zipped(inside))
    assert set(tree(run(source, "miic").folder)) == MIIC_IMAGES


def test_single_miic_archive_is_recognised(tmp_path: Path) -> None:
    defects = content(["images/test_abnormal_1.jpg", "masks/test_abnormal_1.png"])
    for name in ("Inpainting_test.zip", "download.zip"):
        (tmp_path / name).write_bytes(zipped(defects))
        result = run(tmp_path / name, "miic")
        assert (result.layout, result.labels, set(tree(result.folder))) == ("miic", 0, {"image/test_abnormal_1.jpg"})


def test_original_images_are_preferred_to_inpainted_images(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(content(reversed(MIIC))))
    assert tree(run(tmp_path / "a.zip", "miic").folder)["image/train_normal_1.jpg"].startswith(b"Anomaly_train")


def test_published_miic_labels_are_not_tracks(tmp_path: Path) -> None:
    result = run(made(tmp_path / "download", (*MIIC, "Anomaly_test/label/test_abnormal_3.png")), "miic")
    assert result.labels == 0


def test_miic_accepts_track_masks_of_download_or_target(tmp_path: Path) -> None:
    source = made(tmp_path / "download", (*MIIC, "label/train_normal_1_mask.png"))
    result = run(source, "miic")
    assert set(tree(result.folder)) == {*MIIC_IMAGES, "label/train_normal_1.png"}
    made(result.folder, ["label/test_normal_2.png"])
    assert run(source, "miic").labels == 2
    made(source, ["label/train_normal_99.png"])
    with pytest.raises(UserError, match=r"train_normal_99\.png: label without image"):
        run(source, "miic")


def test_miic_images_of_one_stem_are_refused(tmp_path: Path) -> None:
    source = made(tmp_path / "download", (*MIIC, "Anomaly_train/again/train_normal_1.jpg"))
    refused(source, r"train_normal_1\.jpg and .*train_normal_1\.jpg: images of the same stem")


def test_a_second_call_copies_nothing(tmp_path: Path) -> None:
    source = made(tmp_path / "download", DIVIDED)
    assert (run(source).copied, run(source).skipped) == (12, 12)
    before = digest(tmp_path)
    assert run(source).copied == 0
    assert digest(tmp_path) == before


class Crash(BaseException):
    """As SIGKILL, nothing handles it."""


@pytest.mark.parametrize("pack", [zipped, lambda files: tarred(files, "w:xz")])
def test_an_interrupted_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    source = tmp_path / "download"
    files = {name: hashlib.shake_256(name.encode()).digest(200_000) for name in DIVIDED}
    source.write_bytes(pack(files))
    chunks = Member.chunks
    calls = 0

    def crashing(self: Member) -> Iterable[bytes]:
        nonlocal calls
        for chunk in chunks(self):
            calls += 1
            if calls == 11:
                raise Crash
            yield chunk

    monkeypatch.setattr(Member, "chunks", crashing)
    monkeypatch.setattr(Path, "unlink", lambda *args: None)  # nor does a killed process tidy up
    with pytest.raises(Crash):
        run(source)
    monkeypatch.undo()
    folder = tmp_path / "data" / "mychip"
    left = tree(folder)
    (temporary,) = [name for name in left if name.startswith(".")]
    assert {name: left[name] for name in left if name != temporary} == {n: files[n] for n in DIVIDED[:2]}
    result = run(source)
    assert (result.copied, result.skipped) == (10, 2)
    assert tree(folder) == files


def test_other_content_is_never_overwritten(tmp_path: Path) -> None:
    source = made(tmp_path / "download", FLAT)
    run(source)
    place = tmp_path / "data" / "mychip" / "label" / "2.png"
    for other, extent in ((b"other size", "of another size"), (b"label/X.png", "of the same size")):
        place.write_bytes(other)
        with pytest.raises(UserError, match=r"label/2\.png: exists with other content than .*nothing is overwritten"):
            run(source)
        assert place.read_bytes() == other, extent


def test_another_layout_is_not_mixed_in(tmp_path: Path) -> None:
    run(made(tmp_path / "one", FLAT))
    for name, names in (("two", DIVIDED), ("three", HY5SYN)):
        with pytest.raises(UserError, match=r"mychip: holds image/ already"):
            run(made(tmp_path / name, names))


@pytest.mark.parametrize(
    ("code", "match"), [(errno.ENOSPC, "No space left on device"), (errno.EACCES, "Permission denied")]
)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failing_disk_gives_one_message_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int, match: str
) -> None:
    def fail(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    source = made(tmp_path / "download", FLAT)
    monkeypatch.setattr(os, step, fail)
    refused(source, rf"image/1\.png: cannot be written \({match}\)")


def test_missing_disk_space_is_reported_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(tmp_path / "download", FLAT)
    monkeypatch.setattr(archives, "RESERVE", 1 << 62)
    refused(source, "mychip: needs .* and a reserve")


def test_target_must_be_a_folder(tmp_path: Path) -> None:
    source = made(tmp_path / "download", FLAT)
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(UserError, match="data"):
        run(source)
    assert (tmp_path / "data").read_bytes() == b""


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "/a", "C:a", "a\n", "omc-syn"])
def test_dataset_name_must_be_plain(tmp_path: Path, name: str) -> None:
    refused(made(tmp_path / "download", FLAT), "dataset name", name)


def test_links_in_target_are_refused(tmp_path: Path) -> None:
    source = made(tmp_path / "download", FLAT)
    outside = tmp_path / "outside"
    outside.mkdir()
    data = tmp_path / "data"
    data.mkdir()
    (data / "mychip").symlink_to(outside)
    with pytest.raises(UserError, match=r"mychip: a link to .*remove the link"):
        run(source)
    (data / "mychip").unlink()
    (data / "mychip").mkdir()
    (data / "mychip" / "label").symlink_to(outside)
    with pytest.raises(UserError, match="label: a link or a file where a folder is to go"):
        run(source)
    (data / "mychip" / "label").unlink()
    (data / "mychip" / "label").mkdir()
    (tmp_path / "xy").write_bytes(b"label/1.png")
    (data / "mychip" / "label" / "1.png").symlink_to("../../../xy")  # as long as the content, which is the same
    with pytest.raises(UserError, match=r"label/1\.png: exists with other content"):
        run(source)
    assert tree(outside) == {}


@pytest.mark.parametrize("place", ["data/mychip", "data", ".", "data/mychip/raw"])
def test_a_source_that_overlaps_its_target_is_refused(tmp_path: Path, place: str) -> None:
    source = made(tmp_path / place, FLAT)
    before = digest(tmp_path)
    with pytest.raises(UserError, match=r"holds .*mychip, or lies in it"):
        prepare.prepare("mychip", source, tmp_path / "data")
    assert digest(tmp_path) == before


def test_a_refused_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    for evil in ("../../evil.png", "/evil.png"):
        (tmp_path / "a.zip").write_bytes(zipped(content((*FLAT, evil))))
        refused(tmp_path / "a.zip", "goes up|an absolute path")
    damaged = bytearray(zipped(content(FLAT)))
    damaged[damaged.index(b"image/1.png", 40)] ^= 1  # in the content of the first file
    (tmp_path / "a.zip").write_bytes(damaged)
    refused(tmp_path / "a.zip", r"'image/1\.png': damaged or incomplete")


PIECES = (
    "image",
    "label",
    "Images",
    "mask",
    "train",
    "val",
    "test",
    "sems",
    "labels",
    "Anomaly_test",
    "..",
    ".",
    "",
    "C:",
)
LEAVES = ("1.png", "1_.png", "2.PNG", "sem1.png", "label1.svg", "test_normal_1.jpg", "x.zip", "\0", "..", "a" * 300)
PATHS = st.lists(st.sampled_from(PIECES), max_size=4).flatmap(
    lambda folders: st.sampled_from(LEAVES).map(lambda leaf: "/".join([*folders, leaf]))
)
ANY_NAME = st.one_of(PATHS, PATHS, st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))


def check_unpacking(base: Path, files: dict[str, bytes], flips: list[tuple[int, int]], as_tar: bool) -> None:
    """Whatever an archive holds: nothing but a user's error, and nothing outside the target."""
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    packed = bytearray(tarred(files) if as_tar else zipped(files))
    for place, value in flips:
        packed[place % len(packed)] ^= value
    (base / "a.bin").write_bytes(packed)
    with contextlib.suppress(UserError):
        result = prepare.prepare("x", base / "a.bin", base / "data")
        assert result.images >= 1 or result.layout == "hy5syn"
    found = {str(path.relative_to(base)) for path in base.rglob("*")}
    assert {path for path in found if not path.startswith("data/x/")} <= {"a.bin", "data", "data/x"}
    assert not any(path.endswith(".tmp") for path in found)
    assert (base / "a.bin").read_bytes() == packed


FUZZ = given(
    files=st.dictionaries(ANY_NAME, st.binary(max_size=20), min_size=1, max_size=6),
    flips=st.one_of(st.just([]), st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), max_size=4)),
    as_tar=st.booleans(),
)


@settings(max_examples=200, deadline=None)
@FUZZ
def test_no_file_escapes_the_target(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], flips: list[tuple[int, int]], as_tar: bool
) -> None:
    check_unpacking(tmp_path_factory.getbasetemp() / "fuzz", files, flips, as_tar)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@FUZZ
def test_no_file_escapes_the_target_many_times(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], flips: list[tuple[int, int]], as_tar: bool
) -> None:
    check_unpacking(tmp_path_factory.getbasetemp() / "fuzz", files, flips, as_tar)
