from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

from benchmark.data import synthetic
from benchmark.data.duplicates import BLOCK, clusters, overlap, thumbnail

Picture = NDArray[np.uint8]
FAMILIES = ("omc", "miic", "hy5syn", "omv")
EVERYDAY = [*FAMILIES[:3], pytest.param("omv", marks=pytest.mark.slow)]  # which looks like omc
SIDE = 512


def window(picture: Picture, top: int = 1, left: int = 1) -> Picture:
    return picture[top : top + SIDE, left : left + SIDE]


def jpeg(picture: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    Image.fromarray(picture.squeeze()).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(picture.shape)


def brighter(picture: Picture, factor: float) -> Picture:
    return np.clip(np.rint(picture * np.float32(factor)), 0, 255).astype(np.uint8)


def noisy(picture: NDArray[np.generic], sigma: float, seed: int = 0) -> Picture:
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


COPIES: dict[str, Callable[[Picture], Picture]] = {
    "encoded again": lambda picture: jpeg(window(picture), 70),
    "brighter": lambda picture: brighter(window(picture), 1.1),
    "darker": lambda picture: brighter(window(picture), 0.9),
    "moved right": lambda picture: window(picture, left=0),
    "moved up": lambda picture: window(picture, top=2),
    "moved both": lambda picture: window(picture, 0, 2),
    "noisy": lambda picture: noisy(window(picture), 5),
    "all at once": lambda picture: jpeg(brighter(noisy(window(picture, 2, 2), 3), 0.9), 70),
}


def pictures(family: str, count: int) -> list[Picture]:
    """Stand-ins with a margin of one pixel, as ``(514, 514, C)``."""
    created = [synthetic.generate(family, i, height=SIDE + 2, width=SIDE + 2, seed=3).image for i in range(count)]
    return [picture.reshape(SIDE + 2, SIDE + 2, -1) for picture in created]


def smalls(found: list[Picture]) -> Picture:
    return np.stack([thumbnail(picture) for picture in found])


def random_smalls(seed: int, count: int) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32), dtype=np.uint8)


def shaded(sigma: float, seed: int) -> Picture:
    """An empty field of gray 200 that darkens away from a bright spot beside the middle, with noise of its own."""
    across = np.linspace(-1, 1, SIDE)
    fall = ((across[:, None] + 0.3) ** 2 + (across - 0.4) ** 2) / 2
    return noisy((200 * (1 - 0.6 * fall))[..., None], sigma, seed)


def random_signs(seed: int, count: int) -> NDArray[np.int64]:
    """Low frequencies ``(count, 8, 8)`` of equal strength."""
    return np.random.default_rng(seed).choice([-1, 1], (count, 8, 8))


def array(pitch: int, phase: int, seed: int) -> Picture:
    """A memory array: the same cell again and again."""
    stripes = (np.arange(SIDE) + phase) // (pitch // 2) % 2
    return noisy((60 + 100 * (stripes[:, None] & stripes)).astype(np.uint8)[..., None], 6, seed)


@pytest.mark.parametrize("family", EVERYDAY)
def test_copies_are_found_and_different_windows_kept_apart(family: str) -> None:
    originals = pictures(family, 2)
    result = [window(picture) for picture in originals]
    for change in COPIES.values():
        result += [change(picture) for picture in originals]
    assert clusters(smalls(result)) == [0, 1] * (1 + len(COPIES))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_hundreds_of_windows_are_kept_apart_and_their_copies_found(family: str) -> None:
    kept: list[Picture] = []
    copies: list[Picture] = []
    for index in range(200):
        picture = synthetic.generate(family, index, height=SIDE + 2, width=SIDE + 2, seed=19).image
        picture = picture.reshape(SIDE + 2, SIDE + 2, -1)
        kept.append(thumbnail(window(picture)))
        copies += [thumbnail(change(picture)) for change in COPIES.values()]
    result = clusters(np.stack(kept + copies))
    assert result[:200] == list(range(200))
    assert result[200:] == [index for index in range(200) for _ in COPIES]


@pytest.mark.parametrize("family", EVERYDAY)
def test_windows_of_one_frame_are_kept_apart(family: str) -> None:
    frame = synthetic.generate(family, 0, height=2 * SIDE, width=2 * SIDE, seed=1).image.reshape(2 * SIDE, 2 * SIDE, -1)
    cut = [window(frame, top, left) for top in (0, SIDE) for left in (0, SIDE)]
    assert clusters(smalls(cut)) == list(range(4))


def test_arrays_of_another_pitch_or_phase_are_kept_apart() -> None:
    different = [array(64, 0, 1), array(64, 16, 2), array(64, 32, 3), array(72, 0, 4), array(96, 0, 5)]
    assert clusters(smalls([*different, noisy(different[2], 5, 9)])) == [0, 1, 2, 3, 4, 2]


def test_arrays_in_phase_are_separated_by_their_clouds() -> None:
    # Three pixels of a thumbnail to a cell: only the clouds tell one window from another.
    fine = np.where(np.arange(32) % 3 == 0, 80, 0)
    clouds = [fft.idctn(np.pad(cloud, (0, 24)) * 10, norm="ortho") for cloud in random_signs(0, 3)]
    created = np.stack([np.rint(100 + (fine[:, None] + fine) / 2 + cloud) for cloud in clouds]).astype(np.uint8)
    assert min(abs(np.corrcoef(created.reshape(3, -1)))[np.triu_indices(3, 1)]) > 0.95
    assert clusters(created) == [0, 1, 2]


def test_different_details_make_different_images() -> None:
    coarse = fft.idctn(np.pad(random_signs(1, 1)[0], (0, 24)) * 100, norm="ortho")
    details = np.random.default_rng(2).choice([-20, 20], (2, 32, 32))
    created = np.clip(128 + coarse + details, 0, 255).astype(np.uint8)
    same = np.clip(created[:1] * 0.9 + 4, 0, 255).astype(np.uint8)
    assert clusters(np.concatenate([created, same])) == [0, 1, 0]


@pytest.mark.parametrize("sigma", [2, 8])
def test_empty_fields_under_one_shading_are_kept_apart(sigma: float) -> None:
    fields = smalls([shaded(sigma, seed) for seed in range(8)])
    assert clusters(np.concatenate([fields, fields[:2]])) == [*range(8), 0, 1]


def test_rounded_shading_is_no_similarity() -> None:
    fields = np.repeat(thumbnail(shaded(0, 0))[None], 3, axis=0)
    fields[1, 3, 4] += 1
    assert clusters(fields) == [0, 1, 0]


def test_flat_images_are_joined_only_if_equal() -> None:
    flat = np.stack([np.full((32, 32), gray, np.uint8) for gray in (0, 50, 0, 51, 50, 255)])
    nearly = flat[1].copy()
    nearly[3, 4] += 1
    assert clusters(np.concatenate([flat, nearly[None]])) == [0, 1, 0, 3, 1, 5, 6]


def test_cluster_name_is_its_smallest_member() -> None:
    # Neighbours in the chain look alike; the ends do not.
    picture = synthetic.generate("hy5syn", 0, height=SIDE, width=SIDE + 30, seed=5).image.reshape(SIDE, SIDE + 30, -1)
    chain = smalls([picture[:, step : step + SIDE] for step in range(0, 31, 1)])
    assert clusters(chain[[0, 30]]) == [0, 1]
    order = [30, 7, 0, *(i for i in range(31) if i not in (30, 7, 0))]
    assert clusters(chain[order]) == [0] * 31


@given(data=st.data(), seed=st.integers(0, 1000))
def test_clusters_do_not_depend_on_the_order(data: st.DataObject, seed: int) -> None:
    origin = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=20))
    bases = random_smalls(seed, 6)
    change = np.random.default_rng(seed).integers(-3, 4, (len(origin), 32, 32))
    images = np.clip(bases[origin] + change, 0, 255).astype(np.uint8)
    assert clusters(images) == [origin.index(base) for base in origin]


def test_copies_in_distant_blocks_are_found() -> None:
    images = random_smalls(0, 3 * BLOCK + 5)
    images[-1] = np.clip(images[3] * 0.9 + 5, 0, 255).astype(np.uint8)
    images[2 * BLOCK] = images[BLOCK - 1]
    expected = list(range(len(images)))
    expected[-1], expected[2 * BLOCK] = 3, BLOCK - 1
    assert clusters(images) == expected


@pytest.mark.parametrize("count", [0, 1])
def test_few_images(count: int) -> None:
    images = random_smalls(0, count)
    assert clusters(images) == list(range(count))
    assert overlap(images, images) == [(index, index) for index in range(count)]


def test_overlap_names_pairs_across_two_sets() -> None:
    first, second = random_smalls(1, BLOCK + 4), random_smalls(2, 7)
    second[5] = first[BLOCK + 2]
    second[1] = np.clip(first[0] * 0.9 + 3, 0, 255).astype(np.uint8)
    first[9] = first[0]
    flat = np.full((1, 32, 32), 80, np.uint8)
    first, second = np.concatenate([first, flat]), np.concatenate([second, flat, flat, flat + 1])
    expected = [(0, 1), (9, 1), (BLOCK + 2, 5), (BLOCK + 4, 7), (BLOCK + 4, 8)]
    assert overlap(first, second) == expected
    assert overlap(second, first) == sorted((b, a) for a, b in expected)
    assert overlap(first, second[:0]) == []


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (100, 70), (20, 500)])
def test_thumbnail_averages_areas(height: int, width: int) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, width), (height, width)).astype(np.uint8)[..., None]
    small = thumbnail(ramp)
    assert small.shape == (32, 32)
    assert small.dtype == np.uint8
    assert abs(float(small.mean()) - float(ramp.mean())) < 1
    assert (np.diff(small[0].astype(int)) >= 0).all()


def test_thumbnail_of_whole_cells_is_their_mean() -> None:
    cells = random_smalls(4, 1)[0]
    assert (thumbnail(np.kron(cells, np.ones((4, 3), np.uint8))[..., None]) == cells).all()
    board = np.kron(np.ones((32, 32), np.uint8), np.array([[0, 100], [100, 200]], np.uint8))
    assert (thumbnail(board[..., None]) == 100).all()


def test_colour_counts_by_luma() -> None:
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    assert (thumbnail(red) == 60).all()
