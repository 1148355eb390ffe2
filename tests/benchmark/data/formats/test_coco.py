"""COCO labels: polygons and run lengths as masks, categories by name, and every broken file as one message."""

from __future__ import annotations

import copy
import json
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pycocotools import mask as pycoco

from benchmark.config import protocol as protocols
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.formats import coco
from benchmark.data.formats.all_formats import format_of, read_label
from benchmark.data.pairs import find_pairs, scan
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import Call
from tests.benchmark.data.folder_makers import picture, save

Json = dict[str, Any]
HEIGHT, WIDTH = 20, 30


def plain() -> Json:
    """Two images: one with a track and a via, one without anything."""
    return {
        "info": {"version": "1"},
        "images": [
            {"id": 7, "file_name": "scans/0001.png", "width": WIDTH, "height": HEIGHT},
            {"id": 9, "file_name": "0002.png", "width": WIDTH, "height": HEIGHT},
        ],
        "categories": [{"id": 1, "name": "Metal 1"}, {"id": 2, "name": "via"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "segmentation": [box(2, 3, 12, 8), box(10, 5, 20, 9)]},
            {"id": 2, "image_id": 7, "category_id": 2, "iscrowd": 0, "segmentation": [box(4.0, 4.0, 7.0, 7.0)]},
        ],
    }


def box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def write(root: Path, content: object, name: str = "label/instances.json") -> Path:
    """Write a dataset's folder around a COCO file; text stays as it is."""
    for seed in (1, 2):
        save(root / "image" / f"000{seed}.png", picture(seed, HEIGHT, WIDTH))
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return file


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
    assert (coco.rasterise(coco.parse(Path("a.json"), content)["0001.png"]).track == expected).all()


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
        assert (coco.rasterise(entry).track == mask).all()


def test_a_known_compressed_mask() -> None:
    """A rectangle with a hole and a lone pixel, as pycocotools 2.0.11 encodes them."""
    mask = np.zeros((9, 11), bool)
    mask[2:7, 3:8] = mask[0, 0] = True
    mask[4, 4:6] = False
    runs = coco._decoded("01l04XOMM030M03300i0")
    assert runs is not None
    assert (np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(9, 11, order="F") == mask).all()
    for text in ("P", "é", "\x00", "o" * 40):
        assert coco._decoded(text) is None


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
    layers = coco.rasterise(coco.CocoFormat().entry(write(tmp_path, content) / "0001.png"))
    assert layers.track.any() == (kind == "track")
    assert layers.via.any() == (kind == "via")


def test_other_category_names_need_toml_or_a_single_category(tmp_path: Path) -> None:
    content = plain()
    content["categories"][1]["name"] = "pad"
    entry = coco.CocoFormat().entry(write(tmp_path, content) / "0001.png")
    with pytest.raises(
        UserError, match=r"annotations\[1\] \(id 2\): category 'pad', which is neither .* add \"pad\" = 'track'"
    ):
        coco.rasterise(entry)
    assert coco.rasterise(entry, [("pad", "via")]).via.sum() == 9
    nothing = coco.rasterise(entry, [("pad", "none"), ("Metal 1", "none")])
    assert not nothing.track.any()
    content["categories"], content["annotations"] = [{"id": 1, "name": "pad"}], content["annotations"][:1]
    (tmp_path / "alone").mkdir()
    alone = coco.rasterise(coco.CocoFormat().entry(write(tmp_path / "alone", content) / "0001.png"))
    assert (alone.track == alone.via).all()
    assert alone.track.any()


def test_a_toml_file_names_the_annotations_and_their_categories(call: Call, tmp_path: Path) -> None:
    content = plain()
    content["categories"][1]["name"] = "pad"
    write(tmp_path / "data/mychip", content, "export/result.json")
    (tmp_path / "data/mychip.toml").write_text('labels = "export/result.json"\n[categories]\npad = "via"\n')
    settings = protocols.load("quick", ["input.size=16", "input.tile=16"])
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
    found = scan(tmp_path)
    assert found.unlabelled == [tmp_path / "image/0002.png"]
    assert found.unpaired == [file / "0003.png"]
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


Change = Callable[[Json], object]
BROKEN: dict[str, tuple[Change, str]] = {
    "no images": (lambda c: c.pop("images"), "images: found None; expected a list"),
    "no annotations": (lambda c: c.pop("annotations"), "annotations: found None; expected a list"),
    "no categories": (lambda c: c.pop("categories"), "categories: found None; expected a list"),
    "images of another kind": (lambda c: c.update(images={"7": {}}), r"images: found \{'7': "),
    "an annotation of another kind": (lambda c: c["annotations"].append(3), "annotations: found .* a list of objects"),
    "an id twice": (lambda c: c["images"][1].update(id=7), r"images\[1\]: found id 7 a second time"),
    "a category twice": (lambda c: c["categories"][1].update(id=1), "categories: found an id that occurs twice"),
    "a name twice": (
        lambda c: c["images"][1].update(file_name="other/0001.png"),
        r"images\[1\]: found 'scans/0001.png' and 'other/0001.png'; expected names that differ by more than",
    ),
    "no id": (lambda c: c["images"][0].pop("id"), r"images\[0\]: found id None; expected a whole number"),
    "a broken id": (lambda c: c["images"][0].update(id=1.5), "found id 1.5"),
    "another image": (lambda c: c["annotations"][0].update(image_id=8), "found image_id 8; expected the id"),
    "another category": (lambda c: c["annotations"][0].update(category_id=True), "found category_id True"),
    "no width": (lambda c: c["images"][0].pop("width"), "found width None; expected a whole number of pixels"),
    "a huge image": (lambda c: c["images"][0].update(height=10**9), "found height 1000000000"),
    "traversal": (lambda c: c["images"][0].update(file_name="../../0001.png"), "found file_name '../../0001.png'"),
    "absolute": (lambda c: c["images"][0].update(file_name="/etc/0001.png"), "a relative path"),
    "backslash": (lambda c: c["images"][0].update(file_name="a\\0001.png"), "a relative path"),
    "no file": (lambda c: c["images"][0].update(file_name="scans/"), "a relative path"),
    "null": (lambda c: c["images"][0].update(file_name="0001\0.png"), "a relative path"),
    "empty category": (lambda c: c["categories"][0].update(name=" "), "found name ' '; expected a text"),
    "a box alone": (lambda c: c["annotations"][0].update(segmentation=[]), "not a box alone"),
    "no shape": (lambda c: c["annotations"][0].pop("segmentation"), "found segmentation None"),
    "two corners": (lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), "three corners or more"),
    "half a corner": (lambda c: c["annotations"][0].update(segmentation=[[1] * 7]), "three corners or more"),
    "nested": (lambda c: c["annotations"][0].update(segmentation=[[[1, 2]] * 6]), r"found coordinate \[1, 2\]"),
    "text": (lambda c: c["annotations"][0].update(segmentation=[["1"] * 6]), "found coordinate '1'"),
    "far": (lambda c: c["annotations"][0].update(segmentation=[[1e300] * 6]), "found coordinate 1e.300"),
    "very far": (lambda c: c["annotations"][0].update(segmentation=[[10**400] * 6]), "found coordinate 1000"),
    "runs of another size": (
        lambda c: c["annotations"][0].update(segmentation={"size": [1, 2], "counts": [2]}),
        r"run lengths of size \[1, 2\]; expected the image's, \[20, 30\]",
    ),
    "runs too short": (
        lambda c: c["annotations"][0].update(segmentation={"size": [20, 30], "counts": [2]}),
        r"annotations\[0\] \(id 1\): found run lengths \[2\] whose sum is 2; expected lengths whose sum is 600",
    ),
    "compressed runs too short": (
        lambda c: c["annotations"][0].update(segmentation={"size": [20, 30], "counts": "05"}),
        r"annotations\[0\] \(id 1\): found run lengths '05' whose sum is 5; expected lengths whose sum is 600",
    ),
    "runs too long": (
        lambda c: c["annotations"][0].update(segmentation={"size": [20, 30], "counts": [300, 301]}),
        r"found run lengths \[300, 301\] whose sum is 601; expected",
    ),
    "negative runs": (
        lambda c: c["annotations"][0].update(segmentation={"size": [20, 30], "counts": [-1, 601]}),
        "lengths whose sum is 600",
    ),
    "runs that are none": (
        lambda c: c["annotations"][0].update(segmentation={"size": [20, 30], "counts": "\x00"}),
        "lengths whose sum is 600",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=list(BROKEN))
def test_broken_annotations_give_one_message(change: Change, message: str, tmp_path: Path) -> None:
    content = plain()
    change(content)
    file = write(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        find_pairs(tmp_path)
    assert str(file) in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("", "no JSON"),
        ('{"images": NaN}', "no JSON .NaN is no number"),
        ('{"images": [-Infinity]}', "no JSON .-Infinity is no number"),
        ('{"images": [1e999]}', "images: found"),
        ("[" * 200_000, "no JSON"),
        ('{"images": ' + "9" * 5000 + "}", "no JSON"),
    ],
)
def test_invalid_json_gives_one_message(text: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        find_pairs(tmp_path)
    assert len(str(caught.value)) < 600


def test_a_coordinate_of_infinity_is_refused(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(plain()).replace("[2, 3,", "[1e999, 3,"))
    with pytest.raises(UserError, match="found coordinate inf"):
        find_pairs(tmp_path)


def test_a_gigantic_file_or_drawing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = plain()
    content["annotations"][0]["segmentation"] = [[x for y in range(500) for x in (y % 30, (y % 2) * 100_000)]]
    file = write(tmp_path, content)
    with pytest.raises(UserError, match=r"annotations\[0\] \(id 1\) and others: outlines of 50,000,.* simplify them"):
        read_label(file / "0001.png", "track", (HEIGHT, WIDTH))
    monkeypatch.setattr(coco, "MOST_BYTES", 100)
    file.write_text(json.dumps(content) + " ")
    with pytest.raises(UserError, match="expected annotations: split the file"):
        find_pairs(tmp_path)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    content = plain()
    file = write(tmp_path, content)
    assert read_label(file / "0001.png", "via", (HEIGHT, WIDTH)).mask.sum() == 9
    content["annotations"].pop()
    file.write_text(json.dumps(content), "utf-8")
    assert read_label(file / "0001.png", "via", (HEIGHT, WIDTH)).mask.sum() == 0


def mangled(content: Json, seed: int) -> Json:
    """Put something unexpected in one to three places."""
    rng = random.Random(seed)
    content = copy.deepcopy(content)
    for _ in range(rng.randint(1, 3)):
        place: Any = content
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], dict | list) and rng.random() < 0.8:
                place = place[key]
                continue
            place[key] = rng.choice([None, [], {}, "", -1, 0, 1e30, True, "x" * 100, [[[]]], {"counts": "a"}, 2**70])
            break
    return content


@pytest.mark.parametrize("seed", range(300))
def test_mangled_annotations_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    write(tmp_path, mangled(plain(), seed))
    try:
        pairs = find_pairs(tmp_path)
        masks = [read_label(pair.label, "metal", (HEIGHT, WIDTH)).mask for pair in pairs]
    except UserError as error:
        message = str(error)
    else:
        assert all(mask.shape == (HEIGHT, WIDTH) for mask in masks)
        return
    assert str(tmp_path) in message
