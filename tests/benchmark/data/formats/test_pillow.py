"""Transparent pixels of masks and images, and readers that leave the process as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from benchmark.data.formats.all_formats import read_label
from benchmark.data.formats.images import decode, read_image
from benchmark.data.formats.label_format import Legend
from benchmark.data.formats.masks import read_ignore
from benchmark.data.formats.values import Values
from benchmark.utils.errors import UserError

TRACK = np.zeros((6, 8), np.bool_)
TRACK[2:4, 1:7] = True
OPAQUE = np.where(TRACK, 255, 0).astype(np.uint8)  # the track, everything else is transparent
Levels = NDArray[np.uint8]


def rgba(path: Path, gray: Levels, alpha: Levels) -> None:
    Image.fromarray(np.dstack([gray, gray, gray, alpha])).save(path)


def gray_alpha(path: Path, gray: Levels, alpha: Levels) -> None:
    Image.fromarray(np.dstack([gray, alpha])).save(path)


def tiff(path: Path, gray: Levels, alpha: Levels) -> None:
    pixels = np.dstack([gray, gray, gray, alpha])
    tifffile.imwrite(path.with_suffix(".tif"), pixels, photometric="rgb", extrasamples=["unassalpha"])


def deep_tiff(path: Path, gray: Levels, alpha: Levels) -> None:
    pixels = np.dstack([gray, alpha]).astype(np.uint16) * 257
    tifffile.imwrite(
        path.with_suffix(".tif"), pixels, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
    )


def palette(path: Path, gray: Levels, alpha: Levels) -> None:
    index = (gray > 0).astype(np.uint8) + 2 * (alpha > 0).astype(np.uint8)
    created = Image.fromarray(index).convert("P")
    created.putpalette([0, 0, 0, 255, 255, 255] * 2)
    created.save(path, transparency=bytes([0, 0, 255, 255]))


FORMS = pytest.mark.parametrize("write", [rgba, gray_alpha, tiff, deep_tiff, palette], ids=lambda form: form.__name__)
Form = Callable[[Path, Levels, Levels], None]


def written(folder: Path, write: Form, gray: Levels, alpha: Levels) -> Path:
    write(folder / "m.png", gray, alpha)
    return next(folder.glob("m.*"))


@FORMS
def test_agreeing_colours_and_transparency_are_one_mask(tmp_path: Path, write: Form) -> None:
    path = written(tmp_path, write, OPAQUE, OPAQUE)
    label = read_label(path, "track", TRACK.shape)
    np.testing.assert_array_equal(label.mask, TRACK)
    assert label.note is None
    np.testing.assert_array_equal(read_ignore(path, TRACK.shape), TRACK)


@FORMS
@pytest.mark.parametrize("level", [0, 255])
def test_transparency_draws_mask_of_one_colour(tmp_path: Path, write: Form, level: int) -> None:
    path = written(tmp_path, write, np.full(TRACK.shape, level, np.uint8), OPAQUE)
    label = read_label(path, "track", TRACK.shape)
    np.testing.assert_array_equal(label.mask, TRACK)
    assert label.note is not None
    assert label.note.startswith("one colour everywhere, so the mask is what is not transparent")
    with pytest.raises(UserError, match=r"flatten the image onto its background and save it without alpha"):
        read_ignore(path, TRACK.shape)  # nobody would see a note


@FORMS
def test_black_on_transparent_white_is_refused(tmp_path: Path, write: Form) -> None:
    path = written(tmp_path, write, 255 - OPAQUE, OPAQUE)
    message = r"75\.0% of the pixels are transparent; found 25\.0% foreground by transparency and 75\.0% foreground by"
    for read in (lambda: read_label(path, "track", TRACK.shape), lambda: read_ignore(path, TRACK.shape)):
        with pytest.raises(UserError, match=message):
            read()


@pytest.mark.parametrize("write", [rgba, gray_alpha, tiff])
def test_half_transparent_pixels_of_a_mask_are_refused(tmp_path: Path, write: Form) -> None:
    path = written(tmp_path, write, OPAQUE, np.where(TRACK, 128, 0).astype(np.uint8))
    with pytest.raises(UserError, match="found values from 0 to 128 in the alpha channel"):
        read_label(path, "track", TRACK.shape)


@pytest.mark.parametrize(("mode", "key"), [("1", 0), ("L", 0), ("RGB", (0, 0, 0)), ("I;16", 0)])
def test_transparent_colour_of_png_counts(tmp_path: Path, mode: str, key: object) -> None:
    drawn = OPAQUE.astype(np.uint16) * 257 if mode == "I;16" else OPAQUE
    picture = Image.fromarray(drawn) if mode == "I;16" else Image.fromarray(OPAQUE).convert(mode)
    picture.save(tmp_path / "m.png", transparency=key)
    alpha = decode(tmp_path / "m.png").alpha
    assert alpha is not None
    np.testing.assert_array_equal(alpha > 0, TRACK)
    np.testing.assert_array_equal(read_label(tmp_path / "m.png", "track", TRACK.shape).mask, TRACK)


def test_layers_by_colour_may_have_a_transparent_background(tmp_path: Path) -> None:
    colours = np.where(TRACK[..., None], (0, 255, 0), (255, 0, 0)).astype(np.uint8)
    colours[3, 2:4] = (0, 0, 255)
    Image.fromarray(np.dstack([colours, OPAQUE])).save(tmp_path / "m.png")
    assert read_label(tmp_path / "m.png", "track", TRACK.shape).mask.sum() == 10
    assert read_label(tmp_path / "m.png", "via", TRACK.shape).mask.sum() == 2


def test_transparent_pixels_are_refused_with_declared_values(tmp_path: Path) -> None:
    rgba(tmp_path / "m.png", OPAQUE, OPAQUE)
    values = Values(background=0, foreground=255)
    with pytest.raises(UserError, match=r"m\.png: transparent pixels, of which \[values\] tells nothing"):
        read_label(tmp_path / "m.png", "track", TRACK.shape, Legend(values=values))


def test_images_keep_their_stored_colours(tmp_path: Path) -> None:
    rgba(tmp_path / "a.png", OPAQUE // 2, np.zeros(TRACK.shape, np.uint8))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 1)[..., 0], OPAQUE // 2)


def test_palette_with_contradicting_colours_and_indices_is_noted(tmp_path: Path) -> None:
    picture = Image.fromarray((~TRACK).astype(np.uint8)).convert("P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    picture.save(tmp_path / "m.png")
    label = read_label(tmp_path / "m.png", "track", TRACK.shape)
    np.testing.assert_array_equal(label.mask, TRACK)
    assert label.note is not None
    assert label.note.startswith("palette whose colours and indices tell opposite sides")


@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
def test_channel_without_alpha_tag_is_refused(tmp_path: Path, photometric: str) -> None:
    shape = (6, 8, 2 if photometric == "minisblack" else 4)
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros(shape, np.uint8),
        photometric=photometric,
        planarconfig="contig",
        extrasamples=["unspecified"],
    )
    with pytest.raises(UserError, match=r"a\.tif: [24] channels, and .* not call the last one alpha"):
        decode(tmp_path / "a.tif")


@pytest.mark.parametrize("imagej", [True, False])
def test_slices_behind_one_page_are_refused(tmp_path: Path, imagej: bool) -> None:
    pixels = np.zeros((3, 6, 8), np.uint8)
    if imagej:  # how ImageJ writes stacks above 4 GB
        description = "ImageJ=1.54f\nimages=3\nslices=3\n"
        tifffile.imwrite(tmp_path / "a.tif", pixels[0], description=description, metadata=None)
        with (tmp_path / "a.tif").open("ab") as file:
            file.write(pixels[1:].tobytes())
    else:
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", contiguous=True, truncate=True)
    with pytest.raises(UserError, match=r"a\.tif: 3 frames; expected one image per file"):
        decode(tmp_path / "a.tif")


def test_pixel_limit_of_process_does_not_stop_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(OPAQUE).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    np.testing.assert_array_equal(decode(tmp_path / "a.png").pixels, OPAQUE)


def test_reading_images_keeps_process_settings() -> None:
    program = (
        "import json, logging, warnings; from PIL import Image; import numpy, tifffile\n"
        "tifffiles = logging.getLogger('tifffile')\n"
        "def state(): return [Image.MAX_IMAGE_PIXELS, len(warnings.filters), len(tifffiles.handlers)]\n"
        "before = state(); import benchmark.data.formats.images; print(json.dumps([before, state()]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert before == after
    assert before[0] is not None
