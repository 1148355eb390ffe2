"""The stand-ins: same seed, same bytes; masks that no effect touches; nets that never touch; hard for one threshold."""

from __future__ import annotations

import functools
import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import label

from benchmark.config.targets import layers_of
from benchmark.data.synthetic import STANDINS, Sample, generate, write
from benchmark.data.synthetic.effects import FIXED
from benchmark.data.synthetic.raster import Placement, rasterise
from benchmark.utils.errors import UserError
from tests.benchmark.data.layout_statistics import layout_statistics

DATASETS = tuple(STANDINS)
SWITCHES = [(dataset, name) for dataset in DATASETS for name in STANDINS[dataset].switches()]


# Every property holds for all layouts: few are drawn every day.
LAYOUTS = pytest.mark.parametrize(
    "layouts", [range(10), pytest.param(range(10, 50), marks=pytest.mark.slow)], ids=["few", "many"]
)


@functools.lru_cache(maxsize=256)  # drawn once for all tests
def small(dataset: str, index: int = 0, seed: int = 0, off: frozenset[str] = frozenset()) -> Sample:
    return generate(dataset, index, height=192, width=192, seed=seed, off=off)


@pytest.mark.parametrize("dataset", DATASETS)
def test_same_arguments_give_the_same_bytes_in_any_order(dataset: str) -> None:
    first = [small(dataset, index) for index in (0, 1, 2)]
    again = [small.__wrapped__(dataset, index) for index in (2, 0)]
    for a, b in ((first[2], again[0]), (first[0], again[1])):
        assert a.image.tobytes() == b.image.tobytes()
        assert a.nets.tobytes() == b.nets.tobytes()
        assert a.vias.tobytes() == b.vias.tobytes()
        assert a.manifest == b.manifest


@pytest.mark.parametrize("dataset", DATASETS)
def test_index_and_seed_change_image_and_layout(dataset: str) -> None:
    samples = [small(dataset), small(dataset, index=1), small(dataset, seed=1)]
    assert len({s.image.tobytes() for s in samples}) == 3
    assert len({s.track.tobytes() for s in samples}) == 3


@pytest.mark.parametrize("dataset", DATASETS)
def test_sample_has_the_promised_shapes_and_agreeing_masks(dataset: str) -> None:
    sample = generate(dataset, 3, height=160, width=224, seed=5)
    channels = STANDINS[dataset].channels
    assert sample.image.shape == ((160, 224) if channels == 1 else (160, 224, 3))
    assert sample.image.dtype == np.uint8
    assert sample.nets.dtype == np.int32
    assert (sample.track == (sample.nets > 0)).all()
    assert not (sample.via & ~sample.track).any()
    assert (sample.mask("metal") == sample.track).all()
    assert (sample.mask("via") == sample.via).all()
    assert sample.vias.shape[1] == 3
    inside = sample.vias[(sample.vias[:, :2] > 1).all(1) & (sample.vias[:, 0] < 222) & (sample.vias[:, 1] < 158)]
    assert all(sample.via[round(y), round(x)] for x, y, _ in inside)


@LAYOUTS
@pytest.mark.parametrize("dataset", DATASETS)
def test_mask_has_as_many_components_as_nets(dataset: str, layouts: range) -> None:
    """The whole canvas and a margin are shown, so that no border cuts a net: fewer is a short, more is an open."""
    for index in layouts:
        rng = np.random.default_rng([7, index])
        angle = float(rng.uniform(-0.03, 0.03))
        drawn = STANDINS[dataset].layout(rng, 300, 300)
        raster = rasterise(drawn, Placement(-40, -40, angle), 380, 380)
        nets = len({bar.net for bar in drawn.bars})
        assert label(raster.track, connectivity=2).max() == raster.nets.max() == nets, f"layout {index}"


@LAYOUTS
@pytest.mark.parametrize("dataset", DATASETS)
def test_no_two_nets_touch_where_the_border_cuts_them(dataset: str, layouts: range) -> None:
    for index in layouts:
        rng = np.random.default_rng([7, index])
        angle = float(rng.uniform(-0.03, 0.03))
        raster = rasterise(STANDINS[dataset].layout(rng, 384, 384), Placement(64, 64, angle), 256, 256)
        assert label(raster.track, connectivity=2).max() == raster.nets.max(), f"layout {index} has a short"
        assert len(np.unique(raster.nets)) == raster.nets.max() + (not raster.track.all())


@LAYOUTS
@pytest.mark.parametrize("dataset", DATASETS)
def test_nets_keep_five_pixels_apart_or_three_on_dense_dies(dataset: str, layouts: range) -> None:
    least = 3 if dataset == "t84c" else 5
    for index in layouts:
        rng = np.random.default_rng([8, index])
        layout = STANDINS[dataset].layout(rng, 320, 320)
        nets = rasterise(layout, Placement(0, 0, 0.01), 320, 320).nets
        # Two nets with fewer than five free pixels between them share a window of six pixels.
        highest = ndimage.maximum_filter(nets, least + 1)
        lowest = ndimage.minimum_filter(np.where(nets == 0, np.iinfo(np.int32).max, nets), least + 1)
        apart = (highest == 0) | (highest == lowest)
        # A net that the border cuts in two may approach itself there.
        assert apart[8:-8, 8:-8].all(), f"layout {index}, near {np.argwhere(~apart)[0].tolist()}"


@pytest.mark.parametrize(("dataset", "name"), SWITCHES)
def test_switch_changes_the_image_and_never_the_mask(dataset: str, name: str) -> None:
    changed = False
    for index in range(24):
        on, off = small(dataset, index), small(dataset, index, off=frozenset({name}))
        assert on.nets.tobytes() == off.nets.tobytes()
        assert on.via.tobytes() == off.via.tobytes()
        assert name in on.manifest["effects"]
        assert name not in off.manifest["effects"]
        assert off.manifest["off"] == [name]
        kept = {key: value for key, value in on.manifest["effects"].items() if key != name}
        assert kept == off.manifest["effects"], "a switch must not disturb the random streams of other effects"
        changed = on.image.tobytes() != off.image.tobytes()
        if changed:  # rare effects, such as scratches, are absent from most images
            break
    assert changed


@pytest.mark.parametrize("dataset", DATASETS)
def test_all_effects_off_keep_levels(dataset: str) -> None:
    sample = small(dataset, off=frozenset(STANDINS[dataset].switches()))
    assert set(sample.manifest["effects"]) <= FIXED
    flat = sample.image.reshape(192 * 192, -1)[:, 0]
    away = ~ndimage.binary_dilation(sample.track, iterations=12).ravel()
    assert np.ptp(flat[away]) <= 1 if away.any() else True


@pytest.mark.parametrize("dataset", DATASETS)
def test_manifest_is_complete_and_survives_json(dataset: str) -> None:
    manifest = small(dataset, index=4, seed=9).manifest
    assert json.loads(json.dumps(manifest, allow_nan=False)) == manifest
    assert manifest["dataset"] == f"{dataset}-syn"
    assert (manifest["version"], manifest["seed"], manifest["index"]) == (STANDINS[dataset].version, 9, 4)
    assert set(manifest["effects"]) == set(STANDINS[dataset].effects)
    assert all(manifest["effects"][name] for name in STANDINS[dataset].switches()), "every effect names its strength"


def otsu_miou(sample: Sample, dataset: str) -> float:
    luma = np.asarray(Image.fromarray(sample.image).convert("L"))
    guess, truth = luma > threshold_otsu(luma), sample.mask(STANDINS[dataset].target)
    both = ((guess & truth).sum() / (guess | truth).sum(), (~guess & ~truth).sum() / (~guess | ~truth).sum())
    return float(np.mean(both))


@pytest.mark.parametrize("dataset", ["hy5syn", "omc"])
@pytest.mark.parametrize(("side", "count"), [(192, 8), (512, 2)])
def test_one_threshold_does_not_solve_standins(dataset: str, side: int, count: int) -> None:
    scores = [otsu_miou(generate(dataset, i, height=side, width=side, seed=0), dataset) for i in range(count)]
    assert np.mean(scores) < 0.75


def test_dense_dies_are_as_dense_and_as_hard_as_the_photographs() -> None:
    """On both photographs together, metal covers 45-51 % and a threshold's mIoU is 0.6-0.8."""
    samples = [generate("t84c", index, height=256, width=256, seed=0) for index in range(6)]
    assert 0.40 < np.mean([sample.track.mean() for sample in samples]) < 0.6
    assert 0.5 < np.mean([otsu_miou(sample, "t84c") for sample in samples]) < 0.85


def test_clean_miic_is_easy_for_a_threshold() -> None:
    off = frozenset({"residue", "dust", "scratches", "clouds", "ghost"})
    assert np.mean([otsu_miou(small("miic", i, off=off), "miic") for i in range(8)]) > 0.85


@pytest.mark.parametrize("dataset", DATASETS)
def test_crops_of_small_images_show_target_and_background(dataset: str) -> None:
    one_sided = 0
    for index in range(6):
        sample = small(dataset, index)
        masks = [sample.mask(layer) for layer in layers_of(STANDINS[dataset].target)]
        for y, x in ((0, 0), (0, 96), (96, 0), (96, 96), (48, 48)):
            crops = [mask[y : y + 96, x : x + 96] for mask in masks]
            one_sided += not all(crop.any() and not crop.all() for crop in crops)
    assert one_sided == 0  # of 30 crops; chance may leave one in 60


@pytest.mark.slow
def test_hy5syn_matches_the_real_labels() -> None:
    """Means over six real frames of 4096x3536, measured by the same function on as many pixels.

    The frames must be whole: a smaller window cuts long nets and lowers their length.
    """
    real = {
        "foreground_share": 0.201, "width_px": 22.0, "width_p95_px": 34.8, "preferred_share": 0.92, "pitch_px": 45.3,
        "length_px": 204.9, "length_p95_px": 1322.8, "nets_per_window": 33.2, "vias_per_net": 1.71,
        "vias_per_net_median": 2.0,
    }  # fmt: skip
    rows = []
    for index in range(6):
        drawn = STANDINS["hy5syn"].layout(np.random.default_rng([3, index]), 3856, 4416)
        raster = rasterise(drawn, Placement(160, 160, 0.0), 3536, 4096)
        rows.append(astuple(layout_statistics(raster.track, raster.via)))
    names = layout_statistics(raster.track).__dataclass_fields__
    mean = dict(zip(names, np.mean(rows, axis=0), strict=True))
    for name, value in real.items():
        assert mean[name] == pytest.approx(value, rel=0.15), name


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'hy5sin'; .* hy5syn, miic, omc, omv, omc_omv, t84c; did you mean 'hy5syn'"):
        small("hy5sin")
    with pytest.raises(UserError, match=r"no effect 'cloud' .*did you mean 'clouds'.*roughness, ghost"):
        small("miic", off=frozenset({"cloud"}))
    with pytest.raises(UserError, match="no effect 'levels'"):
        small("omc", off=frozenset({"levels"}))
    with pytest.raises(UserError, match="found height 32"):
        generate("omc", 0, height=32, width=192, seed=0)


def test_write_leaves_images_labels_and_manifest(tmp_path: Path) -> None:
    target = tmp_path / "omc-syn"
    abandoned = tmp_path / "omc-syn.part" / "image"
    abandoned.mkdir(parents=True)
    (abandoned / "old.png").touch()
    assert write("omc", target, 3, height=128, width=160, seed=2) == target
    assert not abandoned.exists()
    names = ["omc_syn_0000.png", "omc_syn_0001.png", "omc_syn_0002.png"]
    assert sorted(p.name for p in (target / "image").iterdir()) == names
    sample = generate("omc", 1, height=128, width=160, seed=2)
    assert (np.asarray(Image.open(target / "image" / names[1])) == sample.image).all()
    assert (np.asarray(Image.open(target / "label" / names[1])) == sample.track * 255).all()
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest["images"][1] == {"name": names[1], **sample.manifest}
    with pytest.raises(UserError, match="exists already"):
        write("omc", target, 3)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/omc-syn: cannot be written .*choose another folder"):
        write("omc", tmp_path / "file" / "omc-syn", 1, height=128, width=128)


def test_interrupted_write_leaves_only_a_part_folder(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write("miic", tmp_path / "miic-syn", 1, height=96, width=96, progress=interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["miic-syn.part"]
