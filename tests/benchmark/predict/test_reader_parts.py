"""Parts of TIFF files against whole ones, for all compressions and whatever decoders are installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmark.data.formats.images import Levels, decode, read_image
from benchmark.predict.reader import open_source
from benchmark.utils.errors import UserError

HEIGHT, WIDTH = 70, 101
LEVELS = Levels(1000, 50000)
RAMP = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) % 256
RGB = np.stack([RAMP, (RAMP + 40) % 256, (RAMP + 80) % 256], axis=-1).astype(np.uint8)
LAYOUTS: Mapping[str, dict[str, Any]] = {"strips": {"rowsperstrip": 13}, "tiles": {"tile": (32, 48)}}
PLAIN = ("none", "zlib")  # of which tifffile writes and reads by itself
COMPRESSIONS = (*PLAIN, "lzw", "packbits", "zstd", "lzma", "jpeg", "webp", "png", "jpeg2000", "jpegxl", "lerc")
needs_imagecodecs = pytest.mark.skipif(find_spec("imagecodecs") is None, reason="imagecodecs is not installed")


def write(path: Path, compression: str, photometric: str, dtype: type, layout: str) -> bool:
    """Write a TIFF, where the compression knows such pixels."""
    pixels = RGB if photometric in ("rgb", "ycbcr") else RGB[..., 0]
    pixels = pixels.astype(dtype) * np.array(1 if dtype is np.uint8 else 257, dtype)
    try:
        options = LAYOUTS[layout] | ({} if compression == "none" else {"compression": compression})
        tifffile.imwrite(path, pixels, photometric=photometric, **options)
    except (ValueError, RuntimeError, TypeError, KeyError):
        path.unlink(missing_ok=True)
    return path.is_file()


def whole(path: Path) -> np.ndarray | None:
    try:
        return read_image(path, 3, LEVELS)
    except UserError:
        return None


def in_parts(path: Path) -> np.ndarray | None:
    try:
        with open_source(path, LEVELS) as source:
            return np.concatenate([source.read(top, min(top + 17, HEIGHT), 3) for top in range(0, HEIGHT, 17)])
    except UserError:
        return None


@needs_imagecodecs
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb", "ycbcr"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_parts_are_those_of_the_whole(
    tmp_path: Path, compression: str, photometric: str, dtype: type, layout: str
) -> None:
    if not write(tmp_path / "a.tif", compression, photometric, dtype, layout):
        pytest.skip(f"{compression} holds no such pixels")
    expected, result = whole(tmp_path / "a.tif"), in_parts(tmp_path / "a.tif")
    if expected is None:
        assert result is None
    else:
        np.testing.assert_array_equal(result, expected)
    if photometric != "ycbcr" and dtype is np.uint8:
        assert expected is not None


WITHOUT = """
import sys
from pathlib import Path
sys.modules["imagecodecs"] = None
from tests.benchmark.predict.test_reader_parts import in_parts, whole
import numpy as np
for file in sorted(Path(sys.argv[1]).glob("*.tif")):
    one, other = whole(file), in_parts(file)
    assert (one is None) == (other is None), file
    if one is not None:
        assert (one == other).all(), file
        np.save(file.with_suffix(".npy"), one)
"""


def test_pixels_do_not_depend_on_imagecodecs(tmp_path: Path) -> None:
    """Files that Pillow or tifffile write: read here, and in a process that has no imagecodecs."""
    for compression in ("raw", "tiff_lzw", "packbits", "jpeg", "tiff_adobe_deflate"):
        for mode in ("L", "RGB", "1", "I;16", "YCbCr"):
            if compression != "jpeg" or mode not in ("1", "I;16"):
                picture = Image.fromarray(RGB).convert("L" if mode == "I;16" else mode)
                if mode == "I;16":
                    picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * np.uint16(257))
                picture.save(tmp_path / f"{compression}-{mode.replace(';', '')}.tif", compression=compression)
    for photometric in ("minisblack", "miniswhite", "rgb"):
        for name in PLAIN:
            for dtype in (np.uint8, np.uint16):
                write(tmp_path / f"{name}-{photometric}-{dtype.__name__}.tif", name, photometric, dtype, "strips")
    subprocess.run([sys.executable, "-c", WITHOUT, tmp_path], check=True)
    files = sorted(tmp_path.glob("*.tif"))
    for file in files:
        expected = whole(file)
        assert expected is not None
        np.testing.assert_array_equal(in_parts(file), expected)
        if (saved := file.with_suffix(".npy")).is_file():
            np.testing.assert_array_equal(np.load(saved), expected)
    assert len(list(tmp_path.glob("*.npy"))) > len(files) // 2


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_colours_of_luma_and_chroma_become_rgb(tmp_path: Path, compression: str) -> None:
    Image.fromarray(np.full((16, 16, 3), (200, 40, 0), np.uint8)).convert("YCbCr").save(
        tmp_path / "a.tif", compression=compression
    )
    np.testing.assert_allclose(
        decode(tmp_path / "a.tif").pixels.astype(int), np.full((16, 16, 3), (200, 40, 0)), atol=2
    )
