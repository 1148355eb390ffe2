"""Recipes of the open pictures, on small drawings of the same kinds."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from benchmark.data.prepare.open_pictures import (
    EIGHT,
    LIFT,
    PIXELS,
    SHADE,
    differing_pixels,
    hidden_by_wires,
    pixel_hash,
    prepare_54hc32,
    prepare_t84c,
    prepare_t84c_poly,
)

SHAPE = (648, 796)  # of which the window shows 200 x 300
Box = tuple[int, int, int, int]
TRACKS: tuple[tuple[Box, tuple[int, int, int]], ...] = (
    ((20, 40, 10, 280), (0, 0, 255)),
    ((80, 110, 10, 280), (255, 0, 0)),
    ((150, 180, 40, 250), (0, 255, 0)),
)
CONTACTS: tuple[tuple[Box, tuple[int, int, int]], ...] = (
    ((24, 36, 50, 62), (0, 0, 0)),
    ((88, 102, 40, 50), (0, 0, 0)),  # of a red track on yellow diffusion, which together are orange
    ((158, 172, 60, 74), (0, 0, 0)),
)


def inside(box: Box) -> tuple[slice, slice]:
    top, bottom, left, right = box
    return slice(448 + top, 448 + bottom), slice(496 + left, 496 + right)


def jpeg(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).save(content, "jpeg", quality=95, subsampling=0)
    return content.getvalue()


def z80_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    photo = rng.normal((170, 120, 80), 6, (*SHAPE, 3))
    drawn = photo.copy()
    drawn[inside((0, 200, 30, 60))] = (255, 255, 0)
    drawn[inside((0, 200, 100, 112))] = (255, 0, 255)
    layers = drawn.copy()
    for box, colour in TRACKS:
        layers[inside(box)] = (layers[inside(box)] + colour) / 2
    for box, colour in CONTACTS:
        layers[inside(box)] = colour
    pictures = {"m1_img": photo, "poly_img": photo, "diff_poly": drawn, "modules": SHADE * layers + LIFT}
    return {f"T84C/imgstore/regblock_{name}.jpg": jpeg(pixels) for name, pixels in pictures.items()}


def iou(mask: np.ndarray, *boxes: Box) -> float:
    truth = np.zeros(SHAPE, bool)
    for box in boxes:
        truth[inside(box)] = True
    truth = truth[448:, 496:]
    return float(((mask > 0) & truth).sum() / ((mask > 0) | truth).sum())


def test_layers_of_the_overlay_are_found_below_its_shade() -> None:
    image, metal, contact = prepare_t84c(z80_files()).values()
    assert image.shape == (200, 300, 3)
    assert iou(metal, *(box for box, _ in TRACKS)) > 0.99
    assert iou(contact, *(box for box, _ in CONTACTS)) > 0.9
    assert [ndimage.label(mask, EIGHT)[1] for mask in (metal, contact)] == [3, 3]
    assert {*np.unique(metal)} == {0, 255}


def test_poly_and_diffusion_are_told_by_their_colours() -> None:
    _, poly, diffusion = prepare_t84c_poly(z80_files()).values()
    assert iou(poly, (0, 200, 100, 112)) > 0.98
    assert iou(diffusion, (0, 200, 30, 60)) > 0.98


def die() -> tuple[np.ndarray, np.ndarray]:
    """Return a photograph and the metal of a die: a frame, a bar, and a wire with its ball and tip over the bar."""
    metal = np.zeros((800, 800), bool)
    metal[40:760, 40:760] = True
    metal[80:720, 80:720] = False
    metal[380:420, 200:600] = True
    photo = np.where(metal, 220, 160).astype(np.uint8)
    photo[360:440, 0:200] = 60  # rod
    photo[350:450, 200:300] = 150  # ball
    photo[370:430, 300:360] = 60  # tip
    return np.repeat(photo[..., None], 3, axis=2), metal


def test_wires_with_their_balls_and_the_scribe_border_are_ignored() -> None:
    hidden = hidden_by_wires(*die())
    assert hidden[360:440, 0:360].all()
    assert hidden[:36].all()
    assert hidden[:, 764:].all()
    assert not hidden[100:300, 100:700].any()
    assert not hidden[:, 420:700][100:700].any()


def test_metal_that_was_drawn_larger_is_reduced() -> None:
    photo, metal = die()
    content = io.BytesIO()
    Image.fromarray(metal.repeat(4, 0).repeat(4, 1)).convert("P").save(content, "gif")
    files = {
        "54HC32_RCA_8825_die_120nmpp_4xsmaller.jpg": jpeg(photo),
        "manual_segmentation/54HC32_metal.gif": content.getvalue(),
    }
    image, label, ignore = prepare_54hc32(files).values()
    assert image.shape == (800, 800, 3)
    np.testing.assert_array_equal(label > 0, metal)
    assert 0.2 < (ignore > 0).mean() < 0.4


def test_other_pixels_than_written_down_are_told_with_both_hashes() -> None:
    (path, expected), *_ = PIXELS["t84c"].items()
    (note,) = differing_pixels("t84c", {path: np.zeros((2, 2), np.uint8)})
    assert f"t84c/{path}: the source files are right" in note
    assert f"{pixel_hash(np.zeros((2, 2), np.uint8))[:16]}, expected {expected[:16]}" in note
