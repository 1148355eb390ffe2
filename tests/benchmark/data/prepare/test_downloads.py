"""Layouts of downloads: images and labels get their paths, unclear layouts are refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmark.data.pairs import find_pairs
from benchmark.data.prepare.prepare import Prepared, prepare_dataset
from benchmark.data.specs import DatasetSpec
from benchmark.utils.errors import UserError
from tests.benchmark.data.prepare.archive_makers import tarred, zipped
from tests.benchmark.data.prepare.download_makers import (
    DIVIDED,
    FLAT,
    HY5SYN,
    assert_refused,
    bring_in,
    content,
    digest,
    tree,
    write_files,
)


@pytest.mark.parametrize("wrapping", ["", "release-1.0/", "a/b/c/"])
@pytest.mark.parametrize("names", [FLAT, (*FLAT, "ignore/2.png"), DIVIDED], ids=["flat", "ignore", "divided"])
@pytest.mark.parametrize("form", ["folder", "zip", "tar", "zip in a folder"])
def test_folders_are_found_at_any_depth(tmp_path: Path, form: str, names: tuple[str, ...], wrapping: str) -> None:
    source = tmp_path / "download"
    files = content(wrapping + name for name in names)
    if form == "folder":
        write_files(source, files)
    elif form == "zip in a folder":
        source.mkdir()
        (source / "x.zip").write_bytes(zipped(files))
    else:
        source.write_bytes(zipped(files) if form == "zip" else tarred(files, "w:gz"))
    before = digest(tmp_path)
    steps: list[tuple[int, int]] = []
    result = prepare_dataset("mychip", source, tmp_path / "data", lambda *step: steps.append(step))
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
    result = bring_in(write_files(tmp_path / "download", names))
    assert set(tree(result.folder)) == {f"{p}/{r}/1.png" for p in ("train", "val", "test") for r in ("image", "label")}
    assert len(find_pairs(result.folder)) == 3


def test_marks_of_annotation_tools_are_renamed_away(tmp_path: Path) -> None:
    names = ("image/1.png", "image/2.png", "image/3_.png", "label/1_mask.png", "label/2_.tif", "label/3_.png")
    result = bring_in(write_files(tmp_path / "download", names))
    assert set(tree(result.folder)) == {*names[:3], "label/1.png", "label/2.tif", "label/3_.png"}
    assert [pair.name for pair in find_pairs(result.folder)] == ["1", "2", "3_"]


def test_archives_of_images_and_of_labels_belong_together(tmp_path: Path) -> None:
    source = tmp_path / "download"
    source.mkdir()
    (source / "images.zip").write_bytes(zipped(content(["images/1.png", "images/2.png"])))
    (source / "Masks.tar.gz").write_bytes(tarred(content(["1.png", "2.png"]), "w:gz"))
    result = bring_in(source)
    assert set(tree(result.folder)) == set(FLAT)
    assert result.labels == 2


def test_other_files_are_left_out_and_counted(tmp_path: Path) -> None:
    result = bring_in(write_files(tmp_path / "download", (*FLAT, "README.md", "image/notes.txt", "preview.png")))
    assert set(tree(result.folder)) == set(FLAT)
    assert result.notes == (f"3 files of {tmp_path / 'download'} left out, such as 'README.md'",)


def test_two_labels_of_an_image_are_both_kept(tmp_path: Path) -> None:
    result = bring_in(write_files(tmp_path / "download", (*FLAT, "label/1_mask.png")))
    with pytest.raises(UserError, match=r"1_mask\.png: label without image"):
        find_pairs(result.folder)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ([*(f"a/{n}" for n in FLAT), *(f"b/{n}" for n in FLAT)], "2 folders with image/ and label/: a, b; expected"),
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
def test_unclear_layout_is_refused(tmp_path: Path, names: list[str], match: str) -> None:
    (tmp_path / "download").mkdir()
    assert_refused(write_files(tmp_path / "download", names), match)


@pytest.mark.parametrize("wrapping", ["", "hy5syn/data/"])
def test_hy5syn_keeps_its_layout_and_frames_without_label(tmp_path: Path, wrapping: str) -> None:
    result = bring_in(write_files(tmp_path / "download", [wrapping + name for name in HY5SYN]), "hy5syn")
    assert set(tree(result.folder)) == set(HY5SYN)
    assert (result.layout, result.images, result.labels) == ("hy5syn", 3, 2)
    assert result.notes == ("3 images, 2 labels",)
    assert len(find_pairs(result.folder, DatasetSpec(name="miic", unlabelled="skip"))) == 2


def test_hy5syn_may_come_in_two_steps_but_frames_first(tmp_path: Path) -> None:
    frames, labels = (tmp_path / name for name in ("frames.zip", "labels.zip"))
    frames.write_bytes(zipped(content(HY5SYN[:3])))
    labels.write_bytes(zipped(content(HY5SYN[3:])))
    assert_refused(labels, r"labels/label0001\.svg'?: label without image; expected sems/sem0001\.png", "hy5syn")
    assert bring_in(frames, "hy5syn").labels == 0
    result = bring_in(labels, "hy5syn")
    assert (result.images, result.labels, result.copied) == (3, 2, 2)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ("labels/label0004.svg", r"label0004\.svg: label without image"),
        ("sems/frame.png", r"frame\.png: expected a name such as sem0001\.png"),
        ("again/sems/sem0009.png", "2 folders sems/: again/sems, sems"),
    ],
)
def test_broken_hy5syn_is_refused(tmp_path: Path, more: str, match: str) -> None:
    assert_refused(write_files(tmp_path / "download", (*HY5SYN, more)), match)


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
    result = bring_in(write_files(tmp_path / "download", MIIC), "miic")
    assert set(tree(result.folder)) == MIIC_IMAGES
    assert (result.layout, result.images, result.labels) == ("miic", 4, 0)
    assert result.notes[0].startswith("4 images, 0 labels: MIIC's track masks were never published")
    assert str(tmp_path / "data" / "miic" / "label") in result.notes[0]
    assert result.notes[1].startswith("1 image of Inpainting_* left out")


def test_miic_as_a_folder_of_archives(tmp_path: Path) -> None:
    source = tmp_path / "dataverse_files"
    source.mkdir()
    for top in {name.split("/")[0] for name in MIIC}:
        inside = content(name.partition("/")[2] for name in MIIC if name.startswith(top))
        (source / f"{top}.zip").write_bytes(zipped(inside))
    assert set(tree(bring_in(source, "miic").folder)) == MIIC_IMAGES


def test_single_miic_archive_is_recognised(tmp_path: Path) -> None:
    defects = content(["images/test_abnormal_1.jpg", "masks/test_abnormal_1.png"])
    for name in ("Inpainting_test.zip", "download.zip"):
        (tmp_path / name).write_bytes(zipped(defects))
        result = bring_in(tmp_path / name, "miic")
        assert (result.layout, result.labels, set(tree(result.folder))) == ("miic", 0, {"image/test_abnormal_1.jpg"})


def test_original_images_are_preferred_to_inpainted_images(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(content(reversed(MIIC))))
    assert tree(bring_in(tmp_path / "a.zip", "miic").folder)["image/train_normal_1.jpg"].startswith(b"Anomaly_train")


def test_published_miic_labels_are_not_tracks(tmp_path: Path) -> None:
    result = bring_in(write_files(tmp_path / "download", (*MIIC, "Anomaly_test/label/test_abnormal_3.png")), "miic")
    assert result.labels == 0


def test_miic_accepts_track_masks_of_download_or_target(tmp_path: Path) -> None:
    source = write_files(tmp_path / "download", (*MIIC, "label/train_normal_1_mask.png"))
    result = bring_in(source, "miic")
    assert set(tree(result.folder)) == {*MIIC_IMAGES, "label/train_normal_1.png"}
    write_files(result.folder, ["label/test_normal_2.png"])
    assert bring_in(source, "miic").labels == 2
    write_files(source, ["label/train_normal_99.png"])
    with pytest.raises(UserError, match=r"train_normal_99\.png: label without image"):
        bring_in(source, "miic")


def test_miic_images_of_one_stem_are_refused(tmp_path: Path) -> None:
    source = write_files(tmp_path / "download", (*MIIC, "Anomaly_train/again/train_normal_1.jpg"))
    assert_refused(source, r"train_normal_1\.jpg and .*train_normal_1\.jpg: images of the same stem")
