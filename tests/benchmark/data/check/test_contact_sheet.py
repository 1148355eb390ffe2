from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFont

from benchmark.config.protocol import load_protocol
from benchmark.data import synthetic
from benchmark.data.check.contact_sheet import (
    FONT,
    GAP,
    OUTLINE,
    RIM,
    TITLE_PX,
    SheetImage,
    choose,
    contact_sheet,
    read_samples,
    shorten,
)
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import save

Pixels = NDArray[np.uint8]


def sample(height: int, width: int, gray: int = 90, name: str = "a", *, ignore: bool = False) -> SheetImage:
    """A flat image whose middle, half of it each way, is foreground; its left quarter may be ignored."""
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width // 2] = True
    hidden = np.broadcast_to(np.arange(width) < width // 4, (height, width)) if ignore else None
    return SheetImage(name, np.full((height, width, 1), gray, np.uint8), mask, hidden)


def where(sheet: Image.Image, colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = (np.asarray(sheet) == colour).all(axis=-1)
    return mask


def box(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the height and width of what is true."""
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    return int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


@pytest.mark.parametrize(
    ("n", "count", "chosen"),
    [(9, 3, [0, 4, 8]), (3, 8, [0, 1, 2]), (5, 1, [0]), (100, 4, [0, 33, 66, 99]), (0, 4, []), (1, 1, [0])],
)
def test_samples_are_evenly_chosen_from_the_first_to_the_last(n: int, count: int, chosen: list[int]) -> None:
    assert choose(n, count) == chosen


@pytest.mark.parametrize(
    ("side", "cell_px", "expected"),
    [
        pytest.param(400, 100, 50, id="shrunk"),
        pytest.param(100, 100, 50, id="as it is"),
        pytest.param(32, 100, 48, id="enlarged threefold"),
    ],
)
def test_outline_lies_inside_the_mask_and_is_one_pixel_wide(side: int, cell_px: int, expected: int) -> None:
    line = where(contact_sheet("x", [sample(side, side)], total=1, cell_px=cell_px), OUTLINE)
    assert box(line) == (expected, expected)
    assert line.sum() == 4 * (expected - 1)


def test_shrunk_image_has_a_part_at_full_size_beside_it() -> None:
    """The part with the most outline: the square of 40 px in the lower right corner."""
    mask = np.zeros((300, 500), bool)
    mask[240:280, 440:480] = True
    shown = [SheetImage("a", np.full((300, 500, 1), 90, np.uint8), mask, None)]
    sheet = np.asarray(contact_sheet("x", shown, total=1, cell_px=100, crops=True))
    whole = np.asarray(contact_sheet("x", shown, total=1, cell_px=100))
    line = where(Image.fromarray(sheet), OUTLINE)
    assert box(line[:, 100 + 2 * GAP :]) == (40, 40)
    assert where(Image.fromarray(whole), OUTLINE).sum() < line.sum()
    small = contact_sheet("x", [sample(100, 100)], total=1, cell_px=100)
    assert np.array_equal(small, contact_sheet("x", [sample(100, 100)], total=1, cell_px=100, crops=True))


def test_header_is_never_cut() -> None:
    title = "a dataset of a long name, longer than its one image is wide"
    sheet = contact_sheet(title, [sample(64, 64)], total=1, cell_px=64)
    assert sheet.width >= ImageFont.truetype(FONT, TITLE_PX).getlength(title) + 2 * GAP
    assert (np.asarray(sheet)[:, -GAP:] == 255).all()


def test_image_keeps_its_proportions() -> None:
    line = where(contact_sheet("x", [sample(80, 400)], total=1, cell_px=200), OUTLINE)
    assert box(line) == (20, 100)


@pytest.mark.parametrize("gray", [0, 60, 128, 200, 255])
def test_outline_or_rim_contrasts_with_every_background(gray: int) -> None:
    sheet = contact_sheet("x", [sample(100, 100, gray)], total=1, cell_px=100)
    rows, columns = where(sheet, OUTLINE).nonzero()
    top = rows[0] - 1, columns[len(columns) // 2]
    assert np.asarray(sheet)[top].tolist() == list(RIM)
    luma = np.array([0.299, 0.587, 0.114])
    contrasts = [abs(float(np.dot(luma, colour)) - gray) for colour in (OUTLINE, RIM)]
    assert max(contrasts) > 100


def test_shrinking_averages_areas() -> None:
    stripes = np.zeros((400, 400, 1), np.uint8)
    stripes[:, ::2] = 200
    sheet = contact_sheet("x", [SheetImage("", stripes, np.zeros((400, 400), bool), None)], total=1, cell_px=100)
    assert where(sheet, (100, 100, 100)).sum() >= 100 * 100


def test_full_mask_has_frame_and_empty_mask_has_none() -> None:
    plain = np.full((50, 50, 3), 90, np.uint8)
    full, empty = (SheetImage("", plain, np.full((50, 50), value), None) for value in (True, False))
    assert where(contact_sheet("x", [full], total=1, cell_px=50), OUTLINE).sum() == 4 * 49
    assert not where(contact_sheet("x", [empty], total=1, cell_px=50), OUTLINE).any()


def test_ignored_pixels_are_hatched_and_others_are_not() -> None:
    bare, hatched = (
        contact_sheet("x", [sample(96, 96, ignore=ignore)], total=1, cell_px=96) for ignore in (False, True)
    )
    changed = (np.asarray(bare) != np.asarray(hatched)).any(axis=-1)[: -2 * GAP - 13]  # not the share below
    top = 20 + 13 + 3 * GAP
    left_quarter = changed[top:, GAP : GAP + 24]
    assert 0.2 < left_quarter.mean() < 0.5
    assert changed[top:].sum() == left_quarter.sum()


def test_images_do_not_overlap() -> None:
    samples = [sample(100, 100, name="m" * 60) for _ in range(5)]
    single, sheet = (contact_sheet("x", some, total=5, columns=3, cell_px=100) for some in (samples[:1], samples))
    columns = where(sheet, (90, 90, 90)).any(axis=0).nonzero()[0]
    assert columns[[0, -1]].tolist() == [GAP, 3 * (100 + GAP) - 1]
    assert where(sheet, OUTLINE).sum() == 5 * where(single, OUTLINE).sum()
    assert where(sheet, (90, 90, 90)).sum() >= 5 * (100 * 100 - 52 * 52)


@pytest.mark.parametrize(("side", "cell_px"), [(64, 320), (512, 320), (2000, 500), (4200, 1024)])
def test_large_images_get_larger_cells_and_texts(side: int, cell_px: int) -> None:
    sheet = contact_sheet("x", [sample(side, side)], total=1)
    gap = GAP * cell_px // 320
    columns = where(sheet, (90, 90, 90)).any(axis=0).nonzero()[0]
    assert columns[[0, -1]].tolist() == [gap, gap + cell_px - 1]
    assert box(where(sheet, OUTLINE))[0] == pytest.approx(cell_px / 2, abs=1)


def test_long_name_is_shortened_in_the_middle() -> None:
    font = ImageFont.truetype(FONT, 13)
    name = "scan_of_the_whole_wafer_x0012_y0233_0017"
    cut = shorten(name, font, 120)
    head, tail = cut.split("...")
    assert font.getlength(cut) <= 120
    assert name.startswith(head)
    assert name.endswith(tail)
    assert min(len(head), len(tail)) > 3
    assert shorten("short", font, 120) == "short"
    assert shorten(name, font, 1) == "..."


def test_empty_contact_sheet_is_refused() -> None:
    with pytest.raises(UserError, match="omc: no image to show"):
        contact_sheet("omc", [], total=0)


@pytest.mark.parametrize("dataset", ["hy5syn", "miic", "omc", "omv"])
def test_generated_and_written_standins_look_equal(dataset: str, tmp_path: Path) -> None:
    protocol = load_protocol(
        "quick", ["data.standin_images=4", "input.size=64", "input.tile=128", "data.hy5syn_target=metal"]
    )
    hashes = HashCache(tmp_path / "hashes.json")
    (source,) = resolve(f"{dataset}-syn", tmp_path, protocol, hashes)
    generated = read_samples(source, 3)
    folder = tmp_path / f"{dataset}-syn"
    synthetic.write(dataset, folder, source.count, height=128, width=128, seed=source.seed)
    save(folder / "ignore" / f"{dataset}_syn_0000.png", np.eye(128, dtype=np.uint8))
    (on_disk,) = resolve(f"{dataset}-syn", tmp_path, protocol, hashes)
    read = read_samples(on_disk, 3)
    assert [image.name for image in read] == [f"{dataset}_syn_{index:04d}" for index in choose(4, 3)]
    for drawn, stored in zip(generated, read, strict=True):
        np.testing.assert_array_equal(drawn.image, stored.image)
        np.testing.assert_array_equal(drawn.mask, stored.mask)
    assert read[0].ignore is not None
    assert read[0].ignore.sum() == 128
    sheet = contact_sheet(source.name, read, total=4, cell_px=128)
    sheet.save(tmp_path / "sheet.png")
    assert where(sheet, OUTLINE).any()
