"""Broken COCO files give one message."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.data.formats import coco
from benchmark.data.formats.all_formats import read_label
from benchmark.data.pairs import find_pairs
from benchmark.utils.errors import UserError
from tests.benchmark.data.formats.coco_makers import HEIGHT, WIDTH, Json, plain, write

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


def test_coordinate_of_infinity_is_refused(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(plain()).replace("[2, 3,", "[1e999, 3,"))
    with pytest.raises(UserError, match="found coordinate inf"):
        find_pairs(tmp_path)


def test_gigantic_file_or_drawing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = plain()
    content["annotations"][0]["segmentation"] = [[x for y in range(500) for x in (y % 30, (y % 2) * 100_000)]]
    file = write(tmp_path, content)
    with pytest.raises(UserError, match=r"annotations\[0\] \(id 1\) and others: outlines of 50,000,.* simplify them"):
        read_label(file / "0001.png", "track", (HEIGHT, WIDTH))
    monkeypatch.setattr(coco, "MOST_BYTES", 100)
    file.write_text(json.dumps(content) + " ")
    with pytest.raises(UserError, match="expected annotations: split the file"):
        find_pairs(tmp_path)


def test_file_that_changes_is_read_again(tmp_path: Path) -> None:
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
