"""Stress: one effect at a multiple of the hardest strength that is drawn, the rest of an image as it is drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data import stressed
from benchmark.data.datasets import Source, resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.packs import Pack, open_pack
from benchmark.data.stressed import Stresses
from benchmark.data.synthetic import STANDINS, Sample, Stress, generate, optical, sem
from benchmark.data.synthetic.effects import Scene
from benchmark.data.synthetic.raster import Raster
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL

Image = NDArray[np.float64]
CASES = [(dataset, name) for dataset, standin in STANDINS.items() for name in standin.stresses]
#: Effect -> the strengths that are forced, and their hardest values; a lower one is harder where the last is -2.
HARDEST = {
    "clouds": (sem.clouds, {"gain": (0.12, 1), "offset_gray": (8.0, 1)}),
    "psf": (sem.psf, {"sigma_px": (3.0, 1)}),
    "shot": (sem.shot, {"electrons_per_gray": (25.0, -2)}),
    "read": (sem.read, {"sigma_gray": (3.5, 1)}),
    "roughness": (sem.roughness, {"sigma_px": (2.0, 1)}),
    "film": (optical.film, {"depth": (0.05, 1)}),
    "vignette": (optical.vignette, {"depth": (0.30, 1)}),
    "lens": (optical.psf, {"sigma_px": (3.0, 1)}),
    "camera": (optical.camera, {"sigma_gray": (2.5, 1)}),
}


@functools.lru_cache(maxsize=16)
def small(dataset: str, index: int = 0, stress: Stress | None = None, off: frozenset[str] = frozenset()) -> Sample:
    return generate(dataset, index, height=192, width=192, seed=0, stress=stress, off=off)


def scene(image: NDArray[np.float32], track: NDArray[np.bool_] | None = None) -> Scene:
    mask = np.zeros(image.shape[:2], bool) if track is None else track
    none = np.zeros_like(mask)
    raster = Raster(mask.astype(np.int32), mask, none, none, none, none, np.zeros((0, 3)))
    return Scene(raster, image.copy(), mask.astype(np.float32), None)


@pytest.mark.parametrize(("dataset", "name"), CASES)
def test_stress_changes_only_its_effects_and_the_image(dataset: str, name: str) -> None:
    drawn, forced = small(dataset, 2), small(dataset, 2, Stress(name, 1.0))
    assert drawn.nets.tobytes() == forced.nets.tobytes()
    assert drawn.via.tobytes() == forced.via.tobytes()
    assert drawn.image.tobytes() != forced.image.tobytes()
    assert "stress" not in drawn.manifest
    assert forced.manifest["stress"] == [name, 1.0]
    ours, theirs = drawn.manifest["effects"], forced.manifest["effects"]
    assert {effect for effect in ours if ours[effect] != theirs[effect]} == set(STANDINS[dataset].stresses[name])


@pytest.mark.parametrize("effect", HARDEST)
def test_strength_1_is_the_hardest_drawn_value(effect: str) -> None:
    apply, hardest = HARDEST[effect]
    blank = np.full((8, 8) if apply in vars(sem).values() else (8, 8, 3), 0.5, np.float32)
    draws = [apply(scene(blank), np.random.default_rng(index)) for index in range(300)]
    for name, (value, power) in hardest.items():
        result = [one[name] for one in draws]
        worst = max(result) if power > 0 else min(result)
        if effect == "lens":  # sharp ones are much commoner: 1 + 2 beta(1, 5)
            assert 2.3 < worst <= value
        else:
            assert worst == pytest.approx(value, rel=0.12)
        assert worst <= value if power > 0 else worst >= value
        for strength in (0.5, 1.0, 2.0):
            forced = scene(blank)
            forced.forced = strength
            assert apply(forced, np.random.default_rng(0))[name] == pytest.approx(value * strength**power)


def change(effect: str, image: NDArray[np.float32], strength: float) -> Image:
    """What a forced effect adds to an image."""
    created = scene(image)
    created.forced = strength
    HARDEST[effect][0](created, np.random.default_rng(5))
    return created.image.astype(np.float64) - image


@pytest.mark.parametrize("effect", ["clouds", "shot", "read", "camera"])
def test_twice_the_strength_is_twice_the_standard_deviation_in_the_image(effect: str) -> None:
    gray = np.full((256, 256, 3) if effect == "camera" else (256, 256), 80, np.float32)
    half, one, two = (change(effect, gray, strength).std() for strength in (0.5, 1.0, 2.0))
    assert (one / half, two / one) == (pytest.approx(2, rel=0.01), pytest.approx(2, rel=0.01))
    if effect == "shot":  # Fano factor times gray level over electrons per level
        assert one == pytest.approx(np.sqrt(1.9 * 80 / 25), rel=0.02)


@pytest.mark.parametrize("effect", ["film", "vignette"])
def test_twice_the_strength_is_twice_the_unevenness_of_the_light(effect: str) -> None:
    light = np.full((128, 128, 3), 0.4, np.float32)
    half, one, two = (change(effect, light, strength).ravel() for strength in (0.5, 1.0, 2.0))
    np.testing.assert_allclose(one, 2 * half, atol=1e-6)
    np.testing.assert_allclose(two, 2 * one, atol=1e-6)


def spread_px(image: Image) -> float:
    """Standard deviation of a point's image along the rows."""
    profile = image.sum(0)
    x = np.arange(len(profile))
    centre = (profile * x).sum() / profile.sum()
    return float(np.sqrt((profile * (x - centre) ** 2).sum() / profile.sum()))


@pytest.mark.parametrize("effect", ["psf", "lens"])
def test_twice_the_strength_is_twice_the_blur(effect: str) -> None:
    point = np.zeros((129, 129), np.float32)
    point[64, 64] = 1
    image = np.stack([point] * 3, -1) if effect == "lens" else point
    widths = [spread_px((change(effect, image, s) + image).reshape(129, 129, -1)[..., -1]) for s in (0.5, 1.0, 2.0)]
    assert widths[1] / widths[0] == pytest.approx(2, rel=0.05)
    assert widths[2] / widths[1] == pytest.approx(2, rel=0.05)


def edge_deviation_px(strength: float) -> float:
    """Standard deviation of where a straight edge lies, from the covered part of each row."""
    track = np.zeros((1024, 96), bool)
    track[:, 48:] = True
    created = scene(np.zeros(track.shape, np.float32), track)
    created.forced = strength
    sem.roughness(created, np.random.default_rng(7))
    return float(created.track.sum(1).std())


def test_roughness_moves_edges_in_proportion() -> None:
    half, one, two, four = map(edge_deviation_px, (0.5, 1.0, 2.0, 4.0))
    assert half < one
    assert two / one == pytest.approx(2, rel=0.15)
    assert four > 1.5 * two  # an edge falls into islands, whose sum over a row is more even


@pytest.mark.parametrize("effect", [name for name, (_, hardest) in HARDEST.items() if len(hardest) == 1])
def test_effect_forced_to_its_drawn_value_changes_nothing(effect: str) -> None:
    apply, hardest = HARDEST[effect]
    ((name, (value, power)),) = hardest.items()
    track = np.zeros((96, 96), bool)
    track[:, 40:60] = True
    gray = np.where(track, 150, 70).astype(np.float32)
    image = gray if apply in vars(sem).values() else np.stack([gray] * 3, -1) / 255
    created, forced = scene(image, track), scene(image, track)
    drawn = apply(created, np.random.default_rng(11))[name]
    forced.forced = (drawn / value) ** (1 / power)
    apply(forced, np.random.default_rng(11))
    np.testing.assert_allclose(forced.image, created.image, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(forced.track, created.track, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("dataset", "name"), CASES)
def test_image_difference_grows_with_strength(dataset: str, name: str) -> None:
    drawn = small(dataset).image.astype(float)
    far = [np.abs(small(dataset, stress=Stress(name, s)).image - drawn).mean() for s in (1.0, 2.0, 4.0)]
    assert 0 < far[0] < far[1] < far[2]


def test_impossible_stress_is_refused() -> None:
    with pytest.raises(UserError, match=r"omc-syn cannot be stressed by 'roughness'; expected one of clouds, defocus"):
        small("omc", stress=Stress("roughness", 1.0))
    with pytest.raises(UserError, match=r"by 'cloud'; did you mean 'clouds'\?"):
        small("miic", stress=Stress("cloud", 1.0))
    with pytest.raises(UserError, match="found a strength of 0"):
        small("miic", stress=Stress("clouds", 0.0))


@pytest.fixture
def find(tmp_path: Path) -> Callable[..., tuple[Source, Protocol]]:
    def find(*overrides: str, name: str = "hy5syn-syn") -> tuple[Source, Protocol]:
        protocol = load_protocol("quick", [*SMALL, *overrides])
        (source,) = resolve(name, tmp_path / "none", protocol, HashCache(tmp_path / "hashes.json"))
        return source, protocol

    return find


def check_same(found: Pack, whole: Pack, test: tuple[int, ...]) -> None:
    assert [tile.name for tile in found.tiles] == [whole.tiles[index].name for index in test]
    assert [tile.group for tile in found.tiles] == [whole.tiles[index].group for index in test]
    assert (found.masks == whole.masks[list(test)]).all()


def test_stressed_pack_holds_only_test_images(find: Callable[..., tuple[Source, Protocol]], tmp_path: Path) -> None:
    source, protocol = find()
    whole = open_pack(source, protocol, tmp_path)
    test = whole.divide(protocol).test
    drawn = stressed.open_stressed(source, protocol, tmp_path, None)
    check_same(drawn, whole, test)
    assert (drawn.images == whole.images[list(test)]).all()
    noisy = stressed.open_stressed(source, protocol, tmp_path, Stress("noise", 1.0))
    check_same(noisy, whole, test)
    rough = [ndimage.laplace(pack.images[..., 0].astype(float)).std() for pack in (drawn, noisy)]
    assert rough[0] < rough[1]


def test_stressed_tiles_of_partly_tested_frames_are_correct(
    find: Callable[..., tuple[Source, Protocol]], tmp_path: Path
) -> None:
    source, protocol = find("input.tile=128", "data.standin_images=4", "split.unit=image")
    source = replace(source, shape=(280, 400))  # frames of 2x3 tiles and a rest
    whole = open_pack(source, protocol, tmp_path)
    assert len(whole.tiles) == 24
    test = whole.divide(protocol).test
    drawn = stressed.open_stressed(source, protocol, tmp_path, None)
    check_same(drawn, whole, test)
    assert (drawn.images == whole.images[list(test)]).all()


def test_packs_of_different_stresses_and_divisions_differ(
    find: Callable[..., tuple[Source, Protocol]], tmp_path: Path
) -> None:
    source, protocol = find()
    for stress in (None, Stress("noise", 1.0), Stress("noise", 2.0), Stress("clouds", 1.0)):
        stressed.open_stressed(source, protocol, tmp_path, stress)
    _, other = find("split.counts=[6,2,1]")
    assert len(stressed.open_stressed(source, other, tmp_path, None).tiles) == 1
    assert len(list((tmp_path / "packs").iterdir())) == 6  # the whole one and these


def test_unsupported_stress_is_refused_with_alternatives(find: Callable[..., tuple[Source, Protocol]]) -> None:
    (sem_like, _), (optical_like, _) = find(), find(name="omc-syn")

    def refuse(sources: list[Source], *effects: str) -> None:
        Stresses(effects, (1.0,)).refuse(sources, "all")

    refuse([sem_like, optical_like], "clouds", "defocus", "noise")
    with pytest.raises(UserError, match=r"roughness: not an effect of omc-syn \(omc-syn has clouds, defocus, noise\)"):
        refuse([sem_like, optical_like], "noise", "roughness")
    with pytest.raises(UserError, match=r"'defocuss': no such stress.*did you mean 'defocus'"):
        refuse([sem_like], "defocuss")
    with pytest.raises(UserError, match=r"mychip is read from files.*only stand-ins"):
        refuse([replace(sem_like, name="mychip", pairs=("a",))], "noise")  # type: ignore[arg-type]


def test_flags_are_read_and_refused_by_name() -> None:
    assert Stresses.parse(None, None) is None
    assert Stresses.parse(" noise,clouds,noise", None) == Stresses(("noise", "clouds"), (0.5, 1.0, 2.0))
    assert Stresses.parse("noise", "2, 0.25") == Stresses(("noise",), (0.25, 2.0))
    for strengths in ("0", "-1", "nan", "inf", "strong", "8.5", "1,", ""):
        with pytest.raises(UserError, match=r"--strength .*expected numbers above 0 and up to 8"):
            Stresses.parse("noise", strengths)
    with pytest.raises(UserError, match="--strength 1: of what"):
        Stresses.parse(None, "1")
    with pytest.raises(UserError, match="--stress is empty"):
        Stresses.parse(" ,", None)
