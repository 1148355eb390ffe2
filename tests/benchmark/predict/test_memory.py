"""The memory that a real process takes for images of many sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.benchmark.predict.conftest import TINYNET

ROOT = Path(__file__).parents[3]
# The verb as a shell would call it, for one image after another, and the largest resident set that the kernel has seen
# after each, in bytes.
MEASURED = """
import resource, sys
from benchmark.cli.main import main
from benchmark.predict import rasters
rasters.MOST_PNG_PIXELS = 2**22  # so that a smaller image than usual is large
images, words = sys.argv[1].split(","), sys.argv[2:]
for image in images:
    sys.argv = ["benchmark", *words, image]
    try:
        main()
    except SystemExit as end:
        assert not end.code
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="resource is a module of Unix")


def write_lattice(path: Path, height: int, width: int) -> None:
    """Tracks of 20 px every 50, some of them joined, in deflated tiles of 512 px."""

    def tiles() -> Iterator[NDArray[np.uint8]]:
        for top in range(0, height, 512):
            for left in range(0, width, 512):
                y, x = np.ogrid[top : top + 512, left : left + 512]
                on = (y % 50 < 20) & (x % 1000 < 900) | (x % 700 < 20) & (y % 400 < 70)
                yield np.where(on, 200, 40).astype(np.uint8)

    tifffile.imwrite(
        path, tiles(), shape=(height, width), dtype=np.uint8, tile=(512, 512), compression="zlib",
        photometric="minisblack", metadata=None,
    )  # fmt: skip


def peaks_of(results: Path, out: Path, *more: str, images: Sequence[Path]) -> list[int]:
    words = ["predict", "--results", str(results), "--study", "known", "--models", TINYNET, "--datasets", "omc-syn"]
    words += ["--device", "cpu", "--threads", "1", "--tile", "512", "--out", str(out), *more]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, ",".join(map(str, images)), *words],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [int(line.removeprefix("peak ")) for line in done.stdout.splitlines() if line.startswith("peak ")]


@pytest.mark.slow  # starts a process for two images; the window alone is tested every day
def test_memory_does_not_grow_with_the_image(tmp_path: Path, results: Path) -> None:
    images = [tmp_path / f"{height}.tif" for height in (6144, 24576)]
    for image in images:
        write_lattice(image, int(image.stem), 768)
    small, large = peaks_of(results, tmp_path / "out", "--no-polygons", images=images)
    # The larger image has 14 MB more, and its probabilities 57 MB more.
    assert large < small + 11e6


@pytest.mark.slow
def test_image_of_20000_by_20000_stays_under_3_gb(tmp_path: Path, results: Path) -> None:
    side = 20_000
    write_lattice(tmp_path / "large.tif", side, side)
    layouts = ("--polygons", "svg,gds", "--nm-per-pixel", "10", "--tolerance", "1") if find_spec("gdstk") else ()
    (used,) = peaks_of(results, tmp_path / "out", "--probability", *layouts, images=[tmp_path / "large.tif"])
    print(f"peak {used / 1e9:.2f} GB")
    assert used < 3e9
    manifest = json.loads((tmp_path / "out/manifest/large.json").read_text())
    assert sorted(manifest["files"]) == [
        *("mask/large.tif", "overlay/large.png", *["polygons/large.gds"] * bool(layouts)),
        *("polygons/large.svg", "probability/large.tif"),
    ]
    with tifffile.TiffFile(tmp_path / "out/mask/large.tif") as mask, tifffile.TiffFile(tmp_path / "large.tif") as image:
        np.testing.assert_array_equal(mask.asarray() == 255, image.asarray() == 200)
    assert manifest["components"] > 1000
