from __future__ import annotations

import errno
import functools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import packs
from benchmark.data.datasets import Source
from benchmark.data.formats.label_format import Label
from benchmark.data.packs import draw_tile, foresee, open_pack, pack_path
from benchmark.data.splits import Tile
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import add_pair, make_folder, picture, save
from tests.benchmark.data.pack_makers import build, find, pixels_of, settings


def leftovers(root: Path) -> list[Path]:
    folder = root / "cache" / "packs"
    return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("name", ["omc", "omc-syn"])
@pytest.mark.parametrize("overrides", [(), ("input.partial_tiles=true",), ("split.unit=image",)])
def test_split_is_planned_from_headers(tmp_path: Path, name: str, overrides: tuple[str, ...]) -> None:
    make_folder(tmp_path / "data/omc", "abcd")
    add_pair(tmp_path / "data/omc", "wide", picture(9, 64, 104))
    protocol = settings(*overrides)
    source, cache = find(tmp_path, protocol, name), tmp_path / "cache"
    headers, _ = foresee(source, protocol, cache)
    assert not cache.exists()
    division = open_pack(source, protocol, cache).divide(protocol)
    assert headers == (division,) == foresee(source, protocol, cache)[0]
    assert len(division.train) == 2


def test_pack_holds_every_image_and_mask_in_the_order_of_names(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", ["b", "a", "c"])
    pack = build(tmp_path)
    assert [tile.name for tile in pack.tiles] == ["a", "b", "c"]
    assert (pack.images.shape, pack.images.dtype) == ((3, 64, 64, 1), np.uint8)
    assert (pack.masks.shape, pack.masks.dtype) == ((3, 64, 64, 1), np.uint8)
    for index, tile in enumerate(pack.tiles):
        image = pixels_of(root / "image" / f"{tile.name}.png")
        np.testing.assert_array_equal(pack.images[index, ..., 0], image)
        np.testing.assert_array_equal(pack.masks[index, ..., 0], image > 127)
    assert set(np.unique(pack.masks)) == {0, 1}


def test_larger_images_are_cut_in_row_order_and_share_their_group(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "omc", ["a"], 150, 200)  # the last 22 rows and 8 columns fill no tile
    image = pixels_of(tmp_path / "data" / "omc" / "image" / "a.png")
    pack = build(tmp_path)
    assert pack.tiles == tuple(Tile(f"a_r{r}_c{c}", "a", None, "", r, c) for r in range(2) for c in range(3))
    for index, tile in enumerate(pack.tiles):
        row, column = index // 3, index % 3
        window = image[row * 64 : row * 64 + 64, column * 64 : column * 64 + 64]
        np.testing.assert_array_equal(pack.images[index, ..., 0], window, err_msg=tile.name)
        np.testing.assert_array_equal(pack.masks[index, ..., 0], window > 127, err_msg=tile.name)


def test_image_smaller_than_tile_sets_the_tile(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", ["a"], 64)
    add_pair(root, "b", picture(5, 40, 50))
    pack = build(tmp_path)
    assert pack.images.shape == (2, 40, 40, 1)
    assert [tile.name for tile in pack.tiles] == ["a", "b"]


def test_colour_is_kept_if_protocol_requests_it(tmp_path: Path) -> None:
    root = tmp_path / "data" / "omc"
    add_pair(root, "a", picture(0, 64, channels=3))
    colour = pixels_of(root / "image" / "a.png")
    np.testing.assert_array_equal(build(tmp_path, "input.channels=3").images[0], colour)
    assert build(tmp_path).images.shape == (1, 64, 64, 1)
    assert len(leftovers(tmp_path)) == 2


@pytest.mark.parametrize(
    ("name", "overrides", "setting"),
    [
        ("omc", ("input.size=64",), "input.size=32"),
        ("hy5syn", ("input.size_by_dataset.hy5syn=64",), "input.size_by_dataset.hy5syn=32"),
    ],
)
def test_image_below_the_input_is_refused_with_the_setting_that_fits(
    tmp_path: Path, name: str, overrides: tuple[str, ...], setting: str
) -> None:
    root = make_folder(tmp_path / "data" / name, ["a"])
    add_pair(root, "b", picture(1, 60, 80))
    with pytest.raises(UserError, match=rf"b\.png: 80x60 pixels, smaller than the input 64x64; use --set {setting}$"):
        build(tmp_path, *overrides, name=name)
    make_folder(tmp_path / "data" / name, ["a"])
    assert build(tmp_path, *overrides, setting, name=name).images.shape[1] == 60


def test_image_below_every_input_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "omc", ["a"], 20)
    with pytest.raises(UserError, match="20x20 pixels, smaller than the input 32x32; bring images of at least 32x32"):
        build(tmp_path)


def test_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", ["a"], 64, 80)
    save(root / "label" / "a.png", np.zeros((80, 64), np.uint8))
    with pytest.raises(UserError, match=r"label.a\.png: 64x80 pixels, but its image has 80x64; expected the same size"):
        build(tmp_path)
    assert leftovers(tmp_path) == []


def test_owners_division_is_respected(tmp_path: Path) -> None:
    for part, stems in (("train", "abc"), ("val", "de"), ("test", "fg")):
        make_folder(tmp_path / "data" / "omc" / part, stems)
    pack = build(tmp_path)
    division = pack.divide(settings())
    assert [len(division.train), len(division.val), len(division.test)] == [2, 1, 1]
    for part in ("train", "val", "test"):
        assert all(pack.tiles[i].given == part for i in getattr(division, part))
        assert all(pack.tiles[i].name.startswith(f"{part}/") for i in getattr(division, part))


def test_split_depends_on_the_base_seed_and_not_on_the_repeats(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "omc", [f"i{i:02d}" for i in range(20)])
    pack = build(tmp_path)
    assert pack.divide(settings()) == pack.divide(settings("repeats=7", "training.lr=0.1"))
    assert pack.divide(settings()) != pack.divide(settings("seed=1"))


def test_centre_cuts_the_middle_of_image_and_mask(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "omc", ["a", "b"])
    pack = build(tmp_path)
    images, masks = pack.centre([1, 0], 32)
    np.testing.assert_array_equal(images, pack.images[[1, 0], 16:48, 16:48])
    np.testing.assert_array_equal(masks[:, 0], pack.masks[[1, 0], 16:48, 16:48, 0])


def test_standins_are_packed_with_their_manifests(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    protocol = settings()
    source = find(tmp_path, protocol)
    pack = open_pack(source, protocol, tmp_path / "cache", lambda done, total: seen.append((done, total)))
    assert [tile.name for tile in pack.tiles] == [f"image{i:04d}" for i in range(4)]
    assert pack.dataset == "omc-syn"
    assert seen == [(i, 4) for i in range(1, 5)]
    assert len({image.tobytes() for image in pack.images}) == 4
    assert 0 < pack.masks.mean() < 1


def test_tiles_of_a_generated_frame_are_named_and_grouped_by_it(tmp_path: Path) -> None:
    protocol = settings()
    frames = Source("hy5syn-syn", "metal", "f", count=2, shape=(64, 128), seed=1)
    pack = open_pack(frames, protocol, tmp_path / "cache")
    assert [(tile.name, tile.group) for tile in pack.tiles] == [
        (f"image000{i}_r0_c{c}", f"image000{i}") for i in range(2) for c in range(2)
    ]
    for tile, image in zip(pack.tiles, pack.images, strict=True):
        np.testing.assert_array_equal(draw_tile(frames, protocol, tile.name), image)
    with pytest.raises(ValueError, match="hy5syn-syn has no image 'image0002_r0_c0'"):
        draw_tile(frames, protocol, "image0002_r0_c0")


def test_pack_is_reopened_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "data" / "omc", ["a", "b"])
    first = build(tmp_path)

    def forbidden(*args: object) -> None:
        raise AssertionError("an image was decoded")

    for reader in ("decode", "read_layers", "read_size"):
        monkeypatch.setattr(packs, reader, forbidden)
    again = build(tmp_path)
    assert again.tiles == first.tiles
    np.testing.assert_array_equal(again.images, first.images)
    assert isinstance(again.images, np.memmap)


def test_changed_content_is_not_stored_under_old_fingerprint(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", ["a", "b"])
    protocol = settings()
    source = find(tmp_path, protocol)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "hashes.json").write_text("{}")
    save(root / "label" / "a.png", 255 - pixels_of(root / "label" / "a.png"))
    with pytest.raises(UserError, match=r"^omc: its files have changed since .*: run the same command again$"):
        open_pack(source, protocol, tmp_path / "cache")
    assert [*(tmp_path / "cache").rglob("*.*")] == []  # neither a pack nor the hashes that told otherwise
    build(tmp_path)


def test_different_content_or_settings_have_separate_packs(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", ["a"])
    protocol = settings()
    source = find(tmp_path, protocol)
    before = pack_path(source, protocol, tmp_path)
    assert pack_path(source, settings("training.lr=1", "seed=3"), tmp_path) == before
    others = {pack_path(source, settings(o), tmp_path) for o in ("input.tile=32", "input.channels=3")}
    add_pair(root, "a", picture(3))
    others.add(pack_path(find(tmp_path, protocol), protocol, tmp_path))
    assert len(others | {before}) == 4


def failing_after_one(error: BaseException) -> object:
    """A reader of masks that fails at the second image."""
    calls: Iterator[int] = iter(range(10))

    def reader(labels: dict[str, Path], shape: tuple[int, int], *how: object) -> dict[str, Label]:
        if next(calls):
            raise error
        return {layer: Label(np.zeros(shape, bool), None) for layer in labels}

    return reader


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (UserError("mask values"), UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), UserError),
    ],
)
def test_failed_build_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, raised: type[BaseException]
) -> None:
    make_folder(tmp_path / "data" / "omc", ["a", "b", "c"])
    with monkeypatch.context() as patched:
        patched.setattr(packs, "read_layers", failing_after_one(error))
        with pytest.raises(raised):
            build(tmp_path)
    assert leftovers(tmp_path) == []
    assert len(build(tmp_path).tiles) == 3


def test_full_disk_is_reported_and_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "data" / "omc", ["a"])

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packs.os, "fsync", full)
    with pytest.raises(UserError, match=r"omc-\w+: the pack cannot be written \(No space left on device\); .*--cache"):
        build(tmp_path)
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_full_disk_raises_and_does_not_kill_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No space left"), packs.array_file(Path("/dev/full"), (1, 64, 64)) as file:
        file.write(bytes(1 << 20))


def test_incomplete_pack_is_never_used(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "omc", ["a"])
    protocol = settings()
    path = pack_path(find(tmp_path, protocol), protocol, tmp_path / "cache")
    killed = path.with_name(f".{path.name}.0123abcd.tmp")  # what a killed process leaves
    killed.mkdir(parents=True)
    (killed / "images.npy").write_bytes(b"half")
    assert len(build(tmp_path).tiles) == 1


@pytest.mark.parametrize("share", [0, 0.5])
@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "manifest.json"])
def test_damaged_pack_is_refused_by_name(tmp_path: Path, name: str, share: float) -> None:
    make_folder(tmp_path / "data" / "omc", ["a", "b"])
    build(tmp_path)
    (folder,) = leftovers(tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=rf"{folder.name}: a damaged pack .*; remove the folder"):
        build(tmp_path)


def test_pack_whose_manifest_lacks_an_entry_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "omc", ["a", "b"])
    build(tmp_path)
    (folder,) = leftovers(tmp_path)
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text().replace("has_ignored", "ignored"))
    with pytest.raises(UserError, match=rf"{folder.name}: a damaged pack .*; remove the folder"):
        build(tmp_path)


def test_file_in_place_of_cache_is_reported(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "omc", ["a"])
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(UserError, match=r"the pack cannot be written .*--cache"):
        build(tmp_path)


def test_concurrent_threads_get_the_same_pack(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "omc", ["a", "b"])
    together = threading.Barrier(2, timeout=10)

    def meet(done: int, total: int) -> None:
        if done == total:
            together.wait()  # both have found no pack and read all images, so one of the renames must lose

    with ThreadPoolExecutor(2) as pool:
        pair = list(pool.map(functools.partial(build, progress=meet), [tmp_path] * 2))
    assert [[tile.name for tile in pack.tiles] for pack in pair] == [["a", "b"]] * 2
    assert len(leftovers(tmp_path)) == 1


def test_ignored_pixels_have_a_value_of_their_own(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", ["a", "b"])
    assert not build(tmp_path).has_ignored
    ignored = np.zeros((64, 64), np.uint8)
    ignored[:10] = 255
    save(root / "ignore" / "b.png", ignored)
    pack = build(tmp_path)
    assert pack.has_ignored
    assert (pack.masks[1][:10] == packs.IGNORED).all()
    assert set(np.unique(pack.masks[1][10:])) == {0, 1}
    assert set(np.unique(pack.masks[0])) == {0, 1}


def test_sixteen_bit_images_are_scaled_by_the_datasets_percentiles(tmp_path: Path) -> None:
    root = tmp_path / "data" / "omc"
    rng = np.random.default_rng(0)
    for stem, offset in (("a", 500), ("b", 700)):  # 12-bit values: divided by 257 they would all be below 16
        pixels = (offset + rng.integers(0, 2000, (64, 64))).astype(np.uint16)
        save(root / "image" / f"{stem}.png", pixels)
        save(root / "label" / f"{stem}.png", np.where(pixels > 1500, 255, 0).astype(np.uint8))
    pack = build(tmp_path)
    assert pack.images.min() == 0
    assert pack.images.max() == 255
    # One mapping for the whole dataset: the brighter image stays brighter, by 200 of the 2,200 values.
    assert float(pack.images[1].mean()) - float(pack.images[0].mean()) == pytest.approx(255 * 200 / 2200, abs=4)


def test_declared_levels_are_used_and_are_part_of_the_pack(tmp_path: Path) -> None:
    root = tmp_path / "data" / "omc"
    save(root / "image" / "a.png", np.full((64, 64), 3000, np.uint16))
    save(root / "label" / "a.png", picture(0) // 128)
    result = []
    for high in (4000, 6000):
        (tmp_path / "data" / "omc.toml").write_text(f"levels = [0, {high}]", "utf-8")
        result.append(int(build(tmp_path).images[0, 0, 0, 0]))
    assert result == [191, 128]


def test_two_depths_in_one_dataset_are_refused(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", ["a", "b"])
    save(root / "image" / "b.png", np.full((64, 64), 3000, np.uint16))
    with pytest.raises(UserError, match=r"b\.png: 16 bits per channel, but a\.png has 8; one dataset needs one depth"):
        build(tmp_path)


def test_unusual_labels_are_noted(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", ["a", "b"])
    label = pixels_of(root / "label" / "a.png")
    (root / "label" / "a.png").unlink()
    Image.fromarray(label).save(root / "label" / "a.jpg", quality=95)
    (note,) = build(tmp_path).notes
    assert note.startswith("1 of 2 labels: JPEG")


def test_similar_images_share_a_cluster(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", ["a", "b", "c"])
    soft = pixels_of(root / "image" / "a.png").astype(float) * 0.97
    save(root / "image" / "c.png", soft.astype(np.uint8))
    assert [tile.cluster for tile in build(tmp_path).tiles] == ["a", "", "a"]


def test_files_of_a_killed_build_are_removed_after_a_day(tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "omc", ["a"])
    protocol = settings()
    path = pack_path(find(tmp_path, protocol), protocol, tmp_path / "cache")
    old, young = (path.with_name(f".{path.name}.{mark}.tmp") for mark in ("old", "young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
    long_ago = time.time() - packs.ABANDONED_S - 60
    os.utime(old, (long_ago, long_ago))
    build(tmp_path)
    assert not old.exists()
    assert young.exists()  # may be another process's work


def test_split_error_names_levels_that_made_images_similar(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data" / "omc", "abcd")
    for offset, file in enumerate(sorted(root.joinpath("image").iterdir())):
        barred = 800 + offset + 8 * picture(0).astype(np.uint16)
        barred[56:] = 0
        barred[60:, :32] = 65535
        save(file, barred)
    together = "split.near_duplicates=together"
    with pytest.raises(UserError, match=r"near_duplicates=apart.* First look at .*add levels = \[\d+, \d+\]"):
        build(tmp_path, together).divide(settings(together))
