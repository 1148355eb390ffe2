"""Datasets of several layers: one label for all, a folder for each, known ones and their stand-ins."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data import synthetic
from benchmark.data.batches import TrainingBatches, evaluation_batches
from benchmark.data.datasets import Source, choose, resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.formats.all_formats import read_layers
from benchmark.data.packs import IGNORED, Pack, open_pack
from benchmark.data.pairs import find_pairs
from benchmark.data.specs import DatasetSpec
from benchmark.training.losses import loss_of_layers
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import Call
from tests.benchmark.data.folder_makers import picture, save

SIDE = 64
TRACK, VIA = (np.zeros((SIDE, SIDE), np.uint8) for _ in range(2))
TRACK[8:24], VIA[12:20, 30:38] = 255, 255
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64" viewBox="0 0 64 64">
<path d="M0,8 L64,8 L64,24 L0,24 Z" fill="lime"/><circle cx="34" cy="16" r="4" fill="red"/></svg>"""
BOTH = DatasetSpec(name="chip", target="track+via")


def settings(*overrides: str) -> Protocol:
    small = ["input.size=32", "input.tile=64", "split.counts=[6,2,2]", "data.standin_images=10"]
    return load_protocol("quick", [*small, *overrides])


def opened(name: str, root: Path, *overrides: str) -> tuple[Source, Pack]:
    protocol = settings(*overrides)
    (source,) = resolve(name, root / "data", protocol, HashCache(None))
    return source, open_pack(source, protocol, root / "cache")


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Pack]:
    return opened("omc_omv", tmp_path_factory.mktemp("omc_omv"))


def write_layers(folder: Path, count: int = 10, track: str = "label_track", via: str = "label_via") -> Path:
    """Write images of which only those of even numbers have a mask of vias."""
    for index in range(count):
        save(folder / "image" / f"{index}.png", picture(index))
        save(folder / track / f"{index}.png", np.roll(TRACK, index, 0))
        if index % 2 == 0:
            save(folder / via / f"{index}_mask.png", np.roll(VIA, index, 0))
    return folder


def coco(folder: Path, categories: Mapping[int, str], shapes: Mapping[int, list[int]]) -> Path:
    """Write one image's boxes (left, top, right, bottom) by category; return the label's path."""
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": SIDE, "height": SIDE}],
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
        "annotations": [
            {"image_id": 1, "category_id": number, "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
            for number, (x0, y0, x1, y1) in shapes.items()
        ],
    }
    folder.mkdir(exist_ok=True)
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json" / "a.png"


def one_label(kind: str, folder: Path) -> Path:
    if kind == "svg":
        (folder / "a.svg").write_text(SVG)
        return folder / "a.svg"
    if kind == "coco":
        return coco(folder, {1: "metal1", 2: "via1"}, {1: [0, 8, 64, 24], 2: [30, 12, 38, 20]})
    colours = np.zeros((SIDE, SIDE, 3), np.uint8)
    colours[..., 0] = 255
    colours[TRACK > 0] = (0, 255, 0)
    colours[VIA > 0] = (0, 0, 255)
    return save(folder / "a.png", colours)


@pytest.mark.parametrize("kind", ["svg", "coco", "one-hot"])
def test_one_label_that_tells_layers_apart_gives_each(kind: str, tmp_path: Path) -> None:
    label = one_label(kind, tmp_path)
    for order in (("track", "via"), ("via", "track")):
        layers = read_layers(dict.fromkeys(order, label), (SIDE, SIDE))
        assert tuple(layers) == order
        track, via = layers["track"].mask, layers["via"].mask
        assert (track == ((TRACK > 0) & (~via if kind == "one-hot" else True))).all()
        assert 0.7 * 64 <= via.sum() <= 64
        assert not (via & (VIA == 0)).any() or kind == "svg"
    metal = read_layers({"metal": label, "via": label}, (SIDE, SIDE))["metal"].mask
    assert (metal == (TRACK > 0)).all()


@pytest.mark.parametrize("kind", ["mask", "one category", "no via"])
def test_one_mask_for_two_layers_is_refused(kind: str, tmp_path: Path) -> None:
    if kind == "mask":
        label = save(tmp_path / "a.png", TRACK)
    else:
        label = coco(tmp_path, {1: "pad"} if kind == "one category" else {1: "m1", 2: "m2"}, {1: [0, 8, 64, 24]})
    message = r"do not tell track and via apart; expected SVG, .* a folder of masks for each: label_track/, label_via/"
    with pytest.raises(UserError, match=message):
        read_layers({"track": label, "via": label}, (SIDE, SIDE))
    assert read_layers({"track": label, "via": None}, (SIDE, SIDE))["track"].mask.any()


def test_layer_without_a_label_is_ignored_everywhere(tmp_path: Path) -> None:
    layers = read_layers({"track": save(tmp_path / "a.png", TRACK), "via": None}, (SIDE, SIDE))
    assert layers["track"].ignored is None
    assert layers["via"].ignored is not None
    assert layers["via"].ignored.all()


def test_categories_of_other_names_are_layers_of_their_own(tmp_path: Path) -> None:
    coco(
        tmp_path / "label",
        {1: "metal1", 2: "metal2", 3: "seal"},
        {1: [0, 0, 9, 9], 2: [4, 4, 20, 20], 3: [0, 0, 64, 64]},
    )
    save(tmp_path / "image" / "a.png", picture(0))
    kinds = {"metal1": "m1", "metal2": "m2", "seal": "none"}
    (pair,) = find_pairs(tmp_path, DatasetSpec(name="chip", target="m1+m2", categories=kinds))
    layers = read_layers(pair.labels("m1+m2"), (SIDE, SIDE), pair.legend)
    assert [int(layer.mask.sum()) for layer in layers.values()] == [81, 256]
    with pytest.raises(UserError, match=r"no category is of the layer 'm3' \(found metal1, .*\"metal1\" = 'm3' below"):
        read_layers(pair.labels("m3"), (SIDE, SIDE), pair.legend)


def test_folders_of_layers_pair_by_stem(tmp_path: Path) -> None:
    pairs = find_pairs(write_layers(tmp_path), BOTH)
    assert [pair.name for pair in pairs] == [str(index) for index in range(10)]
    assert dict(pairs[2].layer_labels) == {
        "track": tmp_path / "label_track/2.png", "via": tmp_path / "label_via/2_mask.png"
    }  # fmt: skip
    assert dict(pairs[3].layer_labels) == {"track": tmp_path / "label_track/3.png", "via": None}
    shutil.move(tmp_path / "label_track", tmp_path / "label")
    assert dict(find_pairs(tmp_path, BOTH)[3].layer_labels) == {"track": tmp_path / "label/3.png", "via": None}


def test_folder_of_one_layer_serves_a_target_of_that_layer(tmp_path: Path) -> None:
    write_layers(tmp_path)
    (alone, *_) = find_pairs(tmp_path, DatasetSpec(name="chip", target="via", unlabelled="skip"))
    assert (alone.label, alone.layer_labels) == (tmp_path / "label_via/0_mask.png", ())


def test_faults_of_folders_of_layers_are_named_once(tmp_path: Path) -> None:
    root = write_layers(tmp_path)
    save(root / "image" / "x.png", picture(99))
    with pytest.raises(UserError, match=r"x\.png: image without label; expected"):
        find_pairs(root, BOTH)
    (root / "image" / "x.png").unlink()
    save(root / "label_via" / "y.png", VIA)
    with pytest.raises(UserError, match=r"label_via/y\.png: label without image; expected"):
        find_pairs(root, BOTH)
    shutil.rmtree(root / "label_track")
    with pytest.raises(UserError, match=r"label: no such folder"):
        find_pairs(root, BOTH)


def test_image_without_a_mask_of_vias_is_ignored_there_and_nowhere_else(tmp_path: Path) -> None:
    write_layers(tmp_path / "data" / "chip")
    (tmp_path / "data" / "chip.toml").write_text('target = "track+via"')
    source, pack = opened("chip", tmp_path)
    assert (pack.layers, pack.has_ignored, pack.masks.shape) == (("track", "via"), True, (10, SIDE, SIDE, 2))
    assert list(source.tests) == ["chip@track", "chip@via"]
    for index in range(10):
        np.testing.assert_array_equal(pack.masks[index, ..., 0], np.roll(TRACK, index, 0) > 0)
        expected = np.roll(VIA, index, 0) > 0 if index % 2 == 0 else np.full((SIDE, SIDE), IGNORED)
        np.testing.assert_array_equal(pack.masks[index, ..., 1], expected)
    (batch,) = evaluation_batches(pack, [2, 3], 64, 2, torch.device("cpu"))
    assert batch.counted is not None
    assert batch.counted.mean((2, 3)).tolist() == [[1, 1], [1, 0]]
    logits = torch.zeros(2, 2, 64, 64, requires_grad=True)
    loss_of_layers(logits, batch, pack.layers, settings().loss).backward()
    assert logits.grad is not None
    assert [[bool(layer.any()) for layer in image] for image in logits.grad] == [[True, True], [True, False]]


def test_crops_turn_all_layers_with_their_image(stand_in: tuple[Source, Pack]) -> None:
    source, pack = stand_in
    drawn = Pack(pack.dataset, "", np.ascontiguousarray(pack.masks), pack.masks, pack.tiles, layers=source.layers)
    protocol = settings("training.augmentation=flips_turns")
    for batch in TrainingBatches([(drawn, range(10))], 32, protocol, 0, torch.device("cpu")).epoch(0):
        assert torch.equal((batch.images * 255).round(), batch.masks)


def test_masks_of_each_layer_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    root = write_layers(tmp_path / "data" / "chip")
    (tmp_path / "data" / "chip.toml").write_text('target = "track+via"')

    def fingerprint() -> str:
        return resolve("chip", tmp_path / "data", settings(), HashCache(None))[0].fingerprint

    seen = [fingerprint()]
    save(root / "label_via" / "4_mask.png", np.roll(VIA, 5, 0))
    seen.append(fingerprint())
    (root / "label_via" / "4_mask.png").unlink()
    seen.append(fingerprint())
    assert len(set(seen)) == 3


def write_omc_and_omv(data: Path) -> None:
    write_layers(data / "omc", track="label", via="../omv/label")
    for index in range(0, 10, 2):
        save(data / "omv" / "image" / f"{index}.png", picture(index))


def test_omc_omv_reads_tracks_of_omc_and_vias_of_omv(tmp_path: Path) -> None:
    write_omc_and_omv(tmp_path / "data")
    source, pack = opened("omc_omv", tmp_path)
    assert (source.name, source.layers, source.synthetic) == ("omc_omv", ("track", "via"), False)
    for index in range(10):
        np.testing.assert_array_equal(pack.masks[index, ..., 0], np.roll(TRACK, index, 0) > 0)
        assert (pack.masks[index, ..., 1] == IGNORED).all() == (index % 2 == 1)
    assert [opened(name, tmp_path)[1].masks.shape[-1] for name in ("omc", "omv")] == [1, 1]


def test_omc_omv_needs_both_folders_and_a_division_inside_of_them(tmp_path: Path) -> None:
    write_omc_and_omv(tmp_path / "data")
    shutil.move(tmp_path / "data" / "omv", tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"omv/label: no such folder"):
        opened("omc_omv", tmp_path)
    shutil.move(tmp_path / "elsewhere", tmp_path / "data" / "omv")
    for part in ("train", "val", "test"):
        shutil.copytree(tmp_path / "data/omc/image", tmp_path / "data/omc" / part / "image")
    shutil.rmtree(tmp_path / "data/omc/image")
    with pytest.raises(UserError, match=r"train/ val/ test/, and labels in .*omv/label; expected labels inside each"):
        opened("omc_omv", tmp_path)


def test_no_wildcard_and_not_all_mean_omc_omv(tmp_path: Path) -> None:
    for names in ("all", "*", "om*", "*-syn"):
        assert not {"omc_omv", "omc_omv-syn"} & choose(names, tmp_path).keys()
    assert list(choose("omc_omv,omc_omv-syn", tmp_path)) == ["omc_omv", "omc_omv-syn"]


def test_stand_in_of_omc_omv_has_both_layers_and_reads_the_same_from_files(
    stand_in: tuple[Source, Pack], tmp_path: Path
) -> None:
    source, pack = stand_in
    assert (source.name, source.synthetic, pack.layers) == ("omc_omv-syn", True, ("track", "via"))
    track, via = (pack.masks[..., layer] for layer in (0, 1))
    assert (track.any((1, 2)) & via.any((1, 2))).sum() >= 8  # of 10 that are so small
    assert ((via == 1) <= (track == 1)).all()  # a via lies on its track
    folder = synthetic.write("omc_omv", tmp_path / "data" / "omc_omv-syn", 3, height=64, width=64)
    assert sorted(path.name for path in folder.iterdir()) == ["image", "label_track", "label_via", "manifest.json"]
    written, read = opened("omc_omv-syn", tmp_path)
    assert (written.synthetic, read.layers, read.has_ignored) == (False, ("track", "via"), False)
    first = np.asarray(Image.open(folder / "label_via" / "omc_omv_syn_0000.png")) > 0
    np.testing.assert_array_equal(read.masks[0, ..., 1], first)


def test_setting_gives_any_stand_in_several_layers_or_refuses_those_it_lacks(tmp_path: Path) -> None:
    source, pack = opened("omc-syn", tmp_path, "data.target=metal+via")
    assert (list(source.tests), pack.masks.shape[-1]) == (["omc-syn@metal", "omc-syn@via"], 2)
    with pytest.raises(UserError, match=r"stand-ins have the layers metal, track, via, found 'poly'"):
        opened("omc-syn", tmp_path, "data.target=track+poly")


SIZE = ("--protocol", "quick", "--set", "input.size=32", "--set", "input.tile=64", "--set", "split.counts=[6,2,2]")


@pytest.mark.parametrize("how", ["toml", "setting"])
def test_verify_and_show_read_all_layers(how: str, call: Call, tmp_path: Path) -> None:
    root = write_layers(tmp_path / "data" / "chip")
    flags = SIZE if how == "toml" else (*SIZE, "--set", "data.target=track+via")
    (tmp_path / "data" / "chip.toml").write_text('target = "track+via"' if how == "toml" else "")
    code, out, err = call("data", "verify", "chip", *flags)
    assert code == 0, out + err
    assert "10 images, 15 labels" in out
    code, out, err = call("data", "show", "chip", *flags)
    assert code == 0, err
    sheet = np.asarray(Image.open(tmp_path / "data/.cache/show/chip.png"))
    for colour in ((240, 228, 66), (86, 180, 233)):  # outlines of the first layer and of the others
        assert (sheet == colour).all(-1).sum() > 20
    save(root / "label_via" / "4_mask.png", np.full((SIDE, SIDE), 7, np.uint8))
    code, out, _ = call("data", "verify", "chip", *flags)
    assert code == 1
    assert "4_mask.png" in out


def test_verify_refuses_one_mask_for_two_layers(call: Call, tmp_path: Path) -> None:
    write_layers(tmp_path / "data" / "chip", track="label", via="unused")
    code, out, _ = call("data", "verify", "chip", *SIZE, "--set", "data.target=track+via")
    assert code == 1
    assert "label_track/, label_via/" in " ".join(out.split())
