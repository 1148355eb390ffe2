"""COCO labels: polygons and run lengths as masks, categories by name, and every broken file as one message."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pycocotools import mask as pycoco

from benchmark.config.protocol import load_protocol
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.formats import coco
from benchmark.data.formats.all_formats import format_of, read_label
from benchmark.data.pairs import find_pairs, scan
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import Call
from tests.benchmark.data.folder_makers import save
from tests.benchmark.data.formats.coco_makers import HEIGHT, WIDTH, box, plain, write


def test_polygons_become_the_union_of_their_pixels(tmp_path: Path) -> None:
    file = write(tmp_path, plain())
    first, second = find_pairs(tmp_path)
    assert [first.name, second.name] == ["0001", "0002"]
    assert first.label == file / "0001.png"
    track = np.zeros((HEIGHT, WIDTH), bool)
    track[3:8, 2:12] = track[5:9, 10:20] = True
    via = np.zeros((HEIGHT, WIDTH), bool)
    via[4:7, 4:7] = True
    shape = (HEIGHT, WIDTH)
    assert format_of(first.label).size(first.label) == shape
    for target, expected in (("track", track), ("via", via), ("metal", track | via)):
        assert (read_label(first.label, target, shape).mask == expected).all()  # type: ignore[arg-type]
        assert not read_label(second.label, target, shape).mask.any()  # type: ignore[arg-type]


def drawn_by_pycocotools(polygons: list[list[float]]) -> NDArray[np.bool_]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy 2 about pycocotools 2.0.11
        return pycoco.decode(pycoco.frPyObjects(polygons, HEIGHT, WIDTH)).any(axis=2)


corner = st.floats(-3, 33, allow_nan=False)
polygon = st.lists(st.tuples(corner, corner), min_size=3, max_size=8)


@given(st.lists(polygon, min_size=1, max_size=40))
def test_polygons_are_drawn_as_pycocotools_draws_them(polygons: list[list[tuple[float, float]]]) -> None:
    """Corners lie anywhere; each polygon is an annotation of its own."""
    drawn = [[value for point in points for value in point] for points in polygons]
    expected = drawn_by_pycocotools(drawn)
    content = plain()
    content["annotations"] = [{"image_id": 7, "category_id": 1, "segmentation": [shape]} for shape in drawn]
    assert (coco.rasterise(coco.parse(Path("a.json"), content)["0001.png"], "track") == expected).all()


def test_fractional_corners_follow_the_rule_of_coco(tmp_path: Path) -> None:
    content = plain()
    content["annotations"][0]["segmentation"] = [box(2.5, 3.5, 12.5, 8.5)]
    track = read_label(write(tmp_path, content) / "0001.png", "track", (HEIGHT, WIDTH)).mask
    assert (track == drawn_by_pycocotools([box(2.5, 3.5, 12.5, 8.5)])).all()
    assert np.argwhere(track)[[0, -1]].tolist() == [[4, 3], [8, 12]]  # other halves than by pixels' centres


def compressed(counts: list[int]) -> str:
    """Write run lengths as COCO's files hold them."""
    text = ""
    for index, count in enumerate(counts):
        value, more = count - (counts[index - 2] if index > 2 else 0), True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | (32 if more else 0)) + 48)
    return text


@given(arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_run_lengths_are_read_column_by_column(mask: NDArray[np.bool_]) -> None:
    values = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *ends, values.size]).tolist()
    counts = [0, *counts] if values[0] else counts
    content = plain()
    content["images"] = [{"id": 7, "file_name": "0001.png", "width": mask.shape[1], "height": mask.shape[0]}]
    for runs in (counts, compressed(counts)):
        drawn = {"counts": runs, "size": list(mask.shape)}
        content["annotations"] = [{"image_id": 7, "category_id": 1, "segmentation": drawn}]
        entry = coco.parse(Path("a.json"), content)["0001.png"]
        assert (coco.rasterise(entry, "track") == mask).all()


def test_known_compressed_mask() -> None:
    """A rectangle with a hole and a lone pixel, as pycocotools 2.0.11 encodes them."""
    mask = np.zeros((9, 11), bool)
    mask[2:7, 3:8] = mask[0, 0] = True
    mask[4, 4:6] = False
    content = plain()
    content["images"] = [{"id": 7, "file_name": "0001.png", "width": 11, "height": 9}]
    drawn = {"counts": "01l04XOMM030M03300i0", "size": [9, 11]}
    content["annotations"] = [{"image_id": 7, "category_id": 1, "segmentation": drawn}]
    entry = coco.parse(Path("a.json"), content)["0001.png"]
    assert (coco.rasterise(entry, "track") == mask).all()
    for text in ("P", "é", "\x00", "o" * 40):
        drawn["counts"] = text
        with pytest.raises(UserError, match=r"found run lengths .*; expected lengths whose sum is 99"):
            coco.rasterise(coco.parse(Path("a.json"), content)["0001.png"], "track")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("metal", "track"),
        ("M1", "track"),
        ("Metal_2", "track"),
        ("wires", "track"),
        ("Via12", "via"),
        ("contact", "via"),
    ],
)
def test_names_tell_tracks_from_vias(name: str, kind: str, tmp_path: Path) -> None:
    content = plain()
    content["categories"] = [{"id": 1, "name": name}, {"id": 2, "name": "something else"}]
    content["annotations"] = content["annotations"][:1]
    entry = coco.CocoFormat().entry(write(tmp_path, content) / "0001.png")
    assert coco.rasterise(entry, "track").any() == (kind == "track")
    assert coco.rasterise(entry, "via").any() == (kind == "via")


def test_other_category_names_need_toml_or_a_single_category(tmp_path: Path) -> None:
    content = plain()
    content["categories"][1]["name"] = "pad"
    entry = coco.CocoFormat().entry(write(tmp_path, content) / "0001.png")
    with pytest.raises(
        UserError, match=r"annotations\[1\] \(id 2\): category 'pad', which is neither .* add \"pad\" = 'track'"
    ):
        coco.rasterise(entry, "track")
    assert coco.rasterise(entry, "via", [("pad", "via")]).sum() == 9
    assert not coco.rasterise(entry, "track", [("pad", "none"), ("Metal 1", "none")]).any()
    content["categories"], content["annotations"] = [{"id": 1, "name": "pad"}], content["annotations"][:1]
    (tmp_path / "alone").mkdir()
    alone = coco.CocoFormat().entry(write(tmp_path / "alone", content) / "0001.png")
    track, via = coco.rasterise(alone, "track"), coco.rasterise(alone, "via")
    assert (track == via).all()
    assert track.any()


def test_toml_file_names_the_annotations_and_their_categories(call: Call, tmp_path: Path) -> None:
    content = plain()
    content["categories"][1]["name"] = "pad"
    write(tmp_path / "data/mychip", content, "export/result.json")
    (tmp_path / "data/mychip.toml").write_text('labels = "export/result.json"\n[categories]\npad = "via"\n')
    settings = load_protocol("quick", ["input.size=16", "input.tile=16"])
    hashes = HashCache(tmp_path / "hashes.json")
    (source,) = resolve("mychip", tmp_path / "data", settings, hashes)
    assert read_label(source.pairs[0].label, "via", (HEIGHT, WIDTH), source.pairs[0].legend).mask.sum() == 9
    (tmp_path / "data/mychip.toml").write_text('labels = "export/result.json"\n[categories]\npad = "none"\n')
    (other,) = resolve("mychip", tmp_path / "data", settings, hashes)
    assert source.fingerprint != other.fingerprint
    size = ("--set", "input.size=16", "--set", "input.tile=16")
    code, out, err = call("data", "verify", "mychip", "--protocol", "quick", *size)
    assert "COCO" in out, out + err
    code, _, err = call("data", "show", "mychip", "--protocol", "quick", *size)
    assert code == 0, err
    (tmp_path / "data/mychip.toml").write_text('[categories]\npad = "vias"\n')
    code, _, err = call("data", "show", "mychip", "--protocol", "quick", *size)
    assert code == 2
    assert "categories.pad" in err


def test_annotations_of_the_same_size_and_time_are_read_again(tmp_path: Path) -> None:
    file = write(tmp_path, plain())
    os.utime(file, (1.6e9, 1.6e9))
    entry = file / "0001.png"
    before = coco.CocoFormat().entry(entry)
    other = tmp_path / "other.json"
    other.write_text(file.read_text().replace("0001.png", "0009.png"))
    os.utime(other, (1.6e9, 1.6e9))
    other.rename(file)
    assert coco.CocoFormat().entry(file / "0009.png").size == before.size
    assert "0001.png" not in [path.name for path in coco.CocoFormat().entries(file) or ()]


def test_images_without_an_entry_and_entries_without_an_image_are_named(tmp_path: Path) -> None:
    content = plain()
    content["images"][1]["file_name"] = "0003.png"
    file = write(tmp_path, content)
    result = scan(tmp_path)
    assert result.unlabelled == [tmp_path / "image/0002.png"]
    assert result.unpaired == [file / "0003.png"]
    with pytest.raises(UserError, match=r"instances\.json/0003\.png: label without image"):
        find_pairs(tmp_path)


def test_download_with_annotations_is_prepared(call: Call, tmp_path: Path) -> None:
    """As annotation tools export it: images/ and annotations/instances_default.json."""
    write(tmp_path / "export", plain(), "annotations/instances_default.json")
    (tmp_path / "export/image").rename(tmp_path / "export/images")
    code, out, err = call("data", "prepare", "mychip", "export")
    assert code == 0, err
    assert "data/mychip: 2 images, 2 labels; 3 files copied" in out
    assert [pair.name for pair in find_pairs(tmp_path / "data/mychip")] == ["0001", "0002"]


def test_masks_and_annotations_of_one_image_are_refused(tmp_path: Path) -> None:
    write(tmp_path, plain())
    save(tmp_path / "label/0001.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(UserError, match="another file has the stem '0001'; keep one of them"):
        find_pairs(tmp_path)


def test_other_json_file_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, {"shapes": []})
    for name in ("0001.png", "0002.png"):
        save(tmp_path / "label" / name, np.zeros((HEIGHT, WIDTH), np.uint8))
    assert [pair.label.name for pair in find_pairs(tmp_path)] == ["0001.png", "0002.png"]
    assert scan(tmp_path).others == 1


def test_another_size_than_the_images_is_refused(tmp_path: Path) -> None:
    content = plain()
    content["images"][0]["width"] = 31
    label = write(tmp_path, content) / "0001.png"
    with pytest.raises(UserError, match=r"instances\.json/0001\.png: 31x20 pixels, but its image has 30x20"):
        read_label(label, "track", (HEIGHT, WIDTH))


def test_score_takes_annotations_as_truth(call: Call, tmp_path: Path) -> None:
    file = write(tmp_path, plain())
    pairs = find_pairs(tmp_path)
    for pair in pairs:
        mask = read_label(pair.label, "track", (HEIGHT, WIDTH)).mask
        save(tmp_path / "found" / f"{pair.name}.png", np.where(mask, 255, 0).astype(np.uint8))
    code, out, err = call(
        "score", "--truth", file.parent, "--prediction", tmp_path / "found", "--border", "0", "--out", "o"
    )
    assert code == 0, out + err
    assert "100.00" in out
