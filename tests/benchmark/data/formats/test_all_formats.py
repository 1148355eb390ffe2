"""A format that is in the list is known everywhere, and needs nothing but its own class."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark.config.protocol import load_protocol
from benchmark.data.check.survey import DatasetFolder
from benchmark.data.check.verify import verify_dataset
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.formats.all_formats import FORMATS, format_of, label_suffixes, read_label
from benchmark.data.formats.label_format import Label, LabelFormat, Legend
from benchmark.data.formats.masks import PIXELS
from benchmark.data.packs import open_pack
from benchmark.data.pairs import find_pairs, scan_masks
from benchmark.data.prepare.prepare import prepare_dataset
from benchmark.data.specs import Target
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import picture, save

STEMS = "abcdefghij"


class GridFormat(LabelFormat):
    """A text file of zeros and ones an image."""

    suffixes = frozenset({".grid"})

    def size(self, label: Path) -> tuple[int, int]:
        rows = label.read_text().split()
        return len(rows), len(rows[0])

    def read(self, label: Path, target: Target, legend: Legend) -> Label:
        return Label(np.array([list(row) for row in label.read_text().split()]) == "1")


class BundleFormat(LabelFormat):
    """A file of arrays for many images."""

    suffixes = frozenset({".npz"})
    holds_many = is_drawn = True

    def size(self, label: Path) -> tuple[int, int]:
        height, width = self._array(label).shape
        return height, width

    def read(self, label: Path, target: Target, legend: Legend) -> Label:
        return Label(self._array(label) > 0)

    def entries(self, file: Path) -> list[Path]:
        with np.load(file) as arrays:
            return [file / name for name in arrays.files]

    @staticmethod
    def _array(label: Path) -> np.ndarray:
        with np.load(label.parent) as arrays:
            array: np.ndarray = arrays[label.name]
            return array


@pytest.fixture(params=[GridFormat, BundleFormat])
def toy(request: pytest.FixtureRequest) -> Iterator[LabelFormat]:
    """Add a format to the list, as its author would, for one test."""
    FORMATS.append(request.param())
    yield FORMATS[-1]
    FORMATS.pop()


def masks() -> dict[str, np.ndarray]:
    return {stem: picture(seed) > 127 for seed, stem in enumerate(STEMS)}


def write(root: Path, toy: LabelFormat) -> Path:
    """Write a dataset's folder whose labels are of the toy format."""
    for seed, stem in enumerate(STEMS):
        save(root / "image" / f"{stem}.png", picture(seed))
    write_labels(root / "label", toy)
    return root


def write_labels(folder: Path, toy: LabelFormat) -> None:
    folder.mkdir(parents=True)
    if toy.holds_many:
        np.savez(folder / "all.npz", **masks())
    else:
        for stem, mask in masks().items():
            (folder / f"{stem}.grid").write_text("\n".join("".join(map(str, row)) for row in mask.astype(int).tolist()))


def test_new_format_is_found_checked_and_packed(toy: LabelFormat, tmp_path: Path) -> None:
    root = write(tmp_path / "chip", toy)
    pairs = find_pairs(root)
    assert [pair.name for pair in pairs] == list(STEMS)
    for pair, mask in zip(pairs, masks().values(), strict=True):
        np.testing.assert_array_equal(read_label(pair.label, "track", (64, 64)).mask, mask)

    protocol = load_protocol("quick", ["input.size=64", "input.tile=64", "split.counts=none"])
    result = verify_dataset(DatasetFolder("chip", root), protocol)
    assert result.ok, result.to_markdown()
    values = {row.name: row.value for row in result.rows}
    assert values["files"] == "10 images, 10 labels, 0 ignore masks, 0 others"
    assert values["label formats"] == ("NPZ: 10" if toy.holds_many else "GRID: 10")
    assert values["label sizes"] == "0 differ from their image's"

    (source,) = resolve("chip", tmp_path, protocol, HashCache(None))
    pack = open_pack(source, protocol, tmp_path / "cache")
    for tile, packed in zip(pack.tiles, pack.masks, strict=True):
        np.testing.assert_array_equal(packed[..., 0], masks()[tile.name])


def test_fingerprint_depends_on_content_of_a_new_format(toy: LabelFormat, tmp_path: Path) -> None:
    protocol = load_protocol("quick", ["input.size=64"])
    root = write(tmp_path / "chip", toy)
    (before,) = resolve("chip", tmp_path, protocol, HashCache(None))
    assert {format_of(pair.label).file_of(pair.label).parent.name for pair in before.pairs} == {"label"}
    shutil.rmtree(root / "label")
    for seed, stem in enumerate(STEMS):
        save(root / "label" / f"{stem}.png", picture(seed) // 128)
    (after,) = resolve("chip", tmp_path, protocol, HashCache(None))
    assert before.fingerprint != after.fingerprint


def test_label_of_another_size_is_refused_for_every_format(toy: LabelFormat, tmp_path: Path) -> None:
    (first, *_) = find_pairs(write(tmp_path / "chip", toy))
    with pytest.raises(UserError, match="64x64 pixels, but its image has 32x64; expected the same size"):
        read_label(first.label, "track", (64, 32))


def test_scores_and_downloads_accept_a_new_format(toy: LabelFormat, tmp_path: Path) -> None:
    source = write(tmp_path / "download", toy)
    prepared = prepare_dataset("chip", source, tmp_path / "data")
    assert (prepared.images, prepared.labels) == (10, 10)
    assert len(find_pairs(prepared.folder)) == 10
    write_labels(tmp_path / "predicted", toy)
    assert len(scan_masks(tmp_path / "predicted", source / "label").pairs) == 10


def test_format_of_label_follows_its_path() -> None:
    names = {"a.png": "PixelFormat", "a.SVG": "SvgFormat", "all.json/a.svg": "CocoFormat", "a.unknown": "PixelFormat"}
    assert {name: type(format_of(Path(name))).__name__ for name in names} == names
    assert format_of(Path("all.json")) is PIXELS  # a label is an entry of it
    assert label_suffixes(many=True) - label_suffixes() == {".json"}
    assert [format_of(Path(name)).file_of(Path(name)).name for name in names] == [
        "a.png",
        "a.SVG",
        "all.json",
        "a.unknown",
    ]
